"""How the words of some gateway settings are read. Each function raises ValueError for what it does not take."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

from router.settings import Secret

__all__ = ["header_name", "one_of", "secret", "text", "words"]

_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")


def text(value: object) -> str:
    """Return a value as text without spaces around it."""
    return "" if value is None else str(value).strip()


def words(value: object) -> tuple[str, ...]:
    """Return the words of a list, or of a text with commas between."""
    given = [str(word) for word in cast("list[object]", value)] if isinstance(value, list) else text(value).split(",")
    return tuple(word.strip() for word in given if word.strip())


def one_of(known: tuple[str, ...]) -> Callable[[object], str]:
    """Return what takes only one of the `known` words."""

    def take(value: object) -> str:
        if value not in known:
            raise ValueError
        return str(value)

    return take


def header_name(value: object) -> str:
    """Return the name of an HTTP header in lower case."""
    if not _HEADER.fullmatch(name := text(value)):
        raise ValueError
    return name.lower()


def secret(value: object) -> Secret:
    """Return a text that does not show itself."""
    return Secret(text(value))
