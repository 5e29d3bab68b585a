"""What each misbehaviour looks like at each vendor, read from the steps alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from seawall.answers import answer_tokens, judge_text, marked
from seawall.emulators.behaviour import VENDORS, EmulatedCall, choose, respond
from seawall.emulators.steps import Behaviour, Body, End, Head, Healthy, Sleep, Step

PROVIDERS = sorted(VENDORS)
HEALTHY = Healthy(first_token_p50_s=0.1, first_token_p99_s=0.1, tokens_per_second=50, tokens=8)
STREAM_TYPES = {"local": "application/x-ndjson"}

providers = pytest.mark.parametrize("provider", PROVIDERS)
modes = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])


@pytest.fixture
def steps_of(chat: Callable) -> Callable[..., list[Step]]:
    """Play a misbehaving provider's steps; `prior` is what was said so far."""

    def play(provider: str, stream: bool, prior: str = "", request_id: str = "7", **what: Any) -> list[Step]:
        asked = chat(provider, marked(request_id, "What?"), stream=stream, prior=prior)
        if provider == "openai" and stream:
            asked.body["stream_options"] = {"include_usage": True}
        call = VENDORS[provider].parse(asked.request())
        assert isinstance(call, EmulatedCall), call
        return list(respond(call, HEALTHY, [Behaviour(fault_id="f", **what)] if what else [], seed=1, nth=1))

    return play


def head_of(steps: Sequence[Step]) -> Head:
    """Return the head."""
    (head,) = [step for step in steps if isinstance(step, Head)]
    return head


def body_of(steps: Sequence[Step]) -> bytes:
    """Return the bytes of the body."""
    return b"".join(step.data for step in steps if isinstance(step, Body))


def tokens_of(steps: Sequence[Step]) -> int:
    """Return how many tokens the steps say that they carry."""
    return sum(step.tokens for step in steps if isinstance(step, Body))


def payloads(provider: str, body: bytes) -> list[str]:
    """Return what the events of a stream carry: lines, or the data of server-sent events."""
    lines = body.decode().splitlines()
    if provider == "local":
        return lines
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ") and line != "data: [DONE]"]


def unreadable(texts: Sequence[str]) -> list[int]:
    """Return which of these are no JSON, however lenient the parser."""
    found: list[int] = []
    for n, text in enumerate(texts):
        try:
            json.loads(text, strict=False)
        except json.JSONDecodeError:
            found.append(n)
    return found


@providers
@modes
def test_whatever_is_wrong_the_message_is_framed_to_its_end(steps_of: Callable, provider: str, stream: bool) -> None:
    """These faults are the provider's words and not the wire's: the length is right and the end comes in order."""
    for what in ("malformed", "truncated", "empty", "html", "error_event", "wrong_usage", "content_filter", "no_done"):
        steps = steps_of(provider, stream, **{what: True})
        head = head_of(steps)
        assert head.status == 200
        assert head.length in (None, len(body_of(steps))), what
        assert steps[-1] == End()
        assert isinstance(steps[0], Sleep)


@providers
def test_malformed_json_is_none(steps_of: Callable, provider: str) -> None:
    """The body cannot be parsed, and only the body is wrong."""
    steps, healthy = steps_of(provider, False, malformed=True), steps_of(provider, False)
    assert unreadable([body_of(steps).decode()]) == [0]
    assert head_of(steps).headers == head_of(healthy).headers


@providers
def test_one_event_of_a_malformed_stream_is_broken(steps_of: Callable, text_in: Callable, provider: str) -> None:
    """All events but one can be read; whoever leaves that one out has a gap in the text."""
    body, healthy = body_of(steps_of(provider, True, malformed=True)), body_of(steps_of(provider, True))
    events = payloads(provider, body)
    (broken,) = unreadable(events)
    kept = [text for n, text in enumerate(payloads(provider, healthy)) if n != broken]
    assert [text for n, text in enumerate(events) if n != broken] == kept
    readable = body.replace(events[broken].encode(), b"{}" if provider == "local" else b"")
    lines = [line for line in readable.split(b"\n") if line not in (b"{}", b"data: ")]
    assert judge_text(text_in(provider, b"\n".join(lines), stream=True), "7").problem == "gap"


