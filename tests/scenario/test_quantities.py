"""Durations, rates, shares and limits: what each spelling is worth, and that it is written back as it was read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.paths import scenarios_dir
from seawall.scenario import load_scenario, load_text
from seawall.scenario.quantities import (
    duration_text,
    money_text,
    parse_duration,
    parse_limit,
    parse_money,
    parse_rate,
    parse_share,
    parse_skew,
    rate_text,
    share_text,
    skew_text,
)

DURATIONS = {
    "8s": 8,
    "300ms": 0.3,
    "350ms": 0.35,
    "1.5m": 90,
    "2h": 7200,
    "0s": 0,
    "24h": 86400,
    " 1 s ": 1,
    "0.1ms": 1e-4,
}
RATES = {"20/s": 20, "300/m": 5, "3600/h": 1, "0.5/s": 0.5, "20 / s": 20, "0/s": 0}
SHARES = {"30%": 0.3, "0%": 0, "100%": 1, "99.9%": 0.999, "0.1 %": 0.001}
MONEY = {"0.10 USD": 0.1, "50 USD": 50, "0 USD": 0, "0.000001USD": 1e-6, " 1000000000 USD ": 1e9}
LIMITS = {
    ">= 99.9%": (">=", 0.999, "share"),
    "< 800ms": ("<", 0.8, "s"),
    ">= 20": (">=", 20, "count"),
    "<=1.5": ("<=", 1.5, "count"),
    "> 20/s": (">", 20, "rate"),
    "== 0": ("==", 0, "count"),
    "<= 0.10 USD": ("<=", 0.1, "usd"),
}


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_durations(text: str, seconds: float) -> None:
    """A duration is exactly the number of seconds that it says."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "seconds"), {"5s": 5, "+90s": 90, "-1.5m": -90, " -300ms ": -0.3}.items())
def test_skews(text: str, seconds: float) -> None:
    """A skew has a sign, and is written back as it was read."""
    assert parse_skew(text) == seconds
    assert parse_skew(skew_text(seconds)) == seconds


@pytest.mark.parametrize("text", ["0s", "-0s", "--5s", "- 5 s s", "fast", 5, None])
def test_what_is_no_skew_is_told_its_remedy(text: object) -> None:
    """No skew, and what cannot be read as one, is refused."""
    with pytest.raises(ValueError, match="write a"):
        parse_skew(text)


