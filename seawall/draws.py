"""
Randomness by key, never by order.

Every draw is a pure function of the scenario's seed and the names of what it decides, so that two runs, two processes
and two arenas agree however their events interleave, and shrinking one request leaves all the others as they were.
"""

from __future__ import annotations

import hashlib
import math
from statistics import NormalDist

__all__ = ["lognormal_s", "unit"]

_P99_SIGMAS = NormalDist().inv_cdf(0.99)


def unit(seed: int, *key: str | int) -> float:
    """Return a number in [0, 1) that depends on nothing but `seed` and `key` (BLAKE2b, 53 bits)."""
    text = "\x1f".join(str(part) for part in (seed, *key))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def lognormal_s(p50_s: float, p99_s: float, draw: float) -> float:
    """Return the `draw` quantile, in seconds, of the log-normal distribution with this median and 99th percentile."""
    if p50_s <= 0 or p99_s <= p50_s:
        return max(p50_s, 0.0)
    sigma = math.log(p99_s / p50_s) / _P99_SIGMAS
    quantile = min(max(draw, 1e-9), 1 - 1e-9)
    return p50_s * math.exp(sigma * NormalDist().inv_cdf(quantile))