@providers
@modes
def test_truncated_ends_in_the_middle(steps_of: Callable, text_in: Callable, provider: str, stream: bool) -> None:
    """JSON is its own first half; a stream ends in half of its last token's event, and the text before it is cut."""
    body, healthy = body_of(steps_of(provider, stream, truncated=True)), body_of(steps_of(provider, stream))
    assert healthy.startswith(body)
    if not stream:
        assert len(body) == len(healthy) // 2
        return
    whole = body[: body.rindex(b"\n") + 1]
    assert body != whole
    judgement = judge_text(text_in(provider, whole, stream=True), "7")
    assert (judgement.problem, judgement.tokens) == ("cut", 7)


@providers
@modes
def test_empty_has_the_right_head_and_no_body(steps_of: Callable, provider: str, stream: bool) -> None:
    """Status and content type are those of an answer; nothing follows, no opening event of a stream either."""
    steps = steps_of(provider, stream, empty=True)
    assert body_of(steps) == b""
    assert head_of(steps).headers == head_of(steps_of(provider, stream)).headers


@providers
@modes
def test_html_is_a_page_that_says_it_is_one(steps_of: Callable, provider: str, stream: bool) -> None:
    """A page with its own content type, also where a stream was asked for."""
    steps = steps_of(provider, stream, html=True)
    assert dict(head_of(steps).headers)["content-type"].startswith("text/html")
    assert body_of(steps).startswith(b"<!DOCTYPE html>")


@providers
def test_error_event_comes_after_two_tokens(steps_of: Callable, text_in: Callable, provider: str) -> None:
    """Two tokens, then the vendor's own error as the last thing of the stream."""
    body = body_of(steps_of(provider, True, error_event=True))
    *before, last = payloads(provider, body)
    assert unreadable([*before, last]) == []
    error = json.loads(last)
    assert error["error"]
    assert (error.get("type") == "error") is (provider == "claude")
    assert (b"event: error\n" in body) is (provider == "claude")
    assert b"[DONE]" not in body
    text = text_in(provider, body[: body.rindex(last.encode())], stream=True)
    assert (judge_text(text, "7").problem, judge_text(text, "7").tokens) == ("cut", 2)


@providers
def test_error_object_comes_with_200(steps_of: Callable, provider: str) -> None:
    """In JSON the vendor's error body has the status of a success."""
    steps = steps_of(provider, False, error_event=True)
    assert "error" in json.loads(body_of(steps))
    assert "json" in dict(head_of(steps).headers)["content-type"]


@providers
def test_without_its_end_a_stream_has_every_token(steps_of: Callable, text_in: Callable, provider: str) -> None:
    """The text is all there; no event says that it is."""
    body, healthy = body_of(steps_of(provider, True, no_done=True)), body_of(steps_of(provider, True))
    assert judge_text(text_in(provider, body, stream=True), "7").whole
    assert healthy.startswith(body)
    said = body.decode().lower()
    for word in ("[done]", "message_stop", '"stop"', "end_turn", '"done":true'):
        assert word not in said


@providers
@modes
def test_content_type_is_all_that_is_wrong(steps_of: Callable, provider: str, stream: bool) -> None:
    """The body is the healthy one, the other headers too."""
    steps, healthy = steps_of(provider, stream, content_type="text/plain"), steps_of(provider, stream)
    assert body_of(steps) == body_of(healthy)
    changed = [name for name, _ in set(head_of(steps).headers) - set(head_of(healthy).headers)]
    assert changed == ["content-type"]
    assert dict(head_of(steps).headers)["content-type"] == "text/plain"


def usage_in(provider: str, body: bytes, *, stream: bool) -> tuple[int, int] | None:
    """Return the tokens of prompt and answer as an answer tells them at its end, None where it tells none."""
    content = json.loads(payloads(provider, body)[-1]) if stream else json.loads(body)
    if provider == "claude" and stream:
        content = json.loads(payloads(provider, body)[-2])
    names = {
        "gemini": ("usageMetadata", "promptTokenCount", "candidatesTokenCount"),
        "claude": ("usage", "input_tokens", "output_tokens"),
        "openai": ("usage", "prompt_tokens", "completion_tokens"),
        "local": (None, "prompt_eval_count", "eval_count"),
    }[provider]
    found = content if names[0] is None else content.get(names[0])
    return None if not found or names[1] not in found else (found[names[1]], found[names[2]])


