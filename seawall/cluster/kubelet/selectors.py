"""Label selectors as they stand in a query: `app=backend,tier in (a, b),!old`. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

__all__ = ["Selector", "parse_selector"]

Selector = Callable[[Mapping[str, str]], bool]

_PART = re.compile(r",(?![^(]*\))")
_SET = re.compile(r"(\S+)\s+(in|notin)\s*\(([^)]*)\)")


def parse_selector(text: str) -> Selector:
    """Return what tells whether labels match; an empty text matches all. Raises ValueError."""
    tests = [_test(part.strip()) for part in _PART.split(text) if part.strip()]
    return lambda labels: all(test(labels) for test in tests)


def _test(part: str) -> Selector:
    among = _SET.fullmatch(part)
    if among:
        name, values = among[1], {value.strip() for value in among[3].split(",")}
        if among[2] == "in":
            return lambda labels: labels.get(name) in values
        return lambda labels: labels.get(name) not in values
    for sign, wanted in (("!=", False), ("==", True), ("=", True)):
        name, found, value = (word.strip() for word in part.partition(sign))
        if found and name:
            return _equals(name, value, wanted=wanted)
    name = part.removeprefix("!").strip()
    if not re.fullmatch(r"[A-Za-z0-9._/-]+", name):
        raise ValueError(f"{part!r} is no part of a label selector")
    return lambda labels: (name in labels) is not part.startswith("!")


def _equals(name: str, value: str, *, wanted: bool) -> Selector:
    return lambda labels: (labels.get(name) == value) is wanted
