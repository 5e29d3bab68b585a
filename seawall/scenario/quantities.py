"""
Quantities of the scenario language: a unit on every one.

`8s`, `300ms`, `1.5m` are durations; `20/s`, `300/m` rates; `30%` shares; `">= 99.9%"`, `"< 800ms"`, `">= 20"` limits.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

__all__ = [
    "Duration",
    "Limit",
    "LimitText",
    "Rate",
    "Share",
    "parse_duration",
    "parse_limit",
    "parse_rate",
    "parse_share",
]

_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION = re.compile(rf"^{_NUMBER}\s*(ms|s|m|h)$")
_RATE = re.compile(rf"^{_NUMBER}\s*/\s*(s|m|h)$")
_SHARE = re.compile(rf"^{_NUMBER}\s*%$")
_LIMIT = re.compile(r"^(>=|<=|==|>|<)\s*(.+)$")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

Comparison = Literal[">=", "<=", "==", ">", "<"]


def parse_duration(value: Any) -> float:
    """Return seconds. Raises ValueError that names the remedy."""
    found = _DURATION.match(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is not a duration; write a number with a unit: 300ms, 8s, 1m")
    return float(found.group(1)) * _SECONDS[found.group(2)]


def parse_rate(value: Any) -> float:
    """Return requests a second. Raises ValueError that names the remedy."""
    found = _RATE.match(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is not a rate; write a number per unit of time: 20/s, 300/m")
    return float(found.group(1)) / _SECONDS[found.group(2)]


def parse_share(value: Any) -> float:
    """Return a fraction from 0 to 1. Raises ValueError that names the remedy."""
    found = _SHARE.match(value.strip()) if isinstance(value, str) else None
    if found is None or float(found.group(1)) > 100:
        raise ValueError(f"{value!r} is not a share; write a percentage from 0% to 100%: 30%")
    return float(found.group(1)) / 100


class Limit:
    """A comparison and a number in base units (seconds, fraction, requests a second or plain count)."""

    __slots__ = ("comparison", "text", "unit", "value")

    def __init__(
        self, comparison: Comparison, value: float, unit: Literal["s", "share", "rate", "count"], text: str
    ) -> None:
        self.comparison: Comparison = comparison
        self.value = value
        self.unit: Literal["s", "share", "rate", "count"] = unit
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
    found = _LIMIT.match(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            f'{value!r} is not a limit; write a comparison and a quantity in quotes: ">= 99.9%", "< 800ms"'
        )
    comparison, rest = found.group(1), found.group(2).strip()
    for parse, unit in ((parse_duration, "s"), (parse_share, "share"), (parse_rate, "rate")):
        try:
            return Limit(comparison, parse(rest), unit, f"{comparison} {rest}")  # type: ignore[arg-type]
        except ValueError:
            continue
    if re.fullmatch(_NUMBER, rest):
        return Limit(comparison, float(rest), "count", f"{comparison} {rest}")  # type: ignore[arg-type]
    raise ValueError(
        f"{rest!r} in the limit is not a quantity; write a number, with a unit where it has one: 800ms, 95%, 20"
    )


def _schema(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


Duration = Annotated[float, BeforeValidator(parse_duration), _schema(r"^\d+(\.\d+)?\s*(ms|s|m|h)$", "8s")]
Rate = Annotated[float, BeforeValidator(parse_rate), _schema(r"^\d+(\.\d+)?\s*/\s*(s|m|h)$", "20/s")]
Share = Annotated[float, BeforeValidator(parse_share), _schema(r"^\d+(\.\d+)?\s*%$", "30%")]
LimitText = Annotated[
    Limit,
    BeforeValidator(parse_limit),
    PlainSerializer(lambda limit: limit.text, return_type=str),
    _schema(r"^(>=|<=|==|>|<)\s*\d.*$", ">= 99.9%"),
]
