"""A breaker that another worker tells of an opening or a recovery, and what it says of itself meanwhile."""

from __future__ import annotations

import pytest

from router.breaker import Breaker, BreakerOptions, BreakerState

_OPTIONS = BreakerOptions(failure_threshold=2, recovery_timeout_s=10.0, backoff_factor=2.0)
_Told = list[tuple[BreakerState, BreakerState, int, str]]


def _breaker(told: _Told, options: BreakerOptions = _OPTIONS) -> Breaker:
    return Breaker(options, draw=lambda: 0.0, on_change=lambda *change: told.append(change))


def test_another_workers_opening_and_recovery_are_told_step_by_step() -> None:
    """Each transition is reported with its states, its generation and the cause that the other worker gave."""
    told: _Told = []
    breaker = _breaker(told)
    breaker.learn_open(50.0, "told by w2: reset")
    breaker.learn_closed("told by w2: probe succeeded")
    assert told == [
        (BreakerState.CLOSED, BreakerState.OPEN, 1, "told by w2: reset"),
        (BreakerState.OPEN, BreakerState.HALF_OPEN, 2, "told by w2: probe succeeded"),
        (BreakerState.HALF_OPEN, BreakerState.CLOSED, 3, "told by w2: probe succeeded"),
    ]
    assert breaker.cause == "told by w2: probe succeeded"


def test_after_anothers_recovery_failures_and_open_times_begin_anew() -> None:
    """As many failures as at first open it again, for as long as at first, however long the outage was."""
    breaker = _breaker([])
    for now_s in (0.0, 0.0):
        permit = breaker.acquire(now_s)
        assert permit is not None
        breaker.failure(permit, now_s, "reset")
    probe = breaker.acquire(10.0)
    assert probe is not None
    breaker.failure(probe, 10.0, "reset")
    assert breaker.soonest_probe_s(10.0) == pytest.approx(20.0)
    breaker.learn_closed("told")
    assert breaker.soonest_probe_s(10.0) == 0  # a closed breaker keeps nobody waiting, whenever its opening was to end
    permit = breaker.acquire(11.0)
    assert permit is not None
    assert permit.is_probe is False
    breaker.failure(permit, 11.0, "reset")
    assert breaker.state is BreakerState.CLOSED
    breaker.failure(permit, 11.0, "reset")
    assert breaker.state is BreakerState.OPEN
    assert breaker.soonest_probe_s(11.0) == pytest.approx(10.0)


def test_the_time_to_the_probe_is_exact() -> None:
    """It is a fraction of a second shortly before, and 0 while it is closed, when it is due, and during the probe."""
    breaker = _breaker([])
    assert breaker.soonest_probe_s(5.0) == 0
    breaker.learn_open(10.0, "told")
    assert breaker.soonest_probe_s(9.75) == pytest.approx(0.25)
    assert breaker.soonest_probe_s(10.5) == 0
    probe = breaker.acquire(10.5)
    assert probe is not None
    assert probe.is_probe is True
    assert breaker.is_probing is True
    assert breaker.soonest_probe_s(10.5) == 0
    breaker.release(probe)
    assert breaker.is_probing is False