@providers
@modes
def test_usage_is_wrong_in_every_way(steps_of: Callable, text_in: Callable, provider: str, stream: bool) -> None:
    """Over some requests it is zero, below zero, absurd and missing; the same request always meets the same lie."""
    seen = set()
    for n in range(30):
        steps = steps_of(provider, stream, request_id=f"{n}", wrong_usage=True)
        assert steps == steps_of(provider, stream, request_id=f"{n}", wrong_usage=True)
        assert judge_text(text_in(provider, body_of(steps), stream=stream), f"{n}").whole
        assert tokens_of(steps) == 8
        told = usage_in(provider, body_of(steps), stream=stream)
        seen.add("missing" if told is None else "negative" if told[0] < 0 else min(told[0], 1000))
    assert seen == {"missing", "negative", 0, 1000}
    assert usage_in(provider, body_of(steps_of(provider, stream)), stream=stream) == (3, 8)


@providers
def test_duplicate_chunks_repeat_every_token_once(steps_of: Callable, text_in: Callable, provider: str) -> None:
    """Each token event comes twice, byte for byte; the text is judged `repeated`; a token is counted once."""
    steps = steps_of(provider, True, duplicate_chunks=True)
    judgement = judge_text(text_in(provider, body_of(steps), stream=True), "7")
    assert (judgement.problem, judgement.tokens, tokens_of(steps)) == ("repeated", 16, 8)
    bodies = [step.data for step in steps if isinstance(step, Body)]
    healthy = [step.data for step in steps_of(provider, True) if isinstance(step, Body)]
    assert list(dict.fromkeys(bodies)) == healthy


@providers
@modes
def test_filtered_answer_is_half_and_says_so(
    steps_of: Callable, text_in: Callable, provider: str, stream: bool
) -> None:
    """The text is a whole one of half the tokens, with the vendor's own word for the filter and its usage."""
    steps = steps_of(provider, stream, content_filter=True)
    judgement = judge_text(text_in(provider, body_of(steps), stream=stream), "7")
    assert (judgement.whole, judgement.tokens) == (True, 4)
    word = {"gemini": "SAFETY", "claude": "refusal"}.get(provider, "content_filter")
    assert f':"{word}"' in body_of(steps).decode()
    assert usage_in(provider, body_of(steps), stream=stream) == (3, 4)


@providers
@modes
def test_another_model_is_named_throughout(steps_of: Callable, provider: str, stream: bool) -> None:
    """Every place that names the model names the wrong one, and nothing else differs."""
    asked = b'"gemini-2.5-flash"' if provider == "gemini" else b'"a-model"'
    body, healthy = body_of(steps_of(provider, stream, wrong_model=True)), body_of(steps_of(provider, stream))
    assert asked in healthy
    assert body == healthy.replace(asked, f'"{VENDORS[provider].OTHER_MODEL}"'.encode())


@providers
def test_dribble_is_the_pause_between_tokens(steps_of: Callable, provider: str) -> None:
    """A stream pauses before each token but the first; a JSON answer takes as long as all of its tokens."""
    pauses = [step.seconds for step in steps_of(provider, True, dribble_s=2.5) if isinstance(step, Sleep)]
    assert pauses == [pytest.approx(0.1)] + [2.5] * 7
    (whole,) = [step.seconds for step in steps_of(provider, False, dribble_s=2.5) if isinstance(step, Sleep)]
    assert whole == pytest.approx(0.1 + 8 * 2.5)


@providers
@pytest.mark.parametrize("what", ["malformed", "truncated", "error_event", "no_done"])
def test_end_takes_the_damage_where_no_token_is_left(steps_of: Callable, provider: str, what: str) -> None:
    """Asked to go on after the last token, a misbehaving provider still never ends its stream as a healthy one does."""
    said = "".join(answer_tokens("gemini", "7", 8))
    steps, healthy = steps_of(provider, True, prior=said, **{what: True}), steps_of(provider, True, prior=said)
    assert tokens_of(healthy) == 0
    assert body_of(steps) != body_of(healthy)
    assert steps[-1] == End()


@pytest.mark.parametrize("what", ["no_done", "duplicate_chunks"])
def test_what_cannot_be_harmed_is_not_taken(what: str) -> None:
    """A JSON answer has neither end mark nor token events: the next behaviour in line may take it."""
    ours, other = Behaviour(fault_id="f", **{what: True}), Behaviour(fault_id="g", hang=True)
    call = EmulatedCall(provider="openai", model="m", stream=False, request_id="1", prompt="")
    assert choose(call, [ours], 1) is None
    assert choose(call, [ours, other], 1) is other


def test_usage_that_nobody_asked_for_cannot_be_wrong() -> None:
    """OpenAI's streams tell a usage on request only."""
    ours = Behaviour(fault_id="f", wrong_usage=True)
    call = EmulatedCall(provider="openai", model="m", stream=True, request_id="1", prompt="", include_usage=False)
    assert choose(call, [ours], 1) is None
