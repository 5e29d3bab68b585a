"""What a provider does about a call, read from its steps alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.answers import answer_tokens, judge_text, marked
from seawall.emulators.behaviour import VENDORS, EmulatedCall, choose, respond
from seawall.emulators.steps import Behaviour, Body, End, Hang, Head, Healthy, Reset, Sleep, Step

PROVIDERS = sorted(VENDORS)
HEALTHY = Healthy(first_token_p50_s=0.1, first_token_p99_s=0.4, tokens_per_second=50, tokens=16)

providers = st.sampled_from(PROVIDERS)
request_ids = st.from_regex(r"\A[A-Za-z0-9_-]{1,32}\Z")


def called(chat: Callable, provider: str, request_id: str, **options: object) -> EmulatedCall:
    """Return the call that a vendor's own parser makes of a chat request."""
    call = VENDORS[provider].parse(chat(provider, marked(request_id, "What?"), **options).request())
    assert isinstance(call, EmulatedCall), call
    return call


def play(
    call: EmulatedCall, behaviours: Sequence[Behaviour] = (), *, healthy: Healthy = HEALTHY, nth: int = 1, seed: int = 7
) -> list[Step]:
    """Return all steps of a call."""
    return list(respond(call, healthy, behaviours, seed, nth))


def body_of(steps: Sequence[Step]) -> bytes:
    """Return the bytes of the body."""
    return b"".join(step.data for step in steps if isinstance(step, Body))


def slept_s(steps: Sequence[Step]) -> float:
    """Return how long the steps take."""
    return sum(step.seconds for step in steps if isinstance(step, Sleep))


@given(
    provider=providers,
    request_id=request_ids,
    stream=st.booleans(),
    tokens=st.integers(1, 40),
    limit=st.integers(1, 60),
)
def test_healthy_answers_are_whole(chat, text_in, provider, request_id, stream, tokens, limit):
    """A healthy answer holds every token up to the smaller of its length and the limit, once, and ends in order."""
    call = called(chat, provider, request_id, stream=stream, max_tokens=limit)
    steps = play(call, healthy=Healthy(tokens=tokens))
    verdict = judge_text(text_in(provider, body_of(steps), stream=stream), request_id)
    assert (verdict.whole, verdict.tokens, verdict.providers) == (True, min(tokens, limit), (provider,))
    assert steps[-1] == End()
    assert sum(step.tokens for step in steps if isinstance(step, Body)) == verdict.tokens


@given(provider=providers, request_id=request_ids, after=st.integers(0, 15))
def test_cut_streams_are_cut(chat, text_in, provider, request_id, after):
    """A cut stream carries exactly as many token events as asked for, then a reset, and is never judged whole."""
    behaviour = Behaviour(fault_id="cut", cut_after_chunks=after)
    steps = play(called(chat, provider, request_id, stream=True), [behaviour])
    verdict = judge_text(text_in(provider, body_of(steps), stream=True), request_id)
    assert not verdict.whole
    assert verdict.problem == ("cut" if after else "empty")
    assert verdict.tokens == after == sum(step.tokens for step in steps if isinstance(step, Body))
    assert steps[-1] == Reset()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_cut_beyond_the_last_token_takes_the_end_away(chat, provider):
    """A stream cut after more tokens than it has sends them all but neither finish reason nor end mark."""
    call = called(chat, provider, "1", stream=True)
    whole = play(call)
    cut = play(call, [Behaviour(fault_id="cut", cut_after_chunks=99)])
    assert cut == [*whole[:-2], Reset()]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_cut_json_is_half_a_body(chat, provider):
    """A cut JSON answer promises its whole length, sends half of it and resets."""
    call = called(chat, provider, "1")
    cut = play(call, [Behaviour(fault_id="cut", cut_after_chunks=3)])
    head = next(step for step in cut if isinstance(step, Head))
    assert head.length == len(body_of(play(call)))
    assert len(body_of(cut)) == head.length // 2
    assert cut[-1] == Reset()


@given(
    pair=st.tuples(providers, providers),
    request_id=request_ids,
    count=st.integers(1, 40),
    data=st.data(),
    stream=st.booleans(),
    trimmed=st.booleans(),
)
def test_another_provider_continues_without_repeat_or_gap(
    chat, text_in, pair, request_id, count, data, stream, trimmed
):
    """Wherever a stream broke off, the next provider's answer completes it, also when its last space was trimmed."""
    first, second = pair
    said = "".join(answer_tokens(first, request_id, count)[: data.draw(st.integers(1, count))])
    call = called(chat, second, request_id, stream=stream, prior=said.rstrip() if trimmed else said)
    rest = text_in(second, body_of(play(call, healthy=Healthy(tokens=5))), stream=stream)
    verdict = judge_text(said + rest, request_id)
    assert verdict.whole, verdict
    assert verdict.tokens == count
    assert verdict.providers == tuple(dict.fromkeys((first, second) if rest else (first,)))


@pytest.mark.parametrize(
    "prior", ["", "I think so.", "gemini:other:1/9 ", "gemini:000001:1", "gemini:000001:1/9999999 "]
)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_foreign_words_are_not_continued(chat, text_in, provider, prior):
    """An assistant message without a believable token of this request leads to a whole answer from the start."""
    steps = play(called(chat, provider, "000001", prior=prior))
    verdict = judge_text(text_in(provider, body_of(steps), stream=False), "000001")
    assert (verdict.whole, verdict.tokens) == (True, 16)


