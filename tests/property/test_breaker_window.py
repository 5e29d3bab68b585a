"""The window of a breaker that judges shares, one share at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.breaker import Breaker, BreakerOptions, BreakerState


def played(results: str, *, failed: float = 0.0, slow: float = 0.0) -> Breaker:
    """Return a breaker after calls: `g` good, `s` good and slow, `f` failed; a window of 6, judged from 4 on."""
    options = BreakerOptions(
        failure_threshold=100, failure_ratio=failed, slow_ratio=slow, slow_call_s=1.0, window=6, window_min=4
    )
    breaker = Breaker(options, draw=lambda: 0.0)
    for result in results:
        permit = breaker.acquire(0.0)
        if permit is None:
            break
        if result == "f":
            breaker.failure(permit, 0.0, "reset")
        else:
            breaker.success(permit, 0.0, 1.5 if result == "s" else 1.0)
    return breaker


@given(st.text("gsf", max_size=30), st.sampled_from([0.25, 0.5, 1.0]), st.booleans())
def test_a_share_that_is_not_set_opens_nothing(results: str, share: float, of_slow: bool) -> None:
    """With one share only, the other kind of bad call is a call like any other; a share of 1 takes all of them."""
    bad = "s" if of_slow else "f"
    breaker = played(results, failed=0.0 if of_slow else share, slow=share if of_slow else 0.0)
    ends = [results[max(0, n - 6) : n] for n in range(1, len(results) + 1)]
    opens = any(len(w) >= 4 and w[-1] == bad and w.count(bad) >= share * len(w) for w in ends)
    assert breaker.state is (BreakerState.OPEN if opens else BreakerState.CLOSED)


def test_after_an_opening_every_count_begins_at_nothing() -> None:
    """What was slow before the opening is in no share after it."""
    breaker = played("ssss", slow=0.6)
    probe = breaker.acquire(1000.0)
    assert probe is not None
    breaker.success(probe, 1000.0, 0.1)
    for took_s in (0.1, 0.1, 1.5, 1.5):
        permit = breaker.acquire(1000.0)
        assert permit is not None
        breaker.success(permit, 1000.0, took_s)
    assert breaker.state is BreakerState.CLOSED
    breaker = played("ffff", failed=0.6)
    probe = breaker.acquire(1000.0)
    assert probe is not None
    breaker.success(probe, 1000.0, 0.1)
    for result in "ggff":
        permit = breaker.acquire(1000.0)
        assert permit is not None
        if result == "f":
            breaker.failure(permit, 1000.0, "reset")
        else:
            breaker.success(permit, 1000.0, 0.1)
    assert breaker.state is BreakerState.CLOSED


def test_each_transition_tells_why() -> None:
    """Reports quote the cause of every transition, so it is part of what a breaker promises."""
    told: list[str] = []
    breaker = Breaker(
        BreakerOptions(failure_threshold=2), draw=lambda: 0.0, on_change=lambda _old, _new, _n, why: told.append(why)
    )
    assert breaker.cause == ""
    for now_s in (0.0, 0.0, 60.0):
        permit = breaker.acquire(now_s)
        assert permit is not None
        breaker.failure(permit, now_s, "reset")
    probe = breaker.acquire(120.0)
    assert probe is not None
    breaker.success(probe, 120.0)
    assert told == [
        "2 consecutive failures, the last reset",
        "recovery timeout over",
        "probe failed: reset",
        "recovery timeout over",
        "probe succeeded",
    ]
    assert breaker.cause == told[-1]
