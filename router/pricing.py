"""
What a call costs, in integer micro-dollars. Pure.

Prices are a data file with its date, in micro-dollars per million tokens; a cost is rounded up to the next
micro-dollar, so that a sum of settlements is never below what was used.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

import msgspec

from router.models import Message, ModelType, Usage

__all__ = [
    "UNKNOWN_CALL_MICRO_USD",
    "Price",
    "cost_micro_usd",
    "price_of",
    "prompt_tokens_max",
    "reservation_micro_usd",
]

UNKNOWN_CALL_MICRO_USD = 30_000
"""What a call to a model without a known price is taken to cost: 0.03 USD."""

_MILLION = 1_000_000
_TOKENS_PER_MESSAGE = 8  # what vendors add a message for its role and separators, rounded up


class Price(msgspec.Struct, frozen=True):
    """Micro-dollars per million tokens."""

    prompt: int
    completion: int


class _PriceFile(msgspec.Struct):
    as_of: str
    prices: dict[str, Price]


@cache
def _prices() -> dict[str, Price]:
    data = files("router").joinpath("data/prices.json").read_bytes()
    return msgspec.json.decode(data, type=_PriceFile).prices


def price_of(provider: ModelType, model: str) -> Price | None:
    """Return the price of a model; a free one for LOCAL; None when it is not known."""
    return _prices().get(model) if provider.is_cloud else Price(0, 0)


def cost_micro_usd(price: Price | None, usage: Usage) -> int:
    """Return what `usage` costs, rounded up; a flat 0.03 USD where the price is not known."""
    if price is None:
        return UNKNOWN_CALL_MICRO_USD
    amount = usage.prompt_tokens * price.prompt + usage.completion_tokens * price.completion
    return -(-amount // _MILLION)


def prompt_tokens_max(messages: Iterable[Message]) -> int:
    """Return an upper bound of the prompt's tokens: no tokenizer makes more tokens than there are UTF-8 bytes."""
    return sum(len(message.content.encode()) + _TOKENS_PER_MESSAGE for message in messages)


def reservation_micro_usd(price: Price | None, prompt_tokens: int, max_tokens: int) -> int:
    """Return the most that a call can cost."""
    return cost_micro_usd(price, Usage(prompt_tokens=prompt_tokens, completion_tokens=max_tokens))
