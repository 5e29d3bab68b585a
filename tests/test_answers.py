"""Known answers: whole is told from cut, gap, repeated, mixed and foreign by the text alone."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from seawall.answers import answer_tokens, judge_text, last_token, marked, request_id_of

ids = st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True)
providers = st.sampled_from(["gemini", "claude", "openai", "local"])
counts = st.integers(1, 60)


@given(request_id=ids, prompt=st.text())
def test_a_mark_is_found_again(request_id: str, prompt: str) -> None:
    """A marked prompt gives its identity back, also with a system prompt in front of it."""
    assert request_id_of(marked(request_id, prompt)) == request_id
    assert request_id_of("You are terse.\n" + marked(request_id, prompt)) == request_id


@pytest.mark.parametrize("prompt", ["", "hello", "[sw:] x", "[sw:a b] x", "[sw:000001]x", "[sw:" + "a" * 33 + "] x"])
def test_no_mark_no_identity(prompt: str) -> None:
    """What is no mark gives None."""
    assert request_id_of(prompt) is None


@given(provider=providers, request_id=ids, count=counts, strip=st.booleans())
def test_an_answer_is_whole(provider: str, request_id: str, count: int, strip: bool) -> None:
    """The tokens of an answer, joined, are whole, with or without the space at the very end."""
    text = "".join(answer_tokens(provider, request_id, count))
    judgement = judge_text(text.rstrip() if strip else text, request_id)
    assert (judgement.whole, judgement.problem) == (True, None)
    assert (judgement.tokens, judgement.providers) == (count, (provider,))


@given(first=providers, second=providers, request_id=ids, count=st.integers(2, 60), data=st.data())
def test_an_answer_may_be_continued_by_another(
    first: str, second: str, request_id: str, count: int, data: st.DataObject
) -> None:
    """A text that another provider goes on with from the last token is whole and names both in order."""
    at = data.draw(st.integers(1, count - 1))
    head = "".join(answer_tokens(first, request_id, count)[:at])
    assert last_token(head, request_id) == (at, count)
    judgement = judge_text(head + "".join(answer_tokens(second, request_id, count, at + 1)), request_id)
    assert judgement.whole
    assert judgement.providers == tuple(dict.fromkeys((first, second)))


@given(provider=providers, request_id=ids, count=st.integers(2, 60), data=st.data())
def test_every_missing_or_repeated_token_is_seen(
    provider: str, request_id: str, count: int, data: st.DataObject
) -> None:
    """Leaving out the end is `cut`, leaving out another token is `gap`, and a token twice is `repeated`."""
    tokens = answer_tokens(provider, request_id, count)
    at = data.draw(st.integers(0, count - 1))
    assert judge_text("".join(tokens[: at or 1]), request_id).problem == "cut"
    without = tokens[:at] + tokens[at + 1 :]
    assert judge_text("".join(without), request_id).problem == ("cut" if at == count - 1 else "gap")
    twice = tokens[: at + 1] + tokens[at:]
    assert judge_text("".join(twice), request_id).problem == "repeated"


@given(provider=providers, request_id=ids, other=ids, count=counts, data=st.data())
def test_another_request_s_tokens_are_seen(
    provider: str, request_id: str, other: str, count: int, data: st.DataObject
) -> None:
    """One token of another request among these is enough."""
    assume(other != request_id)
    tokens = answer_tokens(provider, request_id, count)
    at = data.draw(st.integers(0, count - 1))
    tokens[at] = answer_tokens(provider, other, count)[at]
    assert judge_text("".join(tokens), request_id).problem == "other_request"


@given(provider=providers, request_id=ids, count=counts, foreign=st.text(min_size=1), data=st.data())
def test_foreign_text_is_never_whole(
    provider: str, request_id: str, count: int, foreign: str, data: st.DataObject
) -> None:
    """Anything put between the tokens makes the text other than whole."""
    assume(foreign.strip())
    tokens = answer_tokens(provider, request_id, count)
    at = data.draw(st.integers(0, count))
    text = "".join(tokens[:at]) + foreign + " " + "".join(tokens[at:])
    assert not judge_text(text, request_id).whole


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "empty"), ("  \n", "empty"), ("Hello!", "foreign_text"), ("<html></html>", "foreign_text"),
     ("gemini:1:1/2 gemini:1:2/2 bye", "foreign_text"), ("gemini:1:2/2", "gap"), ("gemini:1:1/2", "cut")],
)  # fmt: skip
def test_examples(text: str, problem: str) -> None:
    """Each kind of text has its name."""
    assert judge_text(text, "1").problem == problem


def test_last_token_is_this_request_s() -> None:
    """Another request's tokens and half a token do not tell where to go on."""
    assert last_token("claude:1:1/9 claude:2:2/9 claude:1:2", "1") == (1, 9)
    assert last_token("hello", "1") is None
