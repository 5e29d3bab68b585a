"""What a call is taken to have used, and what is asked to go on: whatever providers tell and callers have said."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import Message, ModelType
from router.adapters import ClaudeAdapter, GeminiAdapter, OllamaAdapter, OpenAIAdapter, Prompt, turns
from router.adapters.base import CONTINUE_INSTRUCTION, counted, named
from router.models import Usage
from router.pricing import cost_micro_usd, price_of, prompt_tokens_max, reservation_micro_usd
from router.settings import Secret
from router.usage import usage_of

messages = st.lists(
    st.builds(Message, role=st.sampled_from(["user", "assistant"]), content=st.text(min_size=1, max_size=30)),
    min_size=1,
    max_size=4,
)
prompts = st.builds(
    Prompt,
    messages=st.tuples(st.builds(Message, role=st.just("user"), content=st.text(max_size=300))),
    model=st.just("gpt-4o"),
    max_tokens=st.integers(1, 500),
    stream=st.booleans(),
    so_far=st.text(max_size=100),
)
numbers = st.integers(-(10**15), 10**15) | st.integers(0, 600)
usages = st.none() | st.builds(Usage, prompt_tokens=numbers, completion_tokens=numbers)
ADAPTERS = [GeminiAdapter, ClaudeAdapter, OpenAIAdapter, OllamaAdapter]


@given(told=usages, prompt=prompts, text_bytes=st.integers(0, 10_000), whole=st.booleans())
def test_estimates_stay_within_what_was_reserved(told: Usage | None, prompt: Prompt, text_bytes: int, whole: bool):
    """Nothing booked is below zero; what replaces an impossible number costs no more than the reservation."""
    usage = usage_of(told, prompt, text_bytes, is_whole=whole)
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens >= 0
    if text_bytes:
        assert usage.completion_tokens > 0
    reserved = prompt_tokens_max(turns(prompt))
    for number, of_told, bound in (
        (usage.prompt_tokens, told and told.prompt_tokens, reserved),
        (usage.completion_tokens, told and told.completion_tokens, prompt.max_tokens),
    ):
        assert number <= bound or (number == of_told and number <= bound + 1024)
    if usage is not told:
        assert usage.estimated
    if told is None:
        price = price_of(ModelType.OPENAI, prompt.model)
        assert 0 < cost_micro_usd(price, usage) <= reservation_micro_usd(price, reserved, prompt.max_tokens)


@pytest.mark.parametrize(
    ("told", "whole", "expected"),
    [
        ((3, 16), True, (3, 16, False)),
        ((3, 16), False, (3, 16, True)),
        ((3, 2), False, (3, 10, True)),  # told before the end, so behind its text
        ((0, 16), True, (4, 16, True)),
        ((3, 0), True, (3, 10, True)),
        ((10**9, 10**9), True, (4, 10, True)),
        ((-3, -16), True, (4, 10, True)),
        (None, True, (4, 10, True)),
    ],
)
def test_each_number_is_judged_by_itself(told: Any, whole: bool, expected: Any) -> None:
    """A number that can be true is kept beside one that cannot."""
    prompt = Prompt(
        messages=(Message(role="user", content="hello world."),), model="gpt-4o", max_tokens=100, stream=True
    )
    usage = None if told is None else Usage(prompt_tokens=told[0], completion_tokens=told[1])
    found = usage_of(usage, prompt, 40, is_whole=whole)
    assert (found.prompt_tokens, found.completion_tokens, found.estimated) == expected


@pytest.mark.parametrize("value", [None, -1, 0, "7", 1.5, True, [], {}, float("nan")])
def test_what_is_no_number_of_tokens_counts_as_not_told(value: Any) -> None:
    """A vendor's slip in a number is no reason to throw its answer away."""
    assert counted(value) == 0


@pytest.mark.parametrize("value", [None, 7, "", "a b", "x\r\nset-cookie: a=b", "é", "x" * 129, "-x", ["gpt-4o"]])
def test_what_is_no_name_is_not_told(value: Any) -> None:
    """A model's name goes into headers: what could break out of one is left out."""
    assert named(value) is None


@pytest.mark.parametrize("value", ["gpt-4o-2024-08-06", "llama3:8b", "models/gemini-2.5-flash", "hf.co/a/b:Q4_K_M"])
def test_names_of_models_are_told(value: str) -> None:
    """Vendors' names are taken as they are."""
    assert named(value) == value


@given(conversation=messages, so_far=st.sampled_from(["", " ", "\n\n"]) | st.text(max_size=30))
def test_request_to_go_on_is_legal(conversation: list[Message], so_far: str) -> None:
    """It ends with the user's turn, is not blank, and puts no second turn of the assistant's after one."""
    asked = list(turns(Prompt(messages=tuple(conversation), model="m", max_tokens=9, stream=True, so_far=so_far)))
    if not so_far.strip():
        assert asked == conversation
        return
    *before, said, last = asked
    assert (last.role, last.content, said.role) == ("user", CONTINUE_INSTRUCTION, "assistant")
    assert said.content.endswith(so_far)
    pairs = sum(a.role == b.role == "assistant" for a, b in pairwise(conversation))
    assert sum(a.role == b.role == "assistant" for a, b in pairwise(asked)) == pairs
    spoken = "".join(message.content for message in conversation if message.role == "assistant")
    assert "".join(message.content for message in [*before, said] if message.role == "assistant") == spoken + so_far


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_text_so_far_reaches_the_next_provider_to_the_letter(adapter: Any) -> None:
    """No vendor's request trims the text that is to be continued: the next character depends on its last one."""
    prompt = Prompt(
        messages=(Message(role="user", content="q"),), model="m", max_tokens=9, stream=True, so_far="one two "
    )
    _, body = adapter("http://127.0.0.1:1", Secret("k")).target(prompt)
    contents = body.get("messages") or body["contents"]
    texts = [turn.get("content") or turn["parts"][0]["text"] for turn in contents]
    assert texts == ["q", "one two ", CONTINUE_INSTRUCTION]
    assert contents[1]["role"] in ("assistant", "model")
