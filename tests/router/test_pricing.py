"""What calls cost: integers, rounded up, never less for more."""

from __future__ import annotations

from fractions import Fraction
from importlib.resources import files

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.models import Message, ModelType, Usage
from router.pricing import (
    UNKNOWN_CALL_MICRO_USD,
    Price,
    cost_micro_usd,
    price_of,
    prompt_tokens_max,
    reservation_micro_usd,
)

tokens = st.integers(0, 10_000_000)
prices = st.builds(Price, st.integers(0, 100_000_000), st.integers(0, 100_000_000))


def used(prompt: int, completion: int) -> Usage:
    """Return a usage."""
    return Usage(prompt_tokens=prompt, completion_tokens=completion)


@given(price=prices, prompt=tokens, completion=tokens)
def test_cost_is_the_exact_one_rounded_up(price: Price, prompt: int, completion: int) -> None:
    """Less than one micro-dollar above the exact cost, and never below it."""
    exact = Fraction(prompt * price.prompt + completion * price.completion, 1_000_000)
    assert 0 <= cost_micro_usd(price, used(prompt, completion)) - exact < 1


@given(price=prices, prompt=tokens, completion=tokens, more=tokens)
def test_more_tokens_never_cost_less(price: Price, prompt: int, completion: int, more: int) -> None:
    """Cost does not fall with tokens, of either kind."""
    cost = cost_micro_usd(price, used(prompt, completion))
    assert cost_micro_usd(price, used(prompt + more, completion)) >= cost
    assert cost_micro_usd(price, used(prompt, completion + more)) >= cost


@given(
    price=st.none() | prices, text=st.text(max_size=200), completion=st.integers(0, 2000), limit=st.integers(1, 2000)
)
def test_reservation_covers_whatever_the_call_costs(
    price: Price | None, text: str, completion: int, limit: int
) -> None:
    """No call within its limit costs more than was reserved, even at one token a byte."""
    bound = prompt_tokens_max([Message(role="user", content=text)])
    reserved = reservation_micro_usd(price, bound, limit)
    assert len(text.encode()) < bound
    assert cost_micro_usd(price, used(len(text.encode()), min(completion, limit))) <= reserved


def test_model_without_a_price_costs_a_flat_sum() -> None:
    """Three cents, whatever was used: an unknown price must not be a free one."""
    assert price_of(ModelType.OPENAI, "gpt-99") is None
    assert cost_micro_usd(None, used(0, 0)) == cost_micro_usd(None, used(10**6, 10**6)) == UNKNOWN_CALL_MICRO_USD
    assert UNKNOWN_CALL_MICRO_USD == 30_000


@pytest.mark.parametrize("model", ["llama3", "mistral", "gpt-4o"])
def test_local_model_is_free(model: str) -> None:
    """Whatever it is called, a local model costs nothing."""
    assert cost_micro_usd(price_of(ModelType.LOCAL, model), used(10**6, 10**6)) == 0


def test_prices_are_those_of_the_price_file() -> None:
    """A million prompt tokens of gpt-4o are 2.50 USD, a million answer tokens 10 USD; so the units are right."""
    price = price_of(ModelType.OPENAI, "gpt-4o")
    assert cost_micro_usd(price, used(10**6, 0)) == 2_500_000
    assert cost_micro_usd(price, used(0, 10**6)) == 10_000_000


def test_price_file_is_sound() -> None:
    """Every price is positive, an answer costs more than a prompt, and the file says when it was right and by whom."""
    data = msgspec.json.decode(files("router").joinpath("data/prices.json").read_bytes())
    assert set(data) == {"as_of", "unit", "sources", "prices"}
    assert len(data["as_of"].split("-")) == 3
    assert all(source.startswith("https://") for source in data["sources"])
    for name, price in data["prices"].items():
        assert 0 < price.get("cached", price["prompt"] / 2) < price["prompt"] < price["completion"], name
