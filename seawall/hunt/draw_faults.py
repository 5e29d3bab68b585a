"""Strategies: what goes wrong. Every fault that the simulation takes, on a coarse grid of times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from seawall.scenario.quantities import duration_text, parse_duration

__all__ = ["FAULTS_MAX", "fault_lists"]

FAULTS_MAX = 5
_STARTS = tuple(duration_text(half / 2) for half in range(2, 25))
_DELAYS = ("0s", "1s", "2s", "5s")
_DURATIONS = ("1s", "2s", "3s", "5s", "500ms", "8s")
_PROVIDERS = ("gemini", "claude", "openai", "local", "gemini")  # most loads prefer the first
_RATES = ("100%", "50%", "20%", "80%")

# In families, of which each is drawn as often as the others: there are more ways to answer wrongly than to be slow.
_Family = tuple[dict[str, Any], ...]
_OUTAGES: _Family = ({"status": 503}, {"status": 500}, {"hang": True}, {"status": 529}, {"status": 408})
_PAUSES: _Family = (
    {"status": 429, "retry_after": "2s"},
    {"status": 429, "retry_after": "10s"},
    {"status": 503, "retry_after": "5s"},
    {"status": 429},
)
_SLOW: _Family = (
    {"first_token": "800ms"},
    {"first_token": "300ms"},
    {"first_token": "600ms"},
    {"first_token": "3s"},
    {"dribble": "200ms"},
    {"dribble": "3s"},
)
_BROKEN: _Family = (
    {"cut_after_chunks": 5},
    {"cut_after_chunks": 0},
    {"cut_after_chunks": 1},
    {"cut_after_chunks": 15},
    {"error_event": True},
    {"no_done": True},
    {"truncated": True},
)
# Not duplicate_chunks: nobody can tell a token that is sent twice from one that is said twice (docs/behaviours.md).
_ODD: _Family = (
    {"malformed": True},
    {"empty": True},
    {"html": True},
    {"content_type": "text/plain"},
    {"wrong_usage": True},
    {"content_filter": True},
    {"wrong_model": True},
)
_REFUSALS: _Family = (
    {"status": 400},
    {"status": 401},
    {"status": 403},
    {"status": 404},
    {"status": 413},
    {"status": 422},
)
_RESPONDS = (_OUTAGES, _OUTAGES, _SLOW, _PAUSES, _BROKEN, _ODD, _REFUSALS)
_GONE: _Family = (
    {"type": "down"},
    {"type": "timeout", "attributes": {"timeout": 0}},
    {"type": "reset_peer", "attributes": {"timeout": 0}},
    {"type": "reset_peer", "attributes": {"timeout": 100}},
    {"type": "timeout", "attributes": {"timeout": 500}},
    {"type": "timeout", "attributes": {"timeout": 0}, "stream": "upstream"},
)
_LATE: _Family = (
    {"type": "latency", "attributes": {"latency": 900}},
    {"type": "latency", "attributes": {"latency": 300}},
    {"type": "latency", "attributes": {"latency": 5000}},
    {"type": "latency", "attributes": {"latency": 400, "jitter": 300}},
    {"type": "latency", "attributes": {"latency": 300}, "stream": "upstream"},
)
_SCANT: _Family = (
    {"type": "limit_data", "attributes": {"bytes": 1500}},
    {"type": "limit_data", "attributes": {"bytes": 300}},
    {"type": "bandwidth", "attributes": {"rate": 1}},
    {"type": "slicer", "attributes": {"average_size": 16, "delay": 20_000}},
    {"type": "slow_close", "attributes": {"delay": 1000}},
)
_TOXICS = (_GONE, _LATE, _SCANT)
_STORE_TOXICS: tuple[dict[str, Any], ...] = (
    {"type": "down"},
    {"type": "latency", "attributes": {"latency": 100}},
    {"type": "latency", "attributes": {"latency": 2000}},
    {"type": "timeout", "attributes": {"timeout": 0}},
    {"type": "reset_peer", "attributes": {"timeout": 0}},
)
_PROCESSES = ("kill", "stop", "restart")


@st.composite
def fault_lists(draw: DrawFn, *, shares_budget: bool) -> list[dict[str, Any]]:
    """Return a strategy for the faults of one schedule; with a budget in Redis, that is a target too."""
    count = draw(st.integers(1, FAULTS_MAX))
    kinds = _kinds(shares_budget=shares_budget)
    faults: list[dict[str, Any]] = []
    for n in range(count):
        harm = draw(draw(st.sampled_from(kinds)))
        before = _in_the_way(faults, harm)
        fault = (
            {"id": f"f{n + 1}"} | draw(_times([before] if before else faults, must_follow=before is not None)) | harm
        )
        if "process" not in harm and harm["target"] != "budget" and draw(st.integers(0, 7)) == 7:
            fault["every"] = duration_text(parse_duration(fault["duration"]) + draw(st.sampled_from((1.0, 3.0))))
        faults.append(fault)
    return faults


def _kinds(*, shares_budget: bool) -> Sequence[SearchStrategy[dict[str, Any]]]:
    """Return what may go wrong, as often as it is to be drawn."""
    provider = st.sampled_from(_PROVIDERS)
    harm, toxics = _member(_RESPONDS), _member(_TOXICS)
    respond = st.fixed_dictionaries({"target": provider, "respond": harm})
    partly = st.fixed_dictionaries({"target": provider, "respond": harm, "injection_rate": st.sampled_from(_RATES)})
    toxic = st.fixed_dictionaries({"target": provider, "toxic": toxics})
    kinds = [respond, respond, respond, toxic, toxic, partly, _process(("gateway",))]
    if shares_budget:
        remaining = st.sampled_from(("0 USD", "0.0005 USD", "0.002 USD"))
        kinds += [
            st.fixed_dictionaries({"target": st.just("redis"), "toxic": st.sampled_from(_STORE_TOXICS)}),
            st.fixed_dictionaries({"target": st.just("budget"), "remaining": remaining}),
            _process(("redis", "gateway")),
        ]
    return kinds


def _member(families: tuple[_Family, ...]) -> SearchStrategy[dict[str, Any]]:
    return st.one_of(*(st.sampled_from(family) for family in families))


def _process(targets: Sequence[str]) -> SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"target": st.sampled_from(targets), "process": st.sampled_from(_PROCESSES)})


def _in_the_way(faults: list[dict[str, Any]], harm: dict[str, Any]) -> dict[str, Any] | None:
    """Return the last fault that leaves nothing for `harm` while it is in force; what is followed does not repeat."""
    for fault in reversed(faults):
        kinds = [kind for kind in ("respond", "process", "remaining") if kind in fault and kind in harm]
        if fault["target"] == harm["target"] and kinds and fault.get("injection_rate", "100%") == "100%":
            fault.pop("every", None)
            return fault
    return None


@st.composite
def _times(draw: DrawFn, earlier: list[dict[str, Any]], *, must_follow: bool) -> dict[str, Any]:
    fault: dict[str, Any] = {}
    ids = [fault["id"] for fault in earlier if "every" not in fault]
    if must_follow or (ids and draw(st.integers(0, 3)) == 3):
        fault |= {"follows": draw(st.sampled_from(ids)), "delay": draw(st.sampled_from(_DELAYS))}
    else:
        fault["at"] = draw(st.sampled_from(_STARTS))
    return fault | {"duration": draw(st.sampled_from(_DURATIONS))}
