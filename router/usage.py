"""
How many tokens a call is taken to have used: what its provider told where that can be true, else an estimate. Pure.

What a provider tells is not believed blindly: budgets are kept with it. Zero for a text that came, numbers below zero,
and numbers far beyond what was asked for are replaced by the estimate, which is never below zero and never more than
what was reserved.
"""

from __future__ import annotations

import msgspec

from router.adapters.base import Prompt, turns
from router.models import Usage
from router.pricing import prompt_tokens_max

__all__ = ["asked_tokens_max", "usage_of"]

_BYTES_PER_TOKEN = 4  # vendors' tokenizers average 3.5 to 4.5 on English
_BYTES_PER_TOKEN_MAX = 128  # the longest entry of a vocabulary is a run of so many spaces
_TOKENS_PER_IMAGE = 1000  # a photograph at the usual size: 765 at OpenAI, 1032 at Google, 1600 at Anthropic
_HIDDEN_TOKENS = 1024  # what templates and system prompts of a vendor's own may add unseen


def asked_tokens_max(prompt: Prompt) -> int:
    """Return an upper bound of the tokens of all that a provider is sent: conversation, images, tools, schema."""
    bound = prompt_tokens_max(turns(prompt))
    if prompt.tools or prompt.json_format is not None:
        bound += _definition_bytes(prompt) + _HIDDEN_TOKENS
    return bound


def usage_of(
    told: Usage | None, prompt: Prompt, text_bytes: int, *, is_whole: bool, asked_max: int | None = None
) -> Usage:
    """
    Return the usage of one call that asked `prompt` and brought `text_bytes` of text.

    `told` is the largest of each number that the provider gave, 0 for none. It is taken as it is when the answer is
    whole and both numbers can be true; all else is `estimated`. `asked_max` is what `asked_tokens_max` has returned.
    """
    asked_max = asked_tokens_max(prompt) if asked_max is None else asked_max
    written = min(prompt.max_tokens, -(-text_bytes // _BYTES_PER_TOKEN))
    if told is None:
        return Usage(prompt_tokens=_asked_about(prompt), completion_tokens=written, estimated=True)
    knows_asked = 0 < told.prompt_tokens <= asked_max + _HIDDEN_TOKENS
    fewest = -(-text_bytes // _BYTES_PER_TOKEN_MAX)
    knows_written = fewest <= told.completion_tokens <= prompt.max_tokens + _HIDDEN_TOKENS
    if is_whole and knows_asked and knows_written:
        return told
    # Before its end an answer's own count may lag behind its text.
    counted = told.completion_tokens if knows_written else 0
    return Usage(
        prompt_tokens=told.prompt_tokens if knows_asked else _asked_about(prompt),
        completion_tokens=counted if is_whole and knows_written else max(counted, written),
        estimated=True,
    )


def _asked_about(prompt: Prompt) -> int:
    size, images = _definition_bytes(prompt), 0
    for turn in turns(prompt):
        size += len(turn.text.encode()) + sum(len(call.arguments.encode()) for call in turn.tool_calls)
        images += len(turn.images)
    return size // _BYTES_PER_TOKEN + 1 + images * _TOKENS_PER_IMAGE


def _definition_bytes(prompt: Prompt) -> int:
    if not prompt.tools and prompt.json_format is None:
        return 0
    return len(msgspec.json.encode((prompt.tools, prompt.json_format)))
