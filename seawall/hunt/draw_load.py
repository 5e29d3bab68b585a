"""
Strategies: what clients send. A few bursts in the time of the faults, and single requests when all has healed.

A burst takes five draws whatever its size, so that two hundred requests cost no more to draw than five.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

__all__ = ["REQUESTS_MAX", "loads"]

REQUESTS_MAX = 200
_STARTS_S = tuple(half / 2 for half in range(31))
_COUNTS = (1, 3, 5, 2, 8, 4, 12, 6, 20, 3, 5, 10, 40, 80)
_GAPS_S = (0.1, 0.0, 0.5, 0.02, 1.0, 0.25, 2.0)
_MODELS = ("gemini", "gemini", "seawall", "claude", "openai", "local", "auto", "gpt-4o")
_STREAMS = ("none", "all", "half")


@st.composite
def loads(
    draw: DrawFn, *, healed_s: float, settled_s: float | None, airgap: bool
) -> tuple[list[tuple[float, bool]], Any]:
    """
    Return a strategy for the requests (time, stream flag) and the other words of the load.

    The faults are over at `healed_s`, and what they left behind at `settled_s`: some single requests follow that, where
    it is known.
    """
    arrivals: list[tuple[float, bool]] = []
    for _ in range(draw(st.integers(1, 5))):
        at_s, count, gap_s = draw(st.sampled_from(_STARTS_S)), draw(st.sampled_from(_COUNTS)), draw(_gaps())
        streams = draw(st.sampled_from(_STREAMS))
        arrivals += [(at_s + n * gap_s, _is_stream(streams, n)) for n in range(count)]
    tail = draw(st.integers(0, 5)) if settled_s is not None else 0
    arrivals = sorted(arrivals)[: REQUESTS_MAX - tail - 1]
    # The load lasts as long as the faults, or those would not be met, nor healed within it.
    end_s = max(healed_s, arrivals[-1][0])
    arrivals += [(healed_s, False)] if arrivals[-1][0] < healed_s else []
    streams = draw(st.sampled_from(_STREAMS)) if tail else "none"
    after_s = max(settled_s or 0.0, end_s + 1.0)
    arrivals += [(float(round(after_s + 0.5)) + 2.0 * n, _is_stream(streams, n)) for n in range(tail)]
    words: dict[str, Any] = {}
    model = draw(st.sampled_from(("seawall", "local") if airgap else _MODELS))
    words |= {"model": model} if model != "gemini" else {}
    tokens = draw(st.sampled_from((64, 64, 64, 8, 16, 400)))
    words |= {"max_tokens": tokens} if tokens != 64 else {}
    return arrivals, words


def _gaps() -> st.SearchStrategy[float]:
    return st.sampled_from(_GAPS_S)


def _is_stream(streams: str, n: int) -> bool:
    return streams == "all" or (streams == "half" and n % 2 == 1)
