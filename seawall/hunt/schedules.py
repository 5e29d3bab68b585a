"""The strategy of a whole schedule: settings, faults and load, put together to the document of a scenario."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from router.settings import Settings
from seawall.hunt.document import BASE_SETTINGS, Document, blank, settled, with_arrivals
from seawall.hunt.draw_faults import fault_lists
from seawall.hunt.draw_load import loads
from seawall.hunt.draw_settings import settings_of_a_user
from seawall.scenario.quantities import parse_duration
from seawall.verdicts.bounds import settling_s

__all__ = ["schedules"]

_SEEDS = 8
_REPEATS = 3


@st.composite
def schedules(draw: DrawFn) -> Document:
    """Return a strategy for documents that the loader accepts, but for a few clashes of faults."""
    document = blank()
    document["seed"] = 1 + draw(st.integers(0, _SEEDS - 1))
    settings = BASE_SETTINGS | draw(settings_of_a_user())
    if draw(st.integers(0, 5)) == 5:
        document["system"]["workers"] = 2
    document["system"]["settings"] = settings
    faults = draw(fault_lists(shares_budget=settings.get("BUDGET_STORE") == "redis"))
    healed_s = _healed_s(faults)
    repeats = any("every" in fault for fault in faults)
    arrivals, words = draw(
        loads(
            healed_s=healed_s,
            # What repeats does so as long as there is load: nothing comes to rest then.
            settled_s=None if repeats else healed_s + _settling_s(settings, faults),
            airgap=bool(settings.get("AIRGAP_MODE")),
        )
    )
    document["faults"] = faults
    document["load"] |= words
    return settled(with_arrivals(document, arrivals))


def _healed_s(faults: list[dict[str, Any]]) -> float:
    """Return when the last fault of a schedule ends, a few repeats of those that repeat included."""
    ends: dict[str, float] = {}
    for fault in faults:
        start_s = parse_duration(fault["at"]) if "at" in fault else ends[fault["follows"]]
        start_s += parse_duration(fault.get("delay", "0s"))
        repeats_s = _REPEATS * parse_duration(fault["every"]) if "every" in fault else 0.0
        ends[fault["id"]] = start_s + repeats_s + parse_duration(fault["duration"])
    return math.ceil(max(ends.values()))


def _settling_s(settings: dict[str, Any], faults: list[dict[str, Any]]) -> float:
    """Return how long after the last fault its effects may last, as the verdicts see it."""
    pauses = [fault.get("respond", {}).get("retry_after", "0s") for fault in faults]
    return settling_s(_settings(tuple(settings.items())), [parse_duration(pause) for pause in pauses])


@lru_cache(maxsize=1024)
def _settings(written: tuple[tuple[str, Any], ...]) -> Settings:
    return Settings.from_mapping(dict(written))
