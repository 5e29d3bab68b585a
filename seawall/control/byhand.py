"""
A fault by hand: the words of a scenario's fault, as JSON, checked by the scenario's own model and rules.

What is asked for is put into the run's scenario at this moment, and the scenario is loaded: so a fault by hand is
refused for what a written one would be, in the same words, and nothing can be injected that could not be written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, cast

import msgspec

from seawall.scenario.harm import FaultSpec
from seawall.scenario.loader import Loaded, load_text
from seawall.scenario.nodes import compose, plain
from seawall.scenario.problems import Problem, ScenarioError
from seawall.scenario.quantities import duration_text

__all__ = ["Flaw", "Refused", "Unfit", "document_of", "fault_by_hand"]

_KEY = re.compile(r'^(\s*)"((?:[^"\\]|\\.)*)":')
_LEFT_OUT = {
    "at": "a fault by hand starts at once",
    "follows": "a fault by hand starts at once",
    "delay": "a fault by hand starts at once",
    "every": "a fault by hand comes once",
}


class Flaw(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to mend: which field, what is wrong with it, and how to mend it."""

    field: str
    message: str
    fix: str


class Refused(Exception):
    """A fault cannot be injected as it was asked for. `flaws` holds every reason; never empty."""

    def __init__(self, flaws: list[Flaw]) -> None:
        super().__init__("; ".join(f"{flaw.field}: {flaw.message}; {flaw.fix}" for flaw in flaws))
        self.flaws = flaws


class Unfit(Exception):
    """The fault is sound, and the run cannot take it now; the message says why and what helps."""


def document_of(loaded: Loaded) -> dict[str, Any]:
    """Return the scenario's file as plain data."""
    return plain(compose(loaded.text.removeprefix("\ufeff"), loaded.name))


def fault_by_hand(body: object, loaded: Loaded, *, now_s: float, taken: Collection[str]) -> FaultSpec:
    """
    Return the fault that `body` describes, starting `now_s` seconds after the start of the load.

    `taken` are the ids that the run has used. Raises Refused with every flaw.
    """
    if not isinstance(body, dict):
        fix = 'send {"target": "gemini", "duration": "10s", "toxic": {"type": "down"}}'
        raise Refused([Flaw(field="fault", message="this is no JSON object", fix=fix)])
    asked = {str(key): value for key, value in cast("Mapping[Any, Any]", body).items()}
    early = [
        Flaw(field=key, message=f"{why}, so it takes no `{key}`", fix="take it out")
        for key, why in _LEFT_OUT.items()
        if key in asked
    ]
    if early:
        raise Refused(early)
    fault_id = asked.setdefault("id", _free_id(taken))
    if fault_id in taken:
        raise Refused([Flaw(field="id", message=f"this run has had a fault `{fault_id}`", fix="give it another id")])
    document = document_of(loaded)
    for name in ("steady_state", "expect", "stop_when"):  # what has nothing to do with the fault
        document.pop(name, None)
    document["arenas"] = ["wire"]
    written = {"at": duration_text(round(now_s, 3)), **asked}
    document["faults"] = [*(document.get("faults") or []), written]
    text = json.dumps(document, indent=1, ensure_ascii=False, default=str)
    try:
        scenario = load_text(text, "fault").scenario
    except ScenarioError as error:
        raise Refused([_flaw(problem, text) for problem in error.problems]) from None
    return scenario.faults[-1]


def _free_id(taken: Collection[str]) -> str:
    return next(name for n in range(1, len(taken) + 2) if (name := f"hand_{n}") not in taken)


def _flaw(problem: Problem, text: str) -> Flaw:
    return Flaw(field=_field(text.split("\n"), problem.line), message=problem.message, fix=problem.fix)


def _field(lines: list[str], line: int) -> str:
    """Return which field of the fault stands on a line of the document, which has one key a line."""
    names: list[str] = []
    depth: int | None = None
    for text in reversed(lines[:line]):
        found = _KEY.match(text)
        indent = len(text) - len(text.lstrip())
        if depth is not None and indent >= depth:
            continue
        depth = indent
        if found is not None:
            names.append(json.loads(f'"{found[2]}"'))
    names.reverse()
    inner = names[names.index("faults") + 1 :] if "faults" in names else names
    return ".".join(inner) or "fault"
