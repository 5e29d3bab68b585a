"""
A schedule as the plain data of a scenario file: what is drawn, shrunk and written is the same thing. Pure.

Hypothesis draws documents, `scenario_of` makes each a scenario by the rules of the loader, and `yaml_of` writes it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec
from pydantic import ValidationError

from router.errors import ConfigurationError
from router.settings import Settings
from seawall.scenario.model import Scenario
from seawall.scenario.nodes import Mapping
from seawall.scenario.quantities import duration_text, parse_duration
from seawall.scenario.situation import Situation
from seawall.scenario.timing import check_times

__all__ = [
    "BASE_SETTINGS",
    "Document",
    "Unusable",
    "arrivals_of",
    "blank",
    "requests_in",
    "scenario_of",
    "settled",
    "with_arrivals",
    "yaml_of",
]

Document = dict[str, Any]
"""A scenario as its file says it: words and quantities, no base units."""

BASE_SETTINGS: dict[str, str] = {
    "CIRCUIT_BREAKER_RECOVERY_TIMEOUT": "2s",
    "FIRST_BYTE_TIMEOUT": "1s",
    "IDLE_TIMEOUT": "2s",
    "TOTAL_TIMEOUT": "20s",
}
"""What every hunted scenario has: short times, so that what is found can be played on the wire too."""
DEADLINE_SLACK_S = 10.0
_DEADLINE_S = 30.0
_WIDTH = 116
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./ -]*[A-Za-z0-9]|[0-9]+(\.[0-9]+)?(ms|s|%|/s| USD)?")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off"})


class Unusable(Exception):
    """A document that the loader would refuse: it is drawn anew."""


def blank() -> Document:
    """Return the document of a healthy run with one request."""
    return {
        "version": 1,
        "title": "Found by the hunt",
        "tags": ["found"],
        "arenas": ["simulation", "wire"],
        "seed": 1,
        "system": {"settings": dict(BASE_SETTINGS)},
        "load": {"executor": "arrivals", "arrivals": [{"at": "0s"}]},
        "faults": [],
    }


def scenario_of(document: Document) -> Scenario:
    """
    Return the scenario that `document` is. Raises Unusable when its file could not be loaded.

    Of the loader's rules those are asked that what is drawn or shrunk may break: settings, times, what needs a Redis.
    """
    try:
        scenario = Scenario.model_validate(document)
        refused = _refused(tuple(scenario.system.settings.items()))
        situation = Situation(scenario, Mapping(1, 1), "hunt")
        errors = (found.message for found in check_times(situation) if found.severity == "error")
        refused = refused or next(errors, None)
    except (ValidationError, ValueError) as error:
        raise Unusable(str(error)) from error
    if refused is None and not situation.shares_budget:
        refused = next((f"{f.id} needs Redis" for f in scenario.faults if f.target in ("redis", "budget")), None)
    if refused is not None:
        raise Unusable(refused)
    return scenario


@lru_cache(maxsize=1024)
def _refused(settings: tuple[tuple[str, Any], ...]) -> str | None:
    """Return why a gateway would not start with these settings. Kept: there are few of them, and many schedules."""
    try:
        Settings.from_mapping(dict(settings))
    except ConfigurationError as error:
        return str(error)
    return None


def settled(document: Document) -> Document:
    """Return a copy whose clients wait longer than the gateway may take, so that a request that hangs is its doing."""
    document = copy.deepcopy(document)
    deadline_s = parse_duration(document["system"]["settings"]["TOTAL_TIMEOUT"]) + DEADLINE_SLACK_S
    if deadline_s > _DEADLINE_S:
        document["load"]["deadline"] = duration_text(deadline_s)
    else:
        document["load"].pop("deadline", None)
    return document


def arrivals_of(document: Document) -> list[tuple[float, bool]]:
    """Return the time and the stream flag of every request, in order of time."""
    found: list[tuple[float, bool]] = []
    for entry in document["load"]["arrivals"]:
        found += [(parse_duration(entry["at"]), entry.get("stream", False))] * entry.get("count", 1)
    return sorted(found)


def with_arrivals(document: Document, arrivals: list[tuple[float, bool]]) -> Document:
    """Return `document` with other requests; those of the same moment and kind become one entry with a count."""
    counts: dict[tuple[float, bool], int] = {}
    for arrival in sorted(arrivals):
        counts[arrival] = counts.get(arrival, 0) + 1
    entries: list[dict[str, Any]] = []
    for (at_s, stream), count in counts.items():
        entry: dict[str, Any] = {"at": duration_text(round(at_s, 6))}
        entry |= {"count": count} if count > 1 else {}
        entry |= {"stream": True} if stream else {}
        entries.append(entry)
    return {**document, "load": {**document["load"], "arrivals": entries}}


def requests_in(document: Document) -> int:
    """Return how many requests the load has."""
    return sum(entry.get("count", 1) for entry in document["load"]["arrivals"])


def yaml_of(document: Document) -> str:
    """Return `document` as the text of a scenario file, one line a setting, a fault and a request."""
    return "\n".join(_block(document, "")) + "\n"


def _block(mapping: Document, indent: str) -> Iterator[str]:
    for key, value in mapping.items():
        flow = _flow(value)
        if value in ({}, []):
            continue
        if key in ("arrivals", "faults") or len(indent) + len(key) + 2 + len(flow) > _WIDTH or key == "settings":
            yield f"{indent}{key}:"
            if isinstance(value, dict):
                yield from _block(value, indent + "  ")  # pyright: ignore[reportUnknownArgumentType]
            else:
                yield from (f"{indent}  - {_flow(item)}" for item in value)
        elif isinstance(value, dict) and key in ("system", "load"):
            yield f"{indent}{key}:"
            yield from _block(value, indent + "  ")  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield f"{indent}{key}: {flow}"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value if not re.fullmatch(r"[0-9.]+", value) else f'"{value}"'
    return msgspec.json.encode(value).decode()