def test_a_torn_last_token_counts_for_nothing(chat, text_in):
    """When a token was torn in its count, the answer goes on after the last one that is sure."""
    torn = "".join(answer_tokens("openai", "1", 16)[:3]) + "openai:1:4/1"
    steps = play(called(chat, "claude", "1", stream=True, prior=torn))
    assert text_in("claude", body_of(steps), stream=True).startswith("claude:1:4/16 ")


def test_a_prompt_without_identity_gets_a_stable_one(chat, text_in):
    """Without a mark the request has no id, and the same prompt still gets the same, whole answer."""
    calls = [VENDORS["openai"].parse(chat("openai", text).request()) for text in ("hello", "hello", "bye")]
    texts = [text_in("openai", body_of(play(call)), stream=False) for call in calls]
    assert [call.request_id for call in calls] == [None] * 3
    assert texts[0] == texts[1] != texts[2]
    assert judge_text(texts[0], calls[0].answer_id).whole


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), rate=st.floats(0, 1), order=st.randoms(use_true_random=False))
def test_injection_is_a_requests_fate(chat, seed, rate, order):
    """Whether a fault takes a request depends on seed, fault and request only: not on order, provider or call."""
    behaviours = [Behaviour(fault_id="f", injection_rate=rate, hang=True)]
    names = [f"{n:04d}" for n in range(40)]
    shuffled = order.sample(names, len(names))

    def fates(provider: str, ids: list[str]) -> dict[str, bool]:
        return {name: choose(called(chat, provider, name), behaviours, seed) is not None for name in ids}

    assert fates("gemini", names) == fates("openai", shuffled)
    call = called(chat, "local", names[0])
    assert play(call, behaviours, seed=seed, nth=1)[0] == Hang() or choose(call, behaviours, seed) is None


def test_injection_rate_is_the_share_of_requests():
    """Over many requests the share that a fault takes is its injection rate, and two faults choose independently."""
    faults = [Behaviour(fault_id=name, injection_rate=0.3, hang=True) for name in ("a", "b")]
    calls = [
        EmulatedCall(provider="gemini", model="m", stream=False, request_id=f"{n:06d}", prompt="") for n in range(4000)
    ]
    taken = [[choose(call, [fault], 11) is not None for call in calls] for fault in faults]
    shares = [sum(one) / len(calls) for one in taken]
    both = sum(a and b for a, b in zip(*taken, strict=True)) / len(calls)
    assert shares == pytest.approx([0.3, 0.3], abs=0.04)
    assert both == pytest.approx(0.09, abs=0.025)


def test_the_first_installed_wins(chat):
    """Of several behaviours the first in order that takes the request is applied, and only that one."""
    call = called(chat, "claude", "1")
    never = Behaviour(fault_id="never", injection_rate=0.0, hang=True)
    first, second = Behaviour(fault_id="first", status=503), Behaviour(fault_id="second", status=429)
    assert choose(call, [never, first, second], 1) is first
    assert choose(call, [never], 1) is None
    head = play(call, [never, first, second])[0]
    assert isinstance(head, Head)
    assert head.status == 503


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_status_is_the_vendors_error_with_retry_after(chat, provider):
    """A status behaviour answers at once with the status, `retry-after` in seconds, and an error of the vendor's."""
    steps = play(called(chat, provider, "1", stream=True), [Behaviour(fault_id="f", status=429, retry_after_s=5.0)])
    head = steps[0]
    assert isinstance(head, Head)
    assert (head.status, dict(head.headers)["retry-after"]) == (429, "5")
    assert b'"error"' in body_of(steps)
    assert head.length == len(body_of(steps))
    assert slept_s(steps) == 0


def test_hang_does_nothing_at_all(chat):
    """A hang sends no byte, not even the head."""
    assert play(called(chat, "openai", "1"), [Behaviour(fault_id="f", hang=True)]) == [Hang()]


@given(provider=providers, stream=st.booleans(), first_s=st.floats(0, 30))
def test_a_slow_first_token_delays_the_first_byte(chat, provider, stream, first_s):
    """`first_token_s` passes before anything is sent; the rest of the answer keeps its pace."""
    steps = play(called(chat, provider, "1", stream=stream), [Behaviour(fault_id="f", first_token_s=first_s)])
    generation_s = 15 / 50 if stream else 16 / 50
    first = steps[0]
    assert isinstance(first, Sleep)
    assert first.seconds == pytest.approx(first_s if stream else first_s + generation_s)
    assert slept_s(steps) == pytest.approx(first_s + generation_s)


def test_first_token_times_follow_the_distribution(chat):
    """Over many requests the median and the 99th percentile of the first token are those that were asked for."""
    call = called(chat, "gemini", "1", stream=True)
    times = sorted(play(call, nth=nth)[0].seconds for nth in range(1, 3001))
    assert median(times) == pytest.approx(0.1, rel=0.1)
    assert times[int(len(times) * 0.99)] == pytest.approx(0.4, rel=0.2)
    assert 1 - sum(time <= 0.4 for time in times) / len(times) == pytest.approx(0.01, abs=0.006)


def test_draws_do_not_depend_on_order(chat):
    """The same calls in any order get the same steps: there is no stream of random numbers behind them."""
    keys = [(provider, f"{n}", nth) for provider in PROVIDERS for n in range(5) for nth in (1, 2)]
    forward = {key: play(called(chat, key[0], key[1]), nth=key[2]) for key in keys}
    random.Random(1).shuffle(keys)
    assert {key: play(called(chat, key[0], key[1]), nth=key[2]) for key in keys} == forward
    firsts = [steps[0] for steps in forward.values()]
    assert len(set(firsts)) == len(firsts)
