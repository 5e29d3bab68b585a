"""
Quantities of the scenario language: a unit on every one.

`8s`, `300ms`, `1.5m` are durations; `20/s`, `300/m` rates; `30%` shares; `0.10 USD` money; `">= 99.9%"`, `"< 800ms"`,
`">= 20"` limits.
Read exactly (decimal, then rounded once), so that what is written as JSON or YAML again reads back as the same number.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from seawall.scenario.problems import shown

__all__ = [
    "DURATION_MAX_S",
    "MONEY_MAX_USD",
    "RATE_MAX",
    "Duration",
    "Limit",
    "LimitText",
    "Money",
    "Period",
    "PositiveDuration",
    "PositiveShare",
    "Rate",
    "Share",
    "Skew",
    "duration_text",
    "money_text",
    "parse_duration",
    "parse_limit",
    "parse_money",
    "parse_rate",
    "parse_share",
    "parse_skew",
    "rate_text",
    "share_text",
    "skew_text",
]

DURATION_MAX_S = 86_400.0
"""The longest duration, in seconds."""
RATE_MAX = 100_000.0
"""The highest rate, in requests a second."""
MONEY_MAX_USD = 1_000_000_000.0
"""The largest amount, in US dollars."""

_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{1,30})?)"
_DURATION = re.compile(rf"{_NUMBER}\s*(ms|s|m|h)")
_RATE = re.compile(rf"{_NUMBER}\s*/\s*(s|m|h)")
_SHARE = re.compile(rf"{_NUMBER}\s*%")
_MONEY = re.compile(rf"{_NUMBER}\s*USD")
_LIMIT = re.compile(r"(>=|<=|==|>|<)\s*(\S.*)")
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}

Comparison = Literal[">=", "<=", "==", ">", "<"]
Unit = Literal["s", "share", "rate", "usd", "count"]


def parse_duration(value: Any) -> float:
    """Return seconds. Raises ValueError that names the remedy."""
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{shown(value)} is not a duration; write a number with a unit: 300ms, 8s, 1m")
    seconds = float(Decimal(found.group(1)) * _SECONDS[found.group(2)])
    if seconds > DURATION_MAX_S:
        raise ValueError(f"{shown(value)} is too long; a duration is at most 24h")
    return seconds


def parse_skew(value: Any) -> float:
    """Return seconds, below zero for a clock that is slow. Raises ValueError that names the remedy."""
    text = value.strip() if isinstance(value, str) else value
    is_slow = isinstance(text, str) and text.startswith("-")
    try:
        seconds = parse_duration(text[1:] if isinstance(text, str) and text[:1] in ("-", "+") else text)
    except ValueError as error:
        raise ValueError(str(error).replace("300ms, 8s, 1m", "5s, -90s, 12h")) from None
    return -_above_zero("skew", seconds, value) if is_slow else _above_zero("skew", seconds, value)


def parse_rate(value: Any) -> float:
    """Return requests a second. Raises ValueError that names the remedy."""
    found = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{shown(value)} is not a rate; write a number per unit of time: 20/s, 300/m")
    rate = float(Decimal(found.group(1)) / _SECONDS[found.group(2)])
    if rate > RATE_MAX:
        raise ValueError(f"{shown(value)} is too much; a rate is at most {RATE_MAX:.0f}/s")
    return rate


def parse_share(value: Any) -> float:
    """Return a fraction from 0 to 1. Raises ValueError that names the remedy."""
    found = _SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or Decimal(found.group(1)) > 100:
        raise ValueError(f"{shown(value)} is not a share; write a percentage from 0% to 100%: 30%")
    return float(Decimal(found.group(1)) / 100)


def parse_money(value: Any) -> float:
    """Return US dollars, exact to a micro-dollar. Raises ValueError that names the remedy."""
    found = _MONEY.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{shown(value)} is not an amount of money; write a number and the currency: 0.10 USD")
    amount = Decimal(found.group(1))
    if amount > Decimal(MONEY_MAX_USD):
        raise ValueError(f"{shown(value)} is too much; an amount is at most {MONEY_MAX_USD:.0f} USD")
    if amount * 1_000_000 % 1:
        raise ValueError(f"{shown(value)} is finer than is counted; write whole micro-dollars: 0.000001 USD")
    return float(amount)


def _above_zero(what: str, figure: float, value: Any) -> float:
    if figure <= 0:
        raise ValueError(f"{shown(value)} is nothing; write a {what} above 0")
    return figure


def duration_text(seconds: float) -> str:
    """Return a duration as the language writes it; `parse_duration` reads the same number back."""
    exact = Decimal(repr(float(seconds)))
    return f"{_digits(exact * 1000)}ms" if 0 < exact < 1 else f"{_digits(exact)}s"


def skew_text(seconds: float) -> str:
    """Return a skew as the language writes it; `parse_skew` reads the same number back."""
    return f"{'-' if seconds < 0 else ''}{duration_text(abs(seconds))}"


def rate_text(rate: float) -> str:
    """Return a rate as the language writes it; `parse_rate` reads the same number back."""
    return f"{_digits(Decimal(repr(float(rate))))}/s"


def share_text(share: float) -> str:
    """Return a share as the language writes it; `parse_share` reads the same number back."""
    return f"{_digits(Decimal(repr(float(share))) * 100)}%"


def money_text(amount_usd: float) -> str:
    """Return an amount as the language writes it; `parse_money` reads the same number back."""
    return f"{_digits(Decimal(repr(float(amount_usd))))} USD"


def _digits(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class Limit:
    """A comparison and a number in base units (seconds, fraction, requests a second, US dollars or plain count)."""

    __slots__ = ("comparison", "text", "unit", "value")

    def __init__(self, comparison: Comparison, value: float, unit: Unit, text: str) -> None:
        self.comparison: Comparison = comparison
        self.value = value
        self.unit: Unit = unit
        self.text = text

    def holds(self, figure: float) -> bool:
        """Whether `figure` (in base units) satisfies the limit."""
        match self.comparison:
            case ">=":
                return figure >= self.value
            case "<=":
                return figure <= self.value
            case ">":
                return figure > self.value
            case "<":
                return figure < self.value
            case "==":
                return figure == self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Limit) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Limit({self.text!r})"


def parse_limit(value: Any) -> Limit:
    """Return the limit that `value` writes. Raises ValueError that names the remedy."""
    if isinstance(value, Limit):
        return value
    found = _LIMIT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            f'{shown(value)} is not a limit; write a comparison and a quantity in quotes: ">= 99.9%", "< 800ms"'
        )
    comparison, rest = found.group(1), found.group(2).strip()
    for parse, unit in ((parse_duration, "s"), (parse_share, "share"), (parse_rate, "rate"), (parse_money, "usd")):
        try:
            return Limit(comparison, parse(rest), unit, f"{comparison} {rest}")  # type: ignore[arg-type]
        except ValueError:
            continue
    if re.fullmatch(_NUMBER, rest):
        return Limit(comparison, float(rest), "count", f"{comparison} {rest}")  # type: ignore[arg-type]
    raise ValueError(
        f"{shown(rest)} in the limit is not a quantity; write a number, with a unit where it has one: 800ms, 95%, 20"
    )


def _schema(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


def _unscheduled(value: Any) -> Any:
    """Return what follows the word of Chaos Mesh's schedules, `@every`."""
    return value.removeprefix("@every ") if isinstance(value, str) else value