@pytest.mark.parametrize(("text", "rate"), RATES.items())
def test_rates(text: str, rate: float) -> None:
    """A rate is exactly the number of requests a second that it says."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize(("text", "amount"), MONEY.items())
def test_money(text: str, amount: float) -> None:
    """An amount is exactly the number of dollars that it says."""
    assert parse_money(text) == amount


@pytest.mark.parametrize("text", ["0.10", "0.10 EUR", "$1", "-1 USD", "1e3 USD", "0.0000001 USD", "1000000001 USD", 1])
def test_what_is_no_amount_of_money_says_how_to_write_one(text: object) -> None:
    """Another currency, none at all, a sign, and what is finer than a micro-dollar are refused with the remedy."""
    with pytest.raises(ValueError, match=r"; .*USD"):
        parse_money(text)


@given(st.integers(0, 10**15))
def test_money_is_written_as_it_is_read(micro_usd: int) -> None:
    """Every number of micro-dollars survives being written and read again."""
    amount = micro_usd / 1_000_000
    assert parse_money(money_text(amount)) == amount


@pytest.mark.parametrize(("text", "share"), SHARES.items())
def test_shares(text: str, share: float) -> None:
    """A share is exactly the fraction that it says."""
    assert parse_share(text) == share


@pytest.mark.parametrize(("text", "expected"), LIMITS.items())
def test_limits(text: str, expected: tuple[str, float, str]) -> None:
    """A limit is a comparison, a number in base units, and what it counts."""
    limit = parse_limit(text)
    assert (limit.comparison, limit.value, limit.unit) == expected
    assert parse_limit(limit) is limit
    assert parse_limit(limit.text) == limit
    assert hash(parse_limit(limit.text)) == hash(limit)


@pytest.mark.parametrize(
    ("comparison", "below", "equal", "above"),
    [
        (">=", False, True, True),
        ("<=", True, True, False),
        (">", False, False, True),
        ("<", True, False, False),
        ("==", False, True, False),
    ],
)
def test_limits_hold_as_their_sign_says(comparison: str, below: bool, equal: bool, above: bool) -> None:
    """Each comparison decides below, at and above its number as in arithmetic."""
    limit = parse_limit(f"{comparison} 5")
    assert (limit.holds(4), limit.holds(5), limit.holds(6)) == (below, equal, above)


@pytest.mark.parametrize("parse", [parse_duration, parse_rate, parse_share, parse_limit])
@pytest.mark.parametrize(
    "value",
    [
        "",
        "s",
        "8",
        8,
        8.0,
        None,
        True,
        [],
        {},
        "-8s",
        "8 s s",
        "8sec",
        "1e3s",
        "८s",
        "8s\n8s",
        "9" * 50 + "s",
        "∞s",
        "%",
        "101%",
    ],
)
def test_what_has_no_unit_or_another_is_refused(parse: object, value: object) -> None:
    """Bare numbers, unknown units, signs, other digits and endless ones are refused with the value and a remedy."""
    with pytest.raises(ValueError, match="; write") as caught:
        parse(value)  # type: ignore[operator]
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("parse", "value"), [(parse_duration, "25h"), (parse_duration, "86400001ms"), (parse_rate, "100001/s")]
)
def test_what_is_too_much_is_refused(parse: object, value: str) -> None:
    """A duration over a day and a rate over 100000/s are refused with their limit."""
    with pytest.raises(ValueError, match="is at most"):
        parse(value)  # type: ignore[operator]


@given(st.floats(0, 86400))
def test_a_duration_is_read_back_as_it_was_written(seconds: float) -> None:
    """Any duration above a nanosecond survives being written."""
    if seconds == 0 or seconds > 1e-9:
        assert parse_duration(duration_text(seconds)) == seconds


@given(st.floats(1e-6, 100_000))
def test_a_rate_is_read_back_as_it_was_written(rate: float) -> None:
    """Any rate survives being written."""
    assert parse_rate(rate_text(rate)) == rate


@given(st.floats(1e-6, 1))
def test_a_share_is_read_back_as_it_was_written(share: float) -> None:
    """Any share survives being written."""
    assert parse_share(share_text(share)) == share


@pytest.mark.parametrize("path", sorted(scenarios_dir().rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_scenario_is_read_back_as_it_was_written(path: object) -> None:
    """A scenario dumped as JSON, with units and by the file's words, loads as the same scenario."""
    scenario = load_scenario(path).scenario  # type: ignore[arg-type]
    text = json.dumps(scenario.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    assert load_text(text, "again").scenario == scenario


@given(
    st.lists(st.tuples(st.integers(0, 59_000), st.booleans()), min_size=1, max_size=8),
    st.integers(0, 2**63 - 1),
    st.floats(0.001, 1),
)
def test_a_found_schedule_is_read_back_as_it_was_written(
    sent: list[tuple[int, bool]], seed: int, injection_rate: float
) -> None:
    """A schedule of written-out arrivals and faults, as a search makes them, survives being written."""
    base = {
        "version": 1,
        "title": "found",
        "seed": seed,
        "load": {"executor": "arrivals", "arrivals": [{"at": f"{at + 1}ms", "stream": s} for at, s in sent]},
        "faults": [
            {
                "id": "f",
                "at": "0s",
                "duration": "500ms",
                "target": "gemini",
                "respond": {"status": 503},
                "injection_rate": share_text(injection_rate),
            }
        ],
        "expect": {"always": [{"calls_to": "gemini", "while": "open", "at_most": 0}]},
    }
    scenario = load_text(json.dumps(base), "found").scenario
    text = json.dumps(scenario.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    assert load_text(text, "again").scenario == scenario
