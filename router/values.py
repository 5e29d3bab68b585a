"""Values of settings out of text: durations, switches, numbers, secrets; and the bounds of each. Pure."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Annotated, Any, cast, get_args, get_origin

import msgspec

__all__ = ["Count", "Limit", "Seconds", "Secret", "Share", "Within", "bounds_of", "parse", "parse_seconds"]

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


class Secret:
    """A value that shows itself only when asked by `reveal`: never in a log, a repr or an exception."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)" if self._value else "Secret()"

    def __reduce__(self) -> Any:
        raise TypeError("a Secret is not pickled: it would leave the process in the clear")

    def reveal(self) -> str:
        """Return the value itself, for the one place that sends it."""
        return self._value


class Within(msgspec.Struct, frozen=True):
    """The bounds of a setting, both allowed, as a note at its type. `is_time`: it is written as a duration."""

    low: float
    high: float
    words: str = ""
    is_time: bool = False

    def __str__(self) -> str:
        return self.words or f"from {self.low} to {self.high}"


Seconds = Annotated[float, Within(sys.float_info.min, 86_400, "above 0 and at most a day", is_time=True)]
Limit = Annotated[float, Within(0, 3600, "from 0 (off) to 3600", is_time=True)]
Share = Annotated[float, Within(0, 1, "from 0 (off) to 1")]
Count = Annotated[int, Within(1, 10_000)]


def bounds_of(kind: Any) -> Within | None:
    """Return the bounds that are noted at a type, or at one of its alternatives."""
    notes = [note for each in (kind, *get_args(kind)) for note in getattr(each, "__metadata__", ())]
    return notes[0] if notes else None


def parse_seconds(value: object) -> float:
    """Return a duration in seconds from a number or from text such as `300ms`, `5s`, `2m`. Raises ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _parse_number(value)
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("is not a duration: write seconds, or a number with a unit (300ms, 5s, 2m)")
    return float(found.group(1)) * _SECONDS[cast("str | None", found.group(2))]


def parse(kind: Any, value: object) -> object:
    """
    Return `value` as `kind`. Raises ValueError with what is wrong about it.

    A table or a list may also be given as JSON text.
    """
    bounds = bounds_of(kind)
    if bounds is not None:
        if type(None) in get_args(kind) and value in (None, ""):
            return None
        if bounds.is_time:
            return parse_seconds(value)
        return _parse_whole(value) if kind.__origin__ is int else _parse_number(value)
    if kind is bool:
        return _parse_bool(value)
    if get_origin(kind) in (Mapping, tuple):
        return _parse_table(kind, value)
    return value if isinstance(value, Secret) and kind is Secret else _parse_text(kind, value)


def _parse_number(value: object) -> float:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise ValueError("is not a number")


def _parse_text(kind: Any, value: object) -> object:
    text = value.strip() if isinstance(value, str) else None  # a value out of a file often ends in a line end
    if text is None:
        raise ValueError("is not text")
    return Secret(text) if kind is Secret else text


def _parse_table(kind: Any, value: object) -> object:
    """Return a table or a list of structs; the message says where in it the mistake is, and shows no value."""
    empty: Any = {} if get_origin(kind) is Mapping else []
    try:
        data: Any = value
        if isinstance(value, str):
            data = msgspec.json.decode(value) if value.strip() else empty
        return msgspec.convert(empty if data is None else data, kind, dec_hook=_secret)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read: {error}") from None


def _secret(kind: type, value: object) -> object:
    if kind is Secret and isinstance(value, str):
        return Secret(value.strip())
    raise ValueError(f"Expected `str`, got `{type(value).__name__}`")


def _parse_whole(value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise ValueError("is not a whole number") from None


def _parse_bool(value: object) -> bool:
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("is neither true nor false")
