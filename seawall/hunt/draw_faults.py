"""
What goes wrong, drawn. Every fault that the simulation takes, on a coarse grid of times.

Each kind of harm is drawn about as often as every other: a bug that one of forty kinds shows must not wait for it.
"""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from seawall.scenario.model import PROVIDERS
from seawall.scenario.quantities import duration_text, parse_duration

__all__ = ["FAULTS_MAX", "Span", "draw_faults", "spans_of"]

Span = tuple[float, float]
"""From when and until when a fault is planned, in seconds of the load."""

FAULTS_MAX = 5
_Kinds = tuple[tuple[dict[str, Any], ...], ...]
# Not duplicate_chunks: nobody can tell a token that is sent twice from one that is said twice (docs/behaviours.md).
_RESPONDS: _Kinds = (
    ({"status": 503}, {"status": 500}, {"status": 529}, {"status": 408}),
    ({"status": 503}, {"hang": True}),
    ({"hang": True},),
    ({"status": 429, "retry_after": "2s"}, {"status": 429, "retry_after": "10s"}, {"status": 503, "retry_after": "5s"}),
    ({"status": 429}, {"status": 429, "retry_after": "5s"}),
    ({"status": 400}, {"status": 413}, {"status": 422}),
    ({"status": 401}, {"status": 403}, {"status": 404}),
    ({"first_token": "800ms"}, {"first_token": "600ms"}, {"first_token": "900ms"}),
    ({"first_token": "800ms"}, {"first_token": "300ms"}, {"first_token": "3s"}),
    ({"dribble": "3s"}, {"dribble": "200ms"}),
    ({"cut_after_chunks": 1}, {"cut_after_chunks": 3}, {"cut_after_chunks": 0}, {"cut_after_chunks": 15}),
    ({"error_event": True},),
    ({"no_done": True},),
    ({"truncated": True},),
    ({"malformed": True},),
    ({"empty": True},),
    ({"html": True},),
    ({"content_type": "text/plain"},),
    ({"wrong_usage": True},),
    ({"content_filter": True},),
    ({"wrong_model": True},),
)
_TOXICS: _Kinds = (
    ({"type": "down"},),
    (
        {"type": "timeout", "attributes": {"timeout": 0}},
        {"type": "timeout", "attributes": {"timeout": 500}},
        {"type": "timeout", "attributes": {"timeout": 0}, "stream": "upstream"},
    ),
    ({"type": "reset_peer", "attributes": {"timeout": 0}}, {"type": "reset_peer", "attributes": {"timeout": 100}}),
    (
        {"type": "latency", "attributes": {"latency": 900}},
        {"type": "latency", "attributes": {"latency": 300}},
        {"type": "latency", "attributes": {"latency": 5000}},
        {"type": "latency", "attributes": {"latency": 400, "jitter": 300}},
        {"type": "latency", "attributes": {"latency": 300}, "stream": "upstream"},
    ),
    ({"type": "limit_data", "attributes": {"bytes": 1500}}, {"type": "limit_data", "attributes": {"bytes": 300}}),
    ({"type": "bandwidth", "attributes": {"rate": 1}},),
    ({"type": "slicer", "attributes": {"average_size": 16, "delay": 20_000}},),
    ({"type": "slow_close", "attributes": {"delay": 1000}},),
)
_STORE_TOXICS: tuple[dict[str, Any], ...] = (
    {"type": "down"},
    {"type": "timeout", "attributes": {"timeout": 0}},
    {"type": "latency", "attributes": {"latency": 100}},
    {"type": "latency", "attributes": {"latency": 2000}},
    {"type": "reset_peer", "attributes": {"timeout": 0}},
)
# Strategies are made once: to make one anew takes longer than to draw from it.
_KIND = st.sampled_from(("respond",) * 10 + ("toxic",) * 5 + ("process",))
_KIND_WITH_STORE = st.sampled_from(("respond",) * 4 + ("toxic",) * 2 + ("store",) * 3 + ("remaining", "process"))
_RESPOND, _TOXIC = st.sampled_from(_RESPONDS), st.sampled_from(_TOXICS)
# What says nothing about a provider's health is what a probe is most easily lost by.
_AFTER_OUTAGE = st.sampled_from((*_RESPONDS, *2 * tuple(v for v in _RESPONDS if v[0].get("status") in (400, 401))))
_STORE_TOXIC = st.sampled_from(_STORE_TOXICS)
_REMAINING = st.sampled_from(("0 USD", "0.0005 USD", "0.002 USD", "0.004 USD"))
_PROCESS = st.sampled_from(("kill", "stop", "restart"))
_VARIANT = st.integers(0, 59)
_COUNT = st.sampled_from((1, 2, 1, 3, 2, 4, 1, 5))
_WHOM = st.sampled_from(("gemini",) * 5 + ("claude", "openai", "local", "everybody", "everybody"))
_WHOM_ALONE = st.sampled_from(("local", "gemini"))
_RATE = st.sampled_from(("100%",) * 4 + ("50%", "20%"))
_START = st.sampled_from(tuple(duration_text(half / 2) for half in range(1, 17)))
_DELAY = st.sampled_from(("0s", "1s", "2s", "5s"))
_DURATION = st.sampled_from(("2s", "1s", "3s", "5s", "500ms", "8s"))
_WHEN = st.sampled_from(("at", "at", "with", "follows"))
_IN_EIGHT = st.integers(0, 7)
_OF_THE_CHAIN = st.sampled_from(("gemini", "gemini", "gemini", "claude"))
_OUTAGE_LASTS = st.sampled_from(("1s", "2s"))
_OUTAGE = st.sampled_from(({"status": 503}, {"hang": True}))


