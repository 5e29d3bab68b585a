"""What holds in every run without being written in a scenario: the list, in the order of the report. Pure."""

from __future__ import annotations

from collections.abc import Callable

from seawall.verdicts import (
    answers,
    bookings,
    calls,
    conduct,
    failover,
    liveness,
    pauses,
    scaling,
    secrets,
    spending,
    transitions,
    unbroken,
    undoing,
)
from seawall.verdicts.case import Case
from seawall.verdicts.model import Check

__all__ = ["INVARIANTS", "check_invariants"]

INVARIANTS: tuple[Callable[[Case], Check], ...] = (
    answers.accounted_for,
    answers.not_disguised,
    answers.not_cut,
    answers.not_hung,
    answers.refused_cleanly,
    liveness.ends_in_time,
    unbroken.the_unbroken_answers,
    liveness.refused_at_once,
    liveness.well_again,
    liveness.first_bytes_in_time,
    failover.fails_over_in_order,
    conduct.goes_on_at_once,
    conduct.asks_for_what_was_asked,
    conduct.leaves_a_stream_that_stops,
    calls.air_gap_holds,
    calls.no_call_while_open,
    calls.one_probe_at_a_time,
    conduct.opens_at_its_threshold,
    conduct.rests_for_its_time,
    conduct.cools_down_for_whom_asked,
    conduct.fast_only_when_measured_so,
    pauses.retry_after_is_not_waited_for,
    pauses.retry_after_is_obeyed,
    conduct.calls_end_with_their_request,
    calls.calls_are_attempts,
    calls.successes_are_calls,
    calls.answers_are_successes,
    conduct.no_broken_answer_is_good,
    transitions.transitions_are_legal,
    transitions.openings_have_failures,
    transitions.closings_have_a_probe,
    transitions.not_stuck,
    liveness.nobody_rests_for_ever,
    spending.spend_within_limit,
    spending.reservations_are_closed,
    spending.total_is_the_sum,
    bookings.paid_calls_are_reserved,
    bookings.settled_at_their_price,
    scaling.stays_within_bounds,
    scaling.follows_the_metrics,
    scaling.keeps_its_window,
    undoing.faults_keep_their_windows,
    secrets.nothing_is_told,
)
"""
What clients suffer first, then what the router does, then what it says of itself: of two checks that the same request
breaks, the first is the one that tells why.
"""


def check_invariants(case: Case) -> list[Check]:
    """Return one check an invariant; one that had nothing to examine passes and says so."""
    return [examine(case) for examine in INVARIANTS]
