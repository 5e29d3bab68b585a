"""
Cost arbitrage: which model a prompt deserves, when the caller leaves it to us (`model: auto`). Pure; rules are data.

The identity that the harness puts in front of a prompt (`[sw:000123] `) does not count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import msgspec

from router.data import data_file

__all__ = ["AUTO", "Rule", "choose_model", "default_rules"]

AUTO = "auto"
"""The model name that asks for arbitrage."""

_MARK = re.compile(r"^\[sw:[A-Za-z0-9_-]{1,32}\] ")


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first rule whose conditions all hold names the model; one without conditions always holds."""

    model: str
    shorter_than: int | None = None
    """Characters of the prompt."""
    contains: str | None = None
    """A word in the prompt, whatever its case."""


class _Rules(msgspec.Struct, frozen=True):
    rules: tuple[Rule, ...]


@cache
def default_rules() -> tuple[Rule, ...]:
    """Return the rules of the data file."""
    return data_file("arbitrage", _Rules).rules


def choose_model(prompt: str, rules: Sequence[Rule] | None = None) -> str:
    """Return the model for `prompt`. The last rule is the default, whatever its conditions."""
    text = _MARK.sub("", prompt)
    everything = default_rules() if rules is None else rules
    for rule in everything:
        short = rule.shorter_than is None or len(text) < rule.shorter_than
        found = rule.contains is None or rule.contains.lower() in text.lower()
        if short and found:
            return rule.model
    return everything[-1].model
