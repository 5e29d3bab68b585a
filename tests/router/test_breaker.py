"""The breaker: exact in its states, whatever the order of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.breaker import Breaker, BreakerOptions, BreakerState, Permit

OPTIONS = BreakerOptions(failure_threshold=3, recovery_timeout_s=10.0)


def _opened(breaker: Breaker, now_s: float = 0.0) -> None:
    for _ in range(OPTIONS.failure_threshold):
        permit = breaker.acquire(now_s)
        assert permit is not None
        breaker.failure(permit, now_s, "reset")


def test_opens_after_exactly_the_threshold_of_consecutive_failures() -> None:
    """Two failures, a success and two failures leave it closed; a third in a row opens it."""
    breaker = Breaker(OPTIONS, draw=lambda: 0.0)
    for outcome in "ffsff":
        permit = breaker.acquire(0.0)
        assert permit is not None
        if outcome == "f":
            breaker.failure(permit, 0.0, "reset")
        else:
            breaker.success(permit)
    assert breaker.state is BreakerState.CLOSED
    permit = breaker.acquire(0.0)
    assert permit is not None
    breaker.failure(permit, 0.0, "reset")
    assert breaker.state is BreakerState.OPEN
    assert breaker.acquire(9.99) is None


def test_half_open_gives_exactly_one_probe() -> None:
    """After the recovery timeout one caller gets through; the others only when it has come back."""
    breaker = Breaker(OPTIONS, draw=lambda: 0.0)
    _opened(breaker)
    probe = breaker.acquire(10.0)
    assert probe is not None
    assert probe.is_probe
    assert breaker.acquire(10.0) is None
    breaker.success(probe)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.acquire(10.0) is not None


def test_cancelled_probe_gives_its_slot_back() -> None:
    """A probe whose caller left neither closes nor reopens: the next caller probes."""
    breaker = Breaker(OPTIONS, draw=lambda: 0.0)
    _opened(breaker)
    probe = breaker.acquire(10.0)
    assert probe is not None
    breaker.release(probe)
    again = breaker.acquire(10.0)
    assert again is not None
    assert again.is_probe
    assert breaker.state is BreakerState.HALF_OPEN


def test_late_results_change_nothing() -> None:
    """A call from before the opening can neither close the breaker nor lengthen its open time."""
    breaker = Breaker(OPTIONS, draw=lambda: 0.0)
    late = breaker.acquire(0.0)
    assert late is not None
    _opened(breaker)
    breaker.success(late)
    assert breaker.state is BreakerState.OPEN
    breaker.failure(late, 9.0, "reset")
    assert breaker.soonest_probe_s(9.0) == 1.0
    breaker.release(late)
    probe = breaker.acquire(10.0)
    assert probe is not None
    breaker.success(late)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.acquire(10.0) is None


def test_jitter_only_lengthens_and_back_off_is_capped() -> None:
    """The open time is never below the recovery timeout nor above the cap and its tenth."""
    options = BreakerOptions(
        failure_threshold=1, recovery_timeout_s=10.0, backoff_factor=3.0, recovery_timeout_max_s=50.0
    )
    for draw in (0.0, 0.5, 0.999):
        breaker = Breaker(options, draw=lambda value=draw: value)
        now_s = 0.0
        expected = [10.0, 30.0, 50.0, 50.0]
        for open_s in expected:
            permit = breaker.acquire(now_s)
            assert permit is not None
            breaker.failure(permit, now_s, "reset")
            assert breaker.soonest_probe_s(now_s) == pytest.approx(open_s * (1 + 0.1 * draw))
            now_s += breaker.soonest_probe_s(now_s)


class BreakerMachine(RuleBasedStateMachine):
    """Any order of calls, results, cancellations and time, against what a breaker promises."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.changes: list[tuple[BreakerState, BreakerState, int]] = []
        self.breaker = Breaker(
            OPTIONS, draw=lambda: 0.0, on_change=lambda old, new, n, cause: self.changes.append((old, new, n))
        )
        self.flying: list[Permit] = []
        self.opened_at_s: float | None = None

    @rule()
    def call(self) -> None:
        """A caller asks; what it gets must agree with the state before."""
        state, allowed = self.breaker.state, self.breaker.allows(self.now_s)
        permit = self.breaker.acquire(self.now_s)
        assert (permit is not None) is allowed
        if permit is None:
            assert state is not BreakerState.CLOSED
            return
        if state is BreakerState.OPEN:
            assert self.opened_at_s is not None
            assert self.now_s - self.opened_at_s >= OPTIONS.recovery_timeout_s
        assert permit.is_probe is (state is not BreakerState.CLOSED)
        self.flying.append(permit)

    @rule(pick=st.integers(0, 99), result=st.sampled_from(["success", "failure", "release"]))
    def end(self, pick: int, result: str) -> None:
        """Some call ends somehow."""
        if not self.flying:
            return
        permit = self.flying.pop(pick % len(self.flying))
        before = self.breaker.state, self.breaker.generation
        stale = permit.generation != self.breaker.generation
        match result:
            case "success":
                self.breaker.success(permit)
            case "failure":
                self.breaker.failure(permit, self.now_s, "reset")
            case _:
                self.breaker.release(permit)
        if stale or result == "release":
            assert (self.breaker.state, self.breaker.generation) == before
        if self.breaker.state is BreakerState.OPEN and before[0] is not BreakerState.OPEN:
            self.opened_at_s = self.now_s

    @rule(seconds=st.floats(0.0, 15.0))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now_s += seconds

    @invariant()
    def at_most_one_probe(self) -> None:
        """Never two probes of the current generation in flight."""
        probes = [p for p in self.flying if p.is_probe and p.generation == self.breaker.generation]
        assert len(probes) <= 1

    @invariant()
    def transitions_are_legal(self) -> None:
        """Only the arrows of the state diagram, and each raises the generation by one."""
        legal = {
            (BreakerState.CLOSED, BreakerState.OPEN),
            (BreakerState.OPEN, BreakerState.HALF_OPEN),
            (BreakerState.HALF_OPEN, BreakerState.OPEN),
            (BreakerState.HALF_OPEN, BreakerState.CLOSED),
        }
        assert all((old, new) in legal for old, new, _ in self.changes)
        assert [n for _, _, n in self.changes] == list(range(1, len(self.changes) + 1))

    @invariant()
    def never_stuck(self) -> None:
        """With nobody probing, a call is allowed at the latest one open period from now."""
        probing = any(p.is_probe and p.generation == self.breaker.generation for p in self.flying)
        if not probing:
            assert self.breaker.allows(self.now_s + OPTIONS.recovery_timeout_s)


