"""The strategy of a whole schedule: settings, faults and load, put together to the document of a scenario."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from router.settings import Settings
from seawall.hunt.document import BASE_SETTINGS, Document, blank, settled, with_arrivals
from seawall.hunt.draw_faults import draw_faults, spans_of
from seawall.hunt.draw_load import draw_answers, draw_load
from seawall.hunt.draw_settings import draw_settings
from seawall.scenario.quantities import parse_duration
from seawall.verdicts.bounds import settling_s

__all__ = ["schedules"]

_SEED = st.integers(1, 8)
_IN_SIX = st.integers(0, 5)
_REPEATS = 3


@st.composite
def schedules(draw: DrawFn) -> Document:
    """Return a strategy for documents that the loader accepts, but for a few clashes of faults."""
    document = blank()
    document["seed"] = draw(_SEED)
    settings = BASE_SETTINGS | draw_settings(draw)
    shares_budget, alone = settings.get("BUDGET_STORE") == "redis", bool(settings.get("AIRGAP_MODE"))
    if draw(_IN_SIX) >= (3 if shares_budget else 5):
        document["system"]["workers"] = 2
    document["system"]["settings"] = settings
    faults = draw_faults(draw, shares_budget=shares_budget, alone=alone)
    spans = spans_of(faults)
    repeats_s = [_REPEATS * parse_duration(fault["every"]) if "every" in fault else 0.0 for fault in faults]
    healed_s = math.ceil(max(end_s + more_s for (_, end_s), more_s in zip(spans, repeats_s, strict=True)))
    arrivals, words = draw_load(
        draw,
        spans=spans,
        healed_s=healed_s,
        # What repeats does so as long as there is load: nothing comes to rest then.
        settled_s=None if any(repeats_s) else healed_s + _settling_s(settings, faults),
        alone=alone,
    )
    document["faults"] = faults
    document["load"] |= words
    if answers := draw_answers(draw):
        document["providers"] = answers
    return settled(with_arrivals(document, arrivals))


def _settling_s(settings: dict[str, Any], faults: list[dict[str, Any]]) -> float:
    """Return how long after the last fault its effects may last, as the verdicts see it."""
    pauses = [fault.get("respond", {}).get("retry_after", "0s") for fault in faults]
    return settling_s(_settings(tuple(settings.items())), [parse_duration(pause) for pause in pauses])


@lru_cache(maxsize=1024)
def _settings(written: tuple[tuple[str, Any], ...]) -> Settings:
    return Settings.from_mapping(dict(written))
