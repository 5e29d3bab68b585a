"""The shape of a command and of its arguments; `seawall.commands.table` has them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Argument", "Command", "Completes", "flag"]

Completes = Literal["nothing", "scenario", "tag", "folder", "file", "choice"]


@dataclass(frozen=True)
class Argument:
    """One argument of a command: what argparse is told, and what completes it."""

    names: tuple[str, ...]
    help: str
    completes: Completes = "nothing"
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def is_option(self) -> bool:
        """Whether it begins with a dash."""
        return self.names[0].startswith("-")

    @property
    def takes_value(self) -> bool:
        """Whether a word follows it."""
        return self.settings.get("action", "store") in ("store", "append")

    @property
    def choices(self) -> tuple[str, ...]:
        """The words it takes, where there are only so many."""
        return tuple(self.settings.get("choices", ()))


@dataclass(frozen=True)
class Command:
    """One command."""

    name: str
    help: str
    more: str = ""
    """A paragraph for `--help`."""
    examples: tuple[str, ...] = ()
    arguments: tuple[Argument, ...] = ()
    passes_on: bool = False
    """Whether what stands after `--` is for another program: it is added to `arguments` as it is."""


def flag(name: str, words: str) -> Argument:
    """Return an option that is given or not."""
    return Argument((name,), words, settings={"action": "store_true"})
