"""The breaker against a model that is obviously right: in any interleaving they allow the same calls."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from router.breaker import Breaker, BreakerOptions, BreakerState, Permit

HALF_OPEN_SHARE_MIN = 0.35
"""Of all examples: 0.6 to 0.8 reach half-open. An example that does not says little about a breaker."""


class Model:
    """What a breaker promises, told as plainly as can be: what is known is kept, and the state follows from it."""

    def __init__(self, options: BreakerOptions) -> None:
        self.options = options
        self.failures_in_a_row = 0
        self.opened_at_s: float | None = None
        self.open_for_s = options.recovery_timeout_s
        self.probing: bool = False
        self.half_open = False
        self.epoch = 0

    def may_call(self, now_s: float) -> bool:
        """Whether a call may start."""
        if self.opened_at_s is None:
            return True
        return not self.probing and (self.half_open or now_s >= self.opened_at_s + self.open_for_s * 1.05)

    def called(self) -> None:
        """A call has started."""
        if self.opened_at_s is not None:
            self.epoch += not self.half_open
            self.half_open = self.probing = True

    def succeeded(self) -> None:
        """A call of this epoch was good."""
        self.failures_in_a_row = 0
        if self.probing:
            self.opened_at_s, self.half_open, self.probing = None, False, False
            self.open_for_s = self.options.recovery_timeout_s
            self.epoch += 1

    def failed(self, now_s: float) -> None:
        """A call of this epoch was bad."""
        if self.probing:
            longest_s = max(self.options.recovery_timeout_max_s, self.options.recovery_timeout_s)
            self.open_for_s = min(self.open_for_s * self.options.backoff_factor, longest_s)
            self._open(now_s)
            return
        self.failures_in_a_row += 1
        if self.failures_in_a_row == self.options.failure_threshold:
            self._open(now_s)

    def _open(self, now_s: float) -> None:
        self.opened_at_s, self.half_open, self.probing = now_s, False, False
        self.failures_in_a_row = 0
        self.epoch += 1


class BreakerAgainstModel(RuleBasedStateMachine):
    """Calls, results, late results, cancellations and clock moves in any order. The jitter is half of the most."""

    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.flying: list[tuple[Permit, int]] = []
        self.reached: set[str] = set()

    @initialize(
        threshold=st.integers(1, 3),
        factor=st.sampled_from([1.0, 2.0]),
        longest_s=st.sampled_from([5.0, 10.0, 35.0]),
    )
    def begin(self, threshold: int, factor: float, longest_s: float) -> None:
        """A breaker with options of its own."""
        options = BreakerOptions(
            failure_threshold=threshold,
            recovery_timeout_s=10.0,
            backoff_factor=factor,
            recovery_timeout_max_s=longest_s,
        )
        self.model = Model(options)
        self.breaker = Breaker(options, draw=lambda: 0.5)

    @rule(times=st.integers(1, 4))
    def call(self, times: int) -> None:
        """Callers ask."""
        for _ in range(times):
            allowed = self.model.may_call(self.now_s)
            assert self.breaker.allows(self.now_s) is allowed
            permit = self.breaker.acquire(self.now_s)
            assert (permit is not None) is allowed
            if permit is not None:
                self.model.called()
                assert permit.is_probe is self.model.probing
                self.flying.append((permit, self.model.epoch))

    @precondition(lambda self: self.flying)
    @rule(pick=st.integers(0, 99), result=st.sampled_from(["good", "bad", "bad", "cancelled"]))
    def end(self, pick: int, result: str) -> None:
        """Some call ends somehow; one of an epoch that is over changes nothing."""
        permit, epoch = self.flying.pop(pick % len(self.flying))
        is_late = epoch != self.model.epoch
        self.reached |= {"late"} if is_late else {result} if permit.is_probe else set()
        if result == "good":
            self.breaker.success(permit, self.now_s)
        elif result == "bad":
            self.breaker.failure(permit, self.now_s, "reset")
        else:
            self.breaker.release(permit)
        if is_late:
            return
        if result == "good":
            self.model.succeeded()
        elif result == "bad":
            self.model.failed(self.now_s)
        elif permit.is_probe:
            self.model.probing = False

    @precondition(lambda self: self.flying)
    @rule()
    def all_fail(self) -> None:
        """What is under way fails, as it does when a provider dies."""
        while self.flying:
            self.end(0, "bad")

    @rule()
    def outage(self) -> None:
        """A provider dies: what is under way fails, what comes then too, and later somebody asks again."""
        self.call(4)
        self.all_fail()
        self.now_s += self.model.open_for_s * 1.05 + 1e-6
        self.call(1)

    @rule(seconds=st.floats(0.0, 12.0))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now_s += seconds

    @precondition(lambda self: self.model.opened_at_s is not None and not self.model.half_open)
    @rule(early_s=st.sampled_from([0.0, 0.001, -0.001]))
    def wait_for_the_probe(self, early_s: float) -> None:
        """Time passes until the moment at which a probe is due, or a millisecond off it, and somebody asks."""
        assert self.model.opened_at_s is not None
        self.now_s = max(self.now_s, self.model.opened_at_s + self.model.open_for_s * 1.05 - early_s)
        self.call(1)

    @invariant()
    def agree(self) -> None:
        """Both are in the same state, and say the same of the time to the next probe."""
        if not hasattr(self, "model"):
            return
        model = self.model
        half_open = BreakerState.HALF_OPEN if model.half_open else BreakerState.OPEN
        assert self.breaker.state is (BreakerState.CLOSED if model.opened_at_s is None else half_open)
        assert self.breaker.generation == model.epoch
        assert self.breaker.is_probing is model.probing
        wait_s = 0.0
        if model.opened_at_s is not None and not model.half_open:
            wait_s = max(0.0, model.opened_at_s + model.open_for_s * 1.05 - self.now_s)
        assert self.breaker.soonest_probe_s(self.now_s) == pytest.approx(wait_s, abs=1e-6)
        self.reached |= {str(self.breaker.state)}

    def teardown(self) -> None:
        """Count what this example has come to."""
        self.seen.update([*self.reached, "examples"])


def test_any_interleaving_leaves_breaker_and_model_in_the_same_state() -> None:
    """Two hundred histories, of which most come to half-open, and many to a late result and to a cancelled probe."""
    BreakerAgainstModel.seen.clear()
    machine: Any = BreakerAgainstModel
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine, settings=hypothesis_settings(max_examples=200, stateful_step_count=40, deadline=None)
    )
    seen, examples = BreakerAgainstModel.seen, BreakerAgainstModel.seen["examples"]
    assert examples >= 200
    assert seen["half_open"] / examples >= HALF_OPEN_SHARE_MIN, seen
    for what, share_min in {"late": 0.1, "cancelled": 0.03, "good": 0.1, "bad": 0.1}.items():
        assert seen[what] / examples >= share_min, (what, seen)
