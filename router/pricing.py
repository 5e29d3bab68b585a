"""
What a call costs, in integer micro-dollars. Pure.

Prices are a data file with its date, in micro-dollars per million tokens; a cost is rounded up to the next
micro-dollar, so that a sum of settlements is never below what was used.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import msgspec

from router.data import data_file
from router.models import Message, ModelType, Usage

__all__ = ["Price", "cost_micro_usd", "price_of", "prompt_tokens_max", "reservation_micro_usd"]

UNKNOWN_CALL_MICRO_USD = 30_000
"""What a call to a model without a known price is taken to cost: 0.03 USD."""

IMAGE_TOKENS_MAX = 50_000
"""The most that a vendor counts for one image: OpenAI's small model, 2833 and 5667 for each of 8 tiles (48,169)."""

_MILLION = 1_000_000
_TOKENS_PER_MESSAGE = 8  # what vendors add a message for its role and separators, rounded up


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Micro-dollars per million tokens. `cached`: prompt tokens from the provider's cache; `written`: those that it wrote
    into it; None: as all others.

    A call whose prompt has more than `above_tokens`, cached ones among them, is priced by `above`, its answer too. No
    rate is lower there: more tokens must never cost less, or the most that a call can cost could not be reserved.
    """

    prompt: int
    completion: int
    cached: int | None = None
    written: int | None = None
    above_tokens: int = 0
    above: Price | None = None


class _PriceFile(msgspec.Struct):
    as_of: str
    prices: dict[str, Price]


@cache
def _prices() -> dict[str, Price]:
    return data_file("prices", _PriceFile).prices


def price_of(provider: ModelType, model: str) -> Price | None:
    """Return the price of a model; a free one for LOCAL; None when it is not known."""
    return _prices().get(model) if provider.is_cloud else Price(0, 0)


def cost_micro_usd(price: Price | None, usage: Usage) -> int:
    """Return what `usage` costs, rounded up; a flat 0.03 USD where the price is not known."""
    if price is None:
        return UNKNOWN_CALL_MICRO_USD
    if price.above is not None and usage.prompt_tokens > price.above_tokens:
        return cost_micro_usd(price.above, usage)
    cached = min(usage.cached_tokens, usage.prompt_tokens) if price.cached is not None else 0
    amount = (usage.prompt_tokens - cached) * price.prompt + usage.completion_tokens * price.completion
    if price.written is not None:
        amount += min(usage.written_tokens, usage.prompt_tokens - cached) * (price.written - price.prompt)
    return -(-(amount + cached * (price.cached or 0)) // _MILLION)


def prompt_tokens_max(messages: Iterable[Message]) -> int:
    """Return an upper bound of the prompt's tokens: no tokenizer makes more tokens than there are UTF-8 bytes."""
    return sum([_tokens_max(message) + _TOKENS_PER_MESSAGE for message in messages])


def _tokens_max(message: Message) -> int:
    if isinstance(message.content, str) and not message.tool_calls:
        return len(message.content.encode())
    called = sum(len((call.name + call.arguments).encode()) + _TOKENS_PER_MESSAGE for call in message.tool_calls)
    return len(message.text.encode()) + len(message.images) * IMAGE_TOKENS_MAX + called


def reservation_micro_usd(price: Price | None, prompt_tokens: int, max_tokens: int) -> int:
    """Return the most that a call can cost: all of its prompt may be written into the provider's cache."""
    most = Usage(prompt_tokens=prompt_tokens, completion_tokens=max_tokens, written_tokens=prompt_tokens)
    return cost_micro_usd(price, most)
