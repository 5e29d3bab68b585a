"""Draws by key: uniform, independent of order, and the distribution they feed."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.draws import lognormal_s, unit

keys = st.lists(st.integers() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8), max_size=4)


@given(seed=st.integers(), key=keys)
def test_a_draw_is_a_function_of_its_key(seed: int, key: list[str | int]) -> None:
    """The same seed and key give the same number in [0, 1), whatever was drawn in between."""
    first = unit(seed, *key)
    unit(seed + 1, *key)
    assert 0 <= first < 1
    assert unit(seed, *key) == first


def test_order_does_not_matter() -> None:
    """Drawing backwards gives each key the number that drawing forwards gave it."""
    forwards = {n: unit(7, "latency", n) for n in range(500)}
    backwards = {n: unit(7, "latency", n) for n in reversed(range(500))}
    assert forwards == backwards


def test_a_known_draw() -> None:
    """The numbers never change between versions: recorded schedules must replay."""
    assert unit(7, "gemini", "000001", 1, "first_token") == 0.7002513785144335


@pytest.mark.parametrize("seed", [0, 1, 7, 2**63, -5])
def test_draws_are_uniform(seed: int) -> None:
    """Over many keys the numbers fill [0, 1) evenly (chi-square over 20 bins far below its 0.1 % limit of 43.8)."""
    count = 8000
    bins = Counter(int(unit(seed, "gemini", n) * 20) for n in range(count))
    expected = count / 20
    assert sum((bins[k] - expected) ** 2 / expected for k in range(20)) < 43.8


def test_purposes_seeds_and_neighbours_are_independent() -> None:
    """Draws for another purpose, another seed or the next request are uncorrelated with these."""
    count = 4000
    base = [unit(7, "a", n) for n in range(count)]
    for other in (
        [unit(7, "b", n) for n in range(count)],
        [unit(8, "a", n) for n in range(count)],
        [unit(7, "a", n + 1) for n in range(count)],
    ):
        covariance = sum((x - 0.5) * (y - 0.5) for x, y in zip(base, other, strict=True)) / count
        assert abs(covariance * 12) < 0.07


def test_the_parts_of_a_key_do_not_run_together() -> None:
    """Where one part ends and the next begins matters, as does their order."""
    assert len({unit(1, "ab", "c"), unit(1, "a", "bc"), unit(1, "abc"), unit(1, "c", "ab"), unit(11, "b", "c")}) == 5


@given(
    p50_s=st.floats(0.001, 10), ratio=st.floats(1.01, 50), draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=2)
)
def test_lognormal_meets_its_quantiles_and_rises(p50_s: float, ratio: float, draws: list[float]) -> None:
    """The median and the 99th percentile are those asked for, values are positive and rise with the draw."""
    assert lognormal_s(p50_s, p50_s * ratio, 0.5) == pytest.approx(p50_s)
    assert lognormal_s(p50_s, p50_s * ratio, 0.99) == pytest.approx(p50_s * ratio)
    values = [lognormal_s(p50_s, p50_s * ratio, draw) for draw in sorted(draws)]
    assert values == sorted(values)
    assert all(value > 0 and math.isfinite(value) for value in values)


@pytest.mark.parametrize(
    ("p50_s", "p99_s", "expected"), [(0.2, 0.2, 0.2), (0.2, 0.1, 0.2), (0.0, 1.0, 0.0), (-1.0, 1.0, 0.0)]
)
def test_lognormal_without_spread_is_constant(p50_s: float, p99_s: float, expected: float) -> None:
    """Without a spread every draw is the median, and never less than nothing."""
    assert {lognormal_s(p50_s, p99_s, draw) for draw in (0.0, 0.5, 0.999)} == {expected}
