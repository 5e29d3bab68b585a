"""
What clients send, drawn: a few bursts around the faults, and single requests when all has healed.

A burst takes a few draws whatever its size, so that two hundred requests cost no more to draw than five. Most bursts
begin with a fault or just after its end: what a second of harm shows must not wait for a burst that happens to fall
into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from seawall.hunt.draw_faults import Span
from seawall.scenario.model import PROVIDERS

__all__ = ["REQUESTS_MAX", "draw_answers", "draw_load"]

REQUESTS_MAX = 200
_PLACE = st.sampled_from(("start", "start", "end", "anywhere"))
_START_S = st.sampled_from(tuple(half / 2 for half in range(31)))
_INTO_S = st.sampled_from((0.1, 0.0, 0.5, 1.0, 2.2))
_AFTER_S = st.sampled_from((0.1, 0.0, 1.0, 2.2, 4.5))
_WHICH = st.integers(0, 59)
_BURSTS = st.sampled_from((2, 1, 3, 2, 4, 5))
_COUNT = st.sampled_from((1, 3, 4, 2, 6, 1, 8, 3, 12, 4, 20, 40, 80))
_GAP_S = st.sampled_from((0.1, 0.0, 0.5, 0.02, 1.0, 0.25, 2.0))
_MODEL = st.sampled_from(("gemini",) * 6 + ("seawall", "claude", "openai", "local", "auto", "gpt-4o"))
_MODEL_ALONE = st.sampled_from(("seawall", "local"))
_TOKENS_MAX = st.sampled_from((64,) * 5 + (4, 16, 400))
_STREAMS = st.sampled_from(("half", "none", "all", "half"))
_TAIL = st.sampled_from((3, 1, 2, 3, 5))
_TAIL_GAP_S = 2.5  # more than a recovery timeout: what is measured anew then has been
# Short ones are quick to play; slow ones are still under way when something happens.
_ANSWER = st.sampled_from(
    (
        {"tokens": 6},
        {"tokens": 4, "tokens_per_second": 5},
        {"tokens": 6},
        {"tokens": 8, "tokens_per_second": 10},
        {},
        {"tokens": 30, "tokens_per_second": 50},
    )
)


def draw_load(
    draw: DrawFn, *, spans: Sequence[Span], healed_s: float, settled_s: float | None, alone: bool
) -> tuple[list[tuple[float, bool]], dict[str, Any]]:
    """
    Draw the requests (time, stream flag) and the other words of the load.

    The faults, whose first times are `spans`, are over at `healed_s`, and what they left behind at `settled_s`: single
    requests follow that, where it is known. `alone`: no provider but the local one may be asked.
    """
    arrivals: list[tuple[float, bool]] = []
    for _ in range(draw(_BURSTS)):
        at_s, count, gap_s, streams = _place(draw, spans), draw(_COUNT), draw(_GAP_S), draw(_STREAMS)
        arrivals += [(at_s + n * gap_s, _is_stream(streams, n)) for n in range(count)]
    tail = draw(_TAIL) if settled_s is not None else 0
    arrivals = sorted(arrivals)[: REQUESTS_MAX - tail - 1]
    # The load lasts as long as the faults, or those would not be met, nor healed within it.
    end_s = max(healed_s, arrivals[-1][0])
    arrivals += [(healed_s, False)] if arrivals[-1][0] < healed_s else []
    streams = draw(_STREAMS) if tail else "none"
    after_s = max(settled_s or 0.0, end_s + 1.0)
    arrivals += [(float(round(after_s + 0.5)) + _TAIL_GAP_S * n, _is_stream(streams, n)) for n in range(tail)]
    words: dict[str, Any] = {}
    model = draw(_MODEL_ALONE if alone else _MODEL)
    words |= {"model": model} if model != "gemini" else {}
    tokens = draw(_TOKENS_MAX)
    words |= {"max_tokens": tokens} if tokens != 64 else {}
    return arrivals, words


def draw_answers(draw: DrawFn) -> dict[str, Any]:
    """Draw how long the answers of all providers are, and how fast they come."""
    answer = draw(_ANSWER)
    return {provider: dict(answer) for provider in PROVIDERS} if answer else {}


def _place(draw: DrawFn, spans: Sequence[Span]) -> float:
    """Draw the time of a burst: into a fault, after one, or anywhere."""
    place = draw(_PLACE)
    if place == "anywhere":
        return draw(_START_S)
    start_s, end_s = spans[draw(_WHICH) % len(spans)]
    return round(start_s + draw(_INTO_S) if place == "start" else end_s + draw(_AFTER_S), 6)


def _is_stream(streams: str, n: int) -> bool:
    return streams == "all" or (streams == "half" and n % 2 == 1)
