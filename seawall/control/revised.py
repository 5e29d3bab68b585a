"""
The scenario that was: a run's own, with the faults that came by hand and, where the load came from elsewhere, its rate.

It takes the place of the header's, so that faults by hand are judged as written ones are, and can be run again.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from seawall.control.byhand import document_of
from seawall.control.steering import Steering
from seawall.journal.events import End, Header
from seawall.scenario.harm import FaultSpec
from seawall.scenario.loader import Loaded, load_text
from seawall.scenario.problems import ScenarioError
from seawall.scenario.quantities import duration_text, rate_text, share_text

__all__ = ["BY_HAND", "by_hand", "header_of_what_was"]

BY_HAND = "by-hand"
"""The name of the scenario in which nothing is planned."""
_LONGEST = "24h"
# Short times, so that what is broken by hand is seen to heal; Redis, so that it can be broken too.
_TEXT = f"""\
version: 1
title: Load from Locust's users, faults by hand
arenas: [wire]
system:
  settings:
    CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 2s
    FIRST_BYTE_TIMEOUT: 1s
    IDLE_TIMEOUT: 2s
    BUDGET_STORE: redis
load: {{executor: constant-arrival-rate, rate: 1/s, duration: {_LONGEST}, deadline: 30s}}
allow_refusal: [all_down, budget]
"""


def by_hand() -> Loaded:
    """Return the scenario in which nothing is planned: the load is Locust's users, faults come by hand."""
    return load_text(_TEXT, f"{BY_HAND}.yaml")


def header_of_what_was(header: Header, loaded: Loaded, steering: Steering, end: End) -> Header | None:
    """
    Return the header with the scenario that was, None where that is the header's own.

    Where what was cannot be written as a scenario (a fault was healed inside another's window, say), that is the
    header's own too, and the journal's `fault` events alone tell of what came by hand.
    """
    specs = steering.specs()
    free = steering.is_outside and loaded.name == BY_HAND
    if not specs and not free:
        return None
    document = document_of(loaded)
    if free and not _with_load(document, steering, end):
        return None
    written = [_written(spec, lasted_s) for spec, lasted_s in specs]
    text = _text_of({**document, "faults": [*(document.get("faults") or []), *written]}, header.scenario_name)
    if text is None and free:
        text = _text_of(document, header.scenario_name)
    if text is None:
        return None
    digest = hashlib.sha256(text.encode()).hexdigest()
    return msgspec.structs.replace(header, scenario=text, scenario_sha256=digest, planned=header.planned and not free)


def _text_of(document: dict[str, Any], name: str) -> str | None:
    """Return the file that the document is, None for one that could not be loaded."""
    from seawall.hunt.document import yaml_of  # noqa: PLC0415 - only where something came by hand

    text = yaml_of(document)
    try:
        load_text(text, name)
    except ScenarioError:
        return None
    return text


def _with_load(document: dict[str, Any], steering: Steering, end: End) -> bool:
    """Write the rate that the users made into the document; False when they made none."""
    requests = steering.run.live.requests
    if not requests or end.load_start_ns is None or end.load_end_ns is None:
        return False
    seconds = max(round((end.load_end_ns - end.load_start_ns) / 1e9, 3), 0.001)
    document["load"] = {
        **document["load"],
        "rate": rate_text(requests / seconds),
        "duration": duration_text(seconds),
        "stream": share_text(round(steering.timeline.streams / requests, 4)),
    }
    return True


def _written(spec: FaultSpec, lasted_s: float) -> dict[str, Any]:
    """Return a fault as a file says it, with the time for which it was in force."""
    written: dict[str, Any] = {
        "id": spec.id,
        "at": duration_text(round(spec.at or 0.0, 3)),
        "duration": duration_text(max(round(lasted_s, 3), 0.001)),
        "target": spec.target,
    }
    if spec.toxic is not None:
        toxic = spec.toxic.model_dump()
        written["toxic"] = {key: value for key, value in toxic.items() if key != "toxicity"}
        if spec.toxic.toxicity != 1:
            written["toxic"]["toxicity"] = share_text(spec.toxic.toxicity)
    if spec.respond is not None:
        set_by = spec.respond.model_dump(exclude_defaults=True)
        timed = ("retry_after", "first_token", "dribble")
        written["respond"] = {key: duration_text(value) if key in timed else value for key, value in set_by.items()}
        if spec.injection_rate != 1:
            written["injection_rate"] = share_text(spec.injection_rate)
    if spec.process is not None:
        written["process"] = spec.process
    if spec.remaining is not None:
        written["remaining"] = f"{spec.remaining_usd:f} USD"
    return written
