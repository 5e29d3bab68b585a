"""
Turn a call into what its provider does on the wire, as steps.

Pure: the server plays the steps on a socket and the simulation plays the same steps into the transport. Every draw is
keyed by the seed and the names of what it decides, so order never matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from seawall.answers import answer_tokens, last_token
from seawall.draws import lognormal_s, unit
from seawall.emulators import claude, damage, gemini, ollama, openai
from seawall.emulators.steps import Behaviour, Body, End, Hang, Head, Healthy, Reset, Sleep, Step
from seawall.emulators.structured import structured_tokens
from seawall.emulators.wire import Answer, EmulatedCall, HttpRequest, Reply, Token, Vendor, steps_of

__all__ = ["VENDORS", "EmulatedCall", "choose", "read", "respond"]

_ALL: tuple[Vendor, ...] = (gemini, claude, openai, ollama)
VENDORS: Mapping[str, Vendor] = {vendor.PROVIDER: vendor for vendor in _ALL}
"""The vendor module of each provider, by the provider's name."""

_COMPATIBLE_PATHS = frozenset({"/v1/chat/completions", "/v1beta/openai/chat/completions"})

_HEALTHY = Behaviour(fault_id="healthy")
_TOKENS_MAX = 100_000
"""A continued answer that claims to be longer than any answer can be is not believed."""


def read(provider: str, request: HttpRequest) -> EmulatedCall | Reply:
    """
    Return the call that the request is to this provider, or what it answers at once.

    Every vendor has an endpoint in OpenAI's format beside its own; what comes there is answered in that format.
    """
    if request.path in _COMPATIBLE_PATHS and provider != openai.PROVIDER:
        found = openai.parse(msgspec.structs.replace(request, path="/v1/chat/completions"))
        if isinstance(found, Reply):
            return found
        return msgspec.structs.replace(found, provider=provider, format=openai.PROVIDER)
    return VENDORS[provider].parse(request)


def choose(call: EmulatedCall, behaviours: Sequence[Behaviour], seed: int) -> Behaviour | None:
    """
    Return the first of `behaviours` (in order of installation) that takes this request, or None: it is healthy.

    Whether a fault takes a request depends on the seed, the fault and the request only: every call of it, to
    whichever provider and however often, meets the same fate. A call that a behaviour cannot harm (a JSON answer has
    no end mark to leave out) is not taken by it.
    """
    for behaviour in behaviours:
        if not damage.can_take(behaviour, stream=call.stream, include_usage=call.include_usage):
            continue
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
    vendor = VENDORS[call.format or call.provider]
    wrong = choose(call, behaviours, seed) or _HEALTHY
    if wrong.hang:
        yield Hang()
        return
    first_token_s = wrong.first_token_s
    if wrong.status is not None:
        if first_token_s:
            yield Sleep(seconds=first_token_s)
        yield from steps_of(vendor.error(wrong.status, retry_after_s=wrong.retry_after_s))
        return
    if first_token_s is None:
        draw = unit(seed, call.provider, call.answer_id, nth, "first_token")
        first_token_s = lognormal_s(healthy.first_token_p50_s, healthy.first_token_p99_s, draw)
    pace_s = 1 / healthy.tokens_per_second if wrong.dribble_s is None else wrong.dribble_s
    answer = _answer(vendor, call, healthy, wrong, first_token_s=first_token_s, pace_s=pace_s, seed=seed, nth=nth)
    reply = damage.instead_of(vendor, answer, wrong)
    if reply is not None:
        yield Sleep(seconds=first_token_s)
        yield from steps_of(reply)
    elif call.stream:
        yield Sleep(seconds=first_token_s)
        yield from _stream(vendor, answer, wrong, pace_s)
    else:
        yield Sleep(seconds=answer.duration_s)
        yield from _whole(vendor, answer, wrong)


def _answer(
    vendor: Vendor,
    call: EmulatedCall,
    healthy: Healthy,
    wrong: Behaviour,
    *,
    first_token_s: float,
    pace_s: float,
    seed: int,
    nth: int,
) -> Answer:
    """Return the answer, or the rest of it when the call brings the tokens so far; the count stays the original's."""
    limit = healthy.tokens if call.max_tokens is None else call.max_tokens
    spoken, count = last_token(call.prior_text, call.answer_id) or (0, 0)
    continues = 0 < count <= _TOKENS_MAX
    finish: Literal["stop", "length", "content_filter", "tool_calls"] = "stop"
    if not continues:
        spoken, count = 0, min(healthy.tokens, limit)
        finish = "length" if limit < healthy.tokens else "stop"
    if wrong.content_filter:
        finish = "content_filter"
        # What the filter lets through is all that there is: a text of its own, known and whole.
        count = count if continues else max(1, count // 2)
    tokens: tuple[Token, ...] = structured_tokens(call, whole_calls=vendor.WHOLE_CALLS)
    if tokens and not wrong.content_filter:
        limit = call.max_tokens or len(tokens)
        finish = "length" if limit < len(tokens) else "stop" if isinstance(tokens[0], str) else "tool_calls"
        tokens = tokens[:limit]
    else:
        tokens = tuple(answer_tokens(call.provider, call.answer_id, count, first=spoken + 1))
    return Answer(
        call=call,
        id=f"{call.answer_id}-{nth}",
        tokens=tokens,
        finish=finish,
        duration_s=first_token_s + len(tokens) * pace_s,
        model=damage.told_model(vendor, call.model, wrong),
        usage=damage.told_usage((call.prompt_tokens, len(tokens)), wrong, seed, call.answer_id),
    )


def _whole(vendor: Vendor, answer: Answer, wrong: Behaviour) -> Iterator[Step]:
    body = damage.whole(vendor, answer, wrong)
    yield Head(status=200, headers=damage.headers(vendor.headers(answer), wrong), length=len(body.data))
    if wrong.cut_after_chunks is not None:
        yield Body(data=body.data[: len(body.data) // 2], tokens=len(answer.tokens) // 2)
        yield Reset()
        return
    yield body
    yield End()


def _stream(vendor: Vendor, answer: Answer, wrong: Behaviour, pace_s: float) -> Iterator[Step]:
    yield Head(status=200, headers=damage.headers(vendor.headers(answer), wrong), length=None)
    opening = vendor.prologue(answer)
    if opening and not wrong.empty:
        yield Body(data=opening)
    pause = Sleep(seconds=pace_s)
    for n, bodies in enumerate(damage.events(vendor, answer, wrong)):
        if n == wrong.cut_after_chunks:
            break
        if n:
            yield pause
        yield from bodies
    if wrong.cut_after_chunks is not None:
        # Where the answer is not longer than the cut, what is missing is its end.
        yield Reset()
        return
    if closing := damage.ending(vendor, answer, wrong):
        yield Body(data=closing)
    yield End()
