"""
Turn a call into what its provider does on the wire, as steps.

Pure: the server plays the steps on a socket and the simulation plays the same steps into the transport. Every draw is
keyed by the seed and the names of what it decides, so order never matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from seawall.answers import answer_tokens, last_token
from seawall.draws import lognormal_s, unit
from seawall.emulators import claude, gemini, ollama, openai
from seawall.emulators.steps import Behaviour, Body, End, Hang, Head, Healthy, Reset, Sleep, Step
from seawall.emulators.wire import Answer, EmulatedCall, Vendor, steps_of

__all__ = ["VENDORS", "EmulatedCall", "choose", "respond"]

_ALL: tuple[Vendor, ...] = (gemini, claude, openai, ollama)
VENDORS: Mapping[str, Vendor] = {vendor.PROVIDER: vendor for vendor in _ALL}
"""The vendor module of each provider, by the provider's name."""

_TOKENS_MAX = 100_000
"""A continued answer that claims to be longer than any answer can be is not believed."""


def choose(call: EmulatedCall, behaviours: Sequence[Behaviour], seed: int) -> Behaviour | None:
    """
    Return the first of `behaviours` (in order of installation) that takes this request, or None: it is healthy.

    Whether a fault takes a request depends on the seed, the fault and the request only: every call of it, to
    whichever provider and however often, meets the same fate.
    """
    for behaviour in behaviours:
        if unit(seed, behaviour.fault_id, call.answer_id) < behaviour.injection_rate:
            return behaviour
    return None


def respond(
    call: EmulatedCall, healthy: Healthy, behaviours: Sequence[Behaviour], seed: int, nth: int
) -> Iterator[Step]:
    """
    Yield what the provider does about the `nth` call (from 1) of this request, under the behaviour that `choose` names.

    Nothing is sent before the first token is due, the head neither, so that a slow first token is a slow first byte.
    Raises KeyError for a provider that has no vendor.
    """
    vendor = VENDORS[call.provider]
    behaviour = choose(call, behaviours, seed)
    if behaviour is not None and behaviour.hang:
        yield Hang()
        return
    first_token_s = None if behaviour is None else behaviour.first_token_s
    if behaviour is not None and behaviour.status is not None:
        if first_token_s:
            yield Sleep(seconds=first_token_s)
        yield from steps_of(vendor.error(behaviour.status, retry_after_s=behaviour.retry_after_s))
        return
    if first_token_s is None:
        draw = unit(seed, call.provider, call.answer_id, nth, "first_token")
        first_token_s = lognormal_s(healthy.first_token_p50_s, healthy.first_token_p99_s, draw)
    answer = _answer(call, healthy, first_token_s, nth)
    cut_after = None if behaviour is None else behaviour.cut_after_chunks
    if call.stream:
        yield from _stream(vendor, answer, healthy, first_token_s, cut_after)
    else:
        yield from _whole(vendor, answer, cut=cut_after is not None)


def _answer(call: EmulatedCall, healthy: Healthy, first_token_s: float, nth: int) -> Answer:
    """Return the answer, or the rest of it when the call brings the tokens so far; the count stays the original's."""
    limit = healthy.tokens if call.max_tokens is None else call.max_tokens
    spoken, count = last_token(call.prior_text, call.answer_id) or (0, 0)
    continues = 0 < count <= _TOKENS_MAX
    if not continues:
        spoken, count = 0, min(healthy.tokens, limit)
    tokens = tuple(answer_tokens(call.provider, call.answer_id, count, first=spoken + 1))
    return Answer(
        call=call,
        id=f"{call.answer_id}-{nth}",
        tokens=tokens,
        finish="length" if not continues and limit < healthy.tokens else "stop",
        duration_s=first_token_s + len(tokens) / healthy.tokens_per_second,
    )


def _whole(vendor: Vendor, answer: Answer, *, cut: bool) -> Iterator[Step]:
    body = vendor.whole(answer)
    yield Sleep(seconds=answer.duration_s)
    yield Head(status=200, headers=vendor.headers(answer), length=len(body))
    if cut:
        yield Body(data=body[: len(body) // 2], tokens=len(answer.tokens) // 2)
        yield Reset()
        return
    yield Body(data=body, tokens=len(answer.tokens))
    yield End()


def _stream(
    vendor: Vendor, answer: Answer, healthy: Healthy, first_token_s: float, cut_after: int | None
) -> Iterator[Step]:
    yield Sleep(seconds=first_token_s)
    yield Head(status=200, headers=vendor.headers(answer), length=None)
    if opening := vendor.prologue(answer):
        yield Body(data=opening)
    pause = Sleep(seconds=1 / healthy.tokens_per_second)
    for n, token in enumerate(answer.tokens):
        if n == cut_after:
            yield Reset()
            return
        if n:
            yield pause
        yield Body(data=vendor.event(answer, token), tokens=1)
    if cut_after is not None:
        # The answer is not longer than the cut: what is missing is its end.
        yield Reset()
        return
    yield Body(data=vendor.epilogue(answer))
    yield End()
