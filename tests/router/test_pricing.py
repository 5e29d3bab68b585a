"""What calls cost: integers, rounded up, never less for more, dearer above a length where a vendor says so."""

from __future__ import annotations

from fractions import Fraction
from importlib.resources import files
from typing import Any

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
from router.testing import FakeClock, ScriptedTransport, scripted_router

tokens = st.integers(0, 10_000_000)
rates = st.integers(0, 100_000_000)
flat = st.builds(Price, rates, rates)


@st.composite
def tiered(draw: st.DrawFn) -> Price:
    """Draw a price with one or two tiers above it, each at least as dear; written tokens are dearer than read ones."""
    price: Price | None = None
    ceiling, bound = (100_000_000, 100_000_000, 100_000_000), 10_000_000
    for _ in range(draw(st.integers(2, 3))):
        prompt, completion = (draw(st.integers(0, most)) for most in ceiling[:2])
        cached = draw(st.integers(0, min(prompt, ceiling[2])))
        bound = draw(st.integers(0, bound))
        written = (
            draw(st.none() | st.integers(prompt, prompt * 2)) if price is None or price.written is not None else None
        )
        if price is not None and written is not None:
            written = min(written, price.written or 0)
        price = Price(prompt, completion, cached, written, above_tokens=bound if price else 0, above=price)
        ceiling = (prompt, completion, cached)
    assert price is not None
    return price


prices = flat | tiered()


def used(prompt: int, completion: int) -> Usage:
    """Return a usage."""
    return Usage(prompt_tokens=prompt, completion_tokens=completion)


def rates_of(price: Price, prompt: int) -> Price:
    """Return the tier of a prompt of this length."""
    while price.above is not None and prompt > price.above_tokens:
        price = price.above
    return price


@given(price=prices, prompt=tokens, completion=tokens, cached=tokens, stored=tokens)
def test_cost_is_the_exact_one_rounded_up(price: Price, prompt: int, completion: int, cached: int, stored: int) -> None:
    """Less than one micro-dollar above the exact cost, and never below it, in each tier and with each cache."""
    now = rates_of(price, prompt)
    hits = 0 if now.cached is None else min(cached, prompt)
    new = 0 if now.written is None else min(stored, prompt - hits)
    exact = (prompt - hits - new) * now.prompt + hits * (now.cached or 0) + completion * now.completion
    exact += new * (now.written or 0)
    usage = Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached, written_tokens=stored)
    assert 0 <= cost_micro_usd(price, usage) - Fraction(exact, 1_000_000) < 1


@given(price=prices, prompt=tokens, completion=tokens, more=tokens)
def test_more_tokens_never_cost_less(price: Price, prompt: int, completion: int, more: int) -> None:
    """Cost does not fall with tokens, of either kind."""
    cost = cost_micro_usd(price, used(prompt, completion))
    assert cost_micro_usd(price, used(prompt + more, completion)) >= cost
    assert cost_micro_usd(price, used(prompt, completion + more)) >= cost


@given(
    price=st.none() | prices,
    text=st.text(max_size=200),
    completion=st.integers(0, 2000),
    limit=st.integers(1, 2000),
    cached=st.integers(0, 400),
    stored=st.integers(0, 400),
    edge=st.none() | st.integers(0, 400),
)
def test_reservation_covers_whatever_the_call_costs(
    price: Price | None, text: str, completion: int, limit: int, cached: int, stored: int, edge: int | None
) -> None:
    """No call within its limit costs more than was reserved, even at one token a byte and at the edge of a tier."""
    if price is not None and edge is not None:
        price = msgspec.structs.replace(price, above_tokens=edge)
    bound = prompt_tokens_max([Message(role="user", content=text)])
    reserved = reservation_micro_usd(price, bound, limit)
    assert len(text.encode()) < bound
    for prompt in (0, len(text.encode()), bound):
        spent = min(completion, limit)
        usage = Usage(prompt_tokens=prompt, completion_tokens=spent, cached_tokens=cached, written_tokens=stored)
        assert cost_micro_usd(price, usage) <= reserved


@pytest.mark.parametrize(
    ("model", "tokens", "below", "above"),
    [
        ("claude-haiku-5-5", 100_000, 10_000, 50_001),
        ("gpt-6-luna", 272_000, 27_200, 54_401),
        ("gpt-6.1-terra", 272_000, 272_000, 544_002),
    ],
)
def test_one_token_more_makes_the_whole_prompt_dearer(model: str, tokens: int, below: int, above: int) -> None:
    """The tier holds for the whole call, from the first token on; cached ones count for it and keep their own rate."""
    price = price_of(ModelType.OPENAI, model)
    assert price is not None
    assert price.above is not None
    assert [cost_micro_usd(price, used(tokens + more, 0)) for more in (0, 1)] == [below, above]
    assert cost_micro_usd(price, used(tokens, 1_000_000)) - below == price.completion
    assert cost_micro_usd(price, used(tokens * 2, 1_000_000)) == price.above.prompt * tokens * 2 // 10**6 + (
        price.above.completion
    )
    every = Usage(prompt_tokens=tokens * 2, completion_tokens=0, cached_tokens=tokens * 2)
    assert cost_micro_usd(price, every) == price.above.cached * tokens * 2 // 10**6  # type: ignore[operator]


@pytest.mark.parametrize(("told", "cost"), [(100_000, 10_500), (100_001, 52_501)])
async def test_ledger_reserves_the_dear_tier_and_settles_the_true_one(told: int, cost: int) -> None:
    """150,000 bytes may be as many tokens, so the dear tier is reserved; what the provider counts is what is paid."""
    clock = FakeClock()
    ledger = scripted_router(ScriptedTransport({}), clock=clock)._ports.ledger
    ask: dict[str, Any] = {"request_id": "q", "prompt_tokens": 150_000, "max_tokens": 1000}
    lease = await ledger.reserve(ModelType.CLAUDE, "claude-haiku-5-5", **ask)
    assert lease is not None
    assert lease.reservation is not None
    assert lease.reservation.micro_usd == 150_000 * 500_000 // 10**6 + 2500
    assert round(ledger.settle(lease, used(told, 1000)) * 10**6) == cost
    await ledger.drain()
    assert round(await ledger.spent_usd() * 10**6) == cost


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
    assert set(data) == {"as_of", "unit", "sources", "notes", "prices"}
    assert len(data["as_of"].split("-")) == 3
    assert all(source.startswith("https://") for source in data["sources"])
    for name, price in data["prices"].items():
        tier, most = price, (0, 0, 0)
        while tier:
            cached = tier.get("cached", tier["prompt"] / 2)
            assert 0 < cached < tier["prompt"] < tier["completion"], name
            assert all(
                rate >= before for rate, before in zip((cached, tier["prompt"], tier["completion"]), most, strict=True)
            )
            assert ("above" in tier) is (tier.get("above_tokens", 0) > 0), name
            most, tier = (cached, tier["prompt"], tier["completion"]), tier.get("above")