def draw_faults(draw: DrawFn, *, shares_budget: bool, alone: bool) -> list[dict[str, Any]]:
    """
    Draw the faults of one schedule.

    With a budget in Redis, that is a target too. `alone`: no provider but the local one may be asked.
    """
    faults = _outage_and_more(draw, alone=alone) if draw(_IN_EIGHT) >= 6 else []
    for _ in range(draw(_COUNT) - (1 if faults else 0)):
        whom, harm = _harm(draw, shares_budget=shares_budget, alone=alone)
        when = {**_time(draw, faults), "duration": draw(_DURATION)}
        # One harm after another befalls the same provider: a breaker that the first has opened meets the second.
        if "follows" in when and whom in PROVIDERS and (before := faults[-1]["target"]) in PROVIDERS:
            whom = before
        if "process" not in harm and "remaining" not in harm and draw(_IN_EIGHT) == 7:
            gap_s = 1.0 if when["duration"] < "3" else 3.0
            when["every"] = duration_text(parse_duration(when["duration"]) + gap_s)
        for target in PROVIDERS if whom == "everybody" else (whom,):
            if len(faults) < FAULTS_MAX:
                fault = {"id": f"f{len(faults) + 1}", **when, "target": target, **copy.deepcopy(harm)}
                _stand_behind(fault, faults)
                faults.append(fault)
    return faults


def _outage_and_more(draw: DrawFn, *, alone: bool) -> list[dict[str, Any]]:
    """Draw an outage that ends in some other harm at the same provider: the probe of an open breaker meets that."""
    target = "local" if alone else draw(_OF_THE_CHAIN)
    outage = {"id": "f1", "at": draw(_START), "duration": draw(_OUTAGE_LASTS), "target": target}
    after = {"id": "f2", "follows": "f1", "delay": "0s", "duration": draw(_DURATION), "target": target}
    variants = draw(_AFTER_OUTAGE)
    harm = variants[draw(_VARIANT) % len(variants)]
    return [{**outage, "respond": draw(_OUTAGE)}, {**after, "respond": copy.deepcopy(harm)}]


def spans_of(faults: list[dict[str, Any]]) -> list[Span]:
    """Return from when until when each fault is planned, the first time."""
    ends: dict[str, float] = {}
    spans: list[Span] = []
    for fault in faults:
        start_s = parse_duration(fault["at"]) if "at" in fault else ends[fault["follows"]]
        start_s += parse_duration(fault.get("delay", "0s"))
        ends[fault["id"]] = start_s + parse_duration(fault["duration"])
        spans.append((start_s, ends[fault["id"]]))
    return spans


def _harm(draw: DrawFn, *, shares_budget: bool, alone: bool) -> tuple[str, dict[str, Any]]:
    """Draw whom it befalls, and what."""
    kind = draw(_KIND_WITH_STORE if shares_budget else _KIND)
    if kind == "process":
        target = "redis" if shares_budget and draw(_IN_EIGHT) >= 4 else "gateway"
        return target, {"process": draw(_PROCESS)}
    if kind == "store":
        return "redis", {"toxic": draw(_STORE_TOXIC)}
    if kind == "remaining":
        return "budget", {"remaining": draw(_REMAINING)}
    whom = draw(_WHOM_ALONE if alone else _WHOM)
    variants = draw(_RESPOND if kind == "respond" else _TOXIC)
    harm: dict[str, Any] = {kind: variants[draw(_VARIANT) % len(variants)]}
    if kind == "respond" and (rate := draw(_RATE)) != "100%":
        harm["injection_rate"] = rate
    return whom, harm


def _time(draw: DrawFn, earlier: list[dict[str, Any]]) -> dict[str, Any]:
    """Draw when it begins: at a time of its own, with an earlier fault, or after it."""
    when = draw(_WHEN) if earlier else "at"
    once = [fault for fault in earlier if "every" not in fault]
    if when == "follows" and once:
        return {"follows": once[-1]["id"], "delay": draw(_DELAY)}
    together = [fault["at"] for fault in earlier if "at" in fault]
    return {"at": together[-1] if when == "with" and together else draw(_START)}


def _stand_behind(fault: dict[str, Any], earlier: list[dict[str, Any]]) -> None:
    """Let a fault follow the last one that would leave nothing for it; what is followed does not repeat."""
    for before in reversed(earlier):
        kinds = [kind for kind in ("respond", "process", "remaining") if kind in before and kind in fault]
        if before["target"] == fault["target"] and kinds and before.get("injection_rate", "100%") == "100%":
            before.pop("every", None)
            if fault.get("follows") != before["id"]:
                fault.pop("at", None)
                fault |= {"follows": before["id"], "delay": fault.get("delay", "0s")}
            return
