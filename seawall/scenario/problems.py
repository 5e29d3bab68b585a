"""
What is wrong with a scenario file: where, what, and how to mend it.

Every message is for somebody who reads the file, not our code: it names the key, the value and the nearest right word.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from seawall.screen import printable

__all__ = ["Misplaced", "Problem", "ScenarioError", "listed", "nearest", "shown", "split_fix"]

_SHOWN_MAX = 60


class Problem(msgspec.Struct, frozen=True):
    """One thing to mend. `line` and `column` count from 1; both are 0 where there is no place in a file."""

    file: str
    line: int
    column: int
    message: str
    fix: str
    severity: Literal["error", "warning"] = "error"
    """A warning never refuses a file."""

    def __str__(self) -> str:
        """Return `file:line:column: message; fix`, which editors and CI logs turn into a link."""
        file = printable(self.file)
        place = f"{file}:{self.line}:{self.column}" if self.line else file
        return f"{place}: {self.message}; {self.fix}" if self.fix else f"{place}: {self.message}"


class ScenarioError(Exception):
    """A scenario cannot be used. `problems` holds every reason, in the order of the file; never empty."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type[ScenarioError], tuple[tuple[Problem, ...]]]:
        return ScenarioError, (self.problems,)


class Misplaced(ValueError):
    """Raised by a validator whose finding belongs to something inside: `path` leads there; `on_key` means its key."""

    def __init__(self, message: str, path: tuple[str | int, ...], *, on_key: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.on_key = on_key


def nearest(word: object, words: Iterable[str]) -> str | None:
    """Return the one of `words` that `word` was probably meant to be, whatever its case, or None."""
    if not isinstance(word, str) or len(word) > _SHOWN_MAX:
        return None
    by_lower = {candidate.lower(): candidate for candidate in words}
    found = difflib.get_close_matches(word.strip().lower().replace("-", "_"), by_lower, n=1, cutoff=0.6)
    found = found or difflib.get_close_matches(word.strip().lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def listed(words: Iterable[str]) -> str:
    """Return the words in code marks, separated by commas."""
    return ", ".join(f"`{word}`" for word in words)


def shown(value: Any) -> str:
    """Return a value as the author of the file would recognise it, cut to a line."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str():
            text = value if len(value) <= _SHOWN_MAX else value[: _SHOWN_MAX - 1] + "…"
            return repr(text)
        case _:
            return str(value)[:_SHOWN_MAX]


def split_fix(text: str) -> tuple[str, str]:
    """Return message and fix of a validator's sentence, which puts `; ` between the two."""
    message, _, fix = text.partition("; ")
    return message, fix