BreakerMachine.TestCase.settings = hypothesis_settings(max_examples=200, stateful_step_count=40, deadline=None)
TestBreakerMachine = BreakerMachine.TestCase


RATIOS = BreakerOptions(
    failure_threshold=100,
    failure_ratio=0.5,
    slow_ratio=0.6,
    slow_call_s=1.0,
    window=10,
    window_min=4,
    recovery_timeout_s=10.0,
)


def _played(breaker: Breaker, results: str) -> None:
    """Play calls: `g` good, `s` good and slow, `f` failed."""
    for result in results:
        permit = breaker.acquire(0.0)
        assert permit is not None
        if result == "f":
            breaker.failure(permit, 0.0, "reset")
        else:
            breaker.success(permit, 0.0, 1.5 if result == "s" else 0.5)


@pytest.mark.parametrize(
    ("results", "cause"),
    [
        ("fff", None),
        ("ggff", "2 of the last 4 calls failed, the last reset"),
        ("gggggffgf", None),
        ("ggggggfff" + "gg", None),
        ("fgfgggggggggg" + "gfgfgfgff", "5 of the last 10 calls failed, the last reset"),
        ("sssg", None),
        ("gsss", "3 of the last 4 calls were slow"),
        ("ggsss", "3 of the last 5 calls were slow"),
        ("sgsfgsg", None),
    ],
)
def test_a_share_of_the_latest_calls_opens_it(results: str, cause: str | None) -> None:
    """Failures and slow answers are each judged over the window, from its least number of calls on."""
    causes: list[str] = []
    breaker = Breaker(RATIOS, draw=lambda: 0.0, on_change=lambda old, new, n, why: causes.append(why))
    _played(breaker, results)
    assert causes == ([] if cause is None else [cause])
    assert breaker.state is (BreakerState.CLOSED if cause is None else BreakerState.OPEN)


def test_a_closed_breaker_begins_a_new_window() -> None:
    """What was bad before the opening does not count again after it."""
    breaker = Breaker(RATIOS, draw=lambda: 0.0)
    _played(breaker, "ggff")
    probe = breaker.acquire(10.0)
    assert probe is not None
    breaker.success(probe, 10.0, 9.0)
    _played(breaker, "fff")
    assert breaker.state is BreakerState.CLOSED
    _played(breaker, "f")
    assert breaker.state is BreakerState.OPEN


def test_late_and_cancelled_results_are_in_no_window() -> None:
    """A result of an older generation, and a call that was given up, are no calls of the window."""
    breaker = Breaker(RATIOS, draw=lambda: 0.0)
    late = [breaker.acquire(0.0) for _ in range(5)]
    _played(breaker, "ggff")
    probe = breaker.acquire(10.0)
    assert probe is not None
    breaker.success(probe, 10.0, 0.1)
    for permit in late:
        assert permit is not None
        breaker.failure(permit, 11.0, "reset")
        given_up = breaker.acquire(11.0)
        assert given_up is not None
        breaker.release(given_up)
    assert breaker.state is BreakerState.CLOSED


@given(st.text("gsf", max_size=80))
def test_ratios_are_those_of_the_last_calls(results: str) -> None:
    """It opens with the first bad call after which the last ten, at least four, are bad by a ratio; never otherwise."""
    breaker = Breaker(RATIOS, draw=lambda: 0.0)
    for n, result in enumerate(results, start=1):
        _played(breaker, result)
        latest = results[max(0, n - 10) : n]
        enough = len(latest) >= 4
        failed = result == "f" and latest.count("f") >= 0.5 * len(latest)
        slow = result == "s" and latest.count("s") >= 0.6 * len(latest)
        assert (breaker.state is BreakerState.OPEN) is (enough and (failed or slow))
        if breaker.state is BreakerState.OPEN:
            return