_DURATION_SCHEMA = _schema(r"^[0-9]+(\.[0-9]+)?\s*(ms|s|m|h)$", "8s")
_SHARE_SCHEMA = _schema(r"^[0-9]+(\.[0-9]+)?\s*%$", "30%")

# Serialised as text in JSON only: Python code that dumps a model keeps its numbers.
Duration = Annotated[
    float, BeforeValidator(parse_duration), PlainSerializer(duration_text, str, when_used="json"), _DURATION_SCHEMA
]
PositiveDuration = Annotated[
    float,
    BeforeValidator(lambda value: _above_zero("duration", parse_duration(value), value)),
    PlainSerializer(duration_text, str, when_used="json"),
    _DURATION_SCHEMA,
]
Period = Annotated[
    float,
    BeforeValidator(lambda value: _above_zero("duration", parse_duration(_unscheduled(value)), value)),
    PlainSerializer(duration_text, str, when_used="json"),
    _schema(r"^(@every )?[0-9]+(\.[0-9]+)?\s*(ms|s|m|h)$", "1m"),
]
Skew = Annotated[
    float,
    BeforeValidator(parse_skew),
    PlainSerializer(skew_text, str, when_used="json"),
    _schema(r"^[-+]?[0-9]+(\.[0-9]+)?\s*(ms|s|m|h)$", "-5s"),
]
Rate = Annotated[
    float,
    BeforeValidator(parse_rate),
    PlainSerializer(rate_text, str, when_used="json"),
    _schema(r"^[0-9]+(\.[0-9]+)?\s*/\s*(s|m|h)$", "20/s"),
]
Money = Annotated[
    float,
    BeforeValidator(parse_money),
    PlainSerializer(money_text, str, when_used="json"),
    _schema(r"^[0-9]+(\.[0-9]+)?\s*USD$", "0.10 USD"),
]
Share = Annotated[
    float, BeforeValidator(parse_share), PlainSerializer(share_text, str, when_used="json"), _SHARE_SCHEMA
]
PositiveShare = Annotated[
    float,
    BeforeValidator(lambda value: _above_zero("share", parse_share(value), value)),
    PlainSerializer(share_text, str, when_used="json"),
    _SHARE_SCHEMA,
]
LimitText = Annotated[
    Limit,
    BeforeValidator(parse_limit),
    PlainSerializer(lambda limit: limit.text, return_type=str),
    _schema(r"^(>=|<=|==|>|<)\s*[0-9].*$", ">= 99.9%"),
]
