"""The time words of the scenario language: always, sometimes, eventually."""

from __future__ import annotations

import msgspec
import pytest
from journal_builder import WORKER, healthy, ns
from verdict_judging import expecting, inject, judged, one

from seawall.journal.events import Attempt, BreakerChange, CallRecord, End, Fault, RequestRecord
from seawall.verdicts.model import Verdict

# always


def test_always_during_counts_calls_that_arrive_in_the_measured_time() -> None:
    """Calls to Gemini during the dark are the 22 before the opening and two probes; the limit is on their number."""
    at = one("always", "calls_to: gemini, during: dark, at_most: 24")
    assert (at.verdict, at.figure, at.margin, at.examined) == (Verdict.PASS, "at most 24", "0 inside", 1)
    over = one("always", "calls_to: gemini, during: dark, at_most: 23")
    assert (over.verdict, len(over.evidence)) == (Verdict.FAIL, 1)
    assert "gemini was called during dark" in over.reason


def test_always_holds_in_each_time_for_itself() -> None:
    """Of a fault that repeats the fullest occurrence counts, not the sum."""
    run = healthy(expecting("always", "calls_to: gemini, during: dark, at_most: 24"))
    inject(run, "dark", 32, 33)
    check = judged(run, "always")
    assert (check.verdict, check.figure, check.examined) == (Verdict.PASS, "at most 24", 2)


def test_always_while_closed_counts_from_a_breaker_that_never_reported() -> None:
    """A provider without breaker events was closed all the time."""
    check = one("always", "calls_to: claude, while: closed, at_most: 244")
    assert (check.verdict, check.figure) == (Verdict.FAIL, "at most 245")


def test_always_while_half_open_does_not_count_the_probe() -> None:
    """The one call that half-open is there for is none too many."""
    check = one("always", "calls_to: gemini, while: half_open, at_most: 0")
    assert (check.verdict, check.examined) == (Verdict.PASS, 2)


def test_always_of_a_fault_that_was_never_in_force_is_invalid() -> None:
    """An `always` is checked at least once, or it proves nothing."""
    run = healthy(expecting("always", "calls_to: gemini, during: dark, at_most: 99"))
    run.drop(*run.of(Fault, id="dark", phase="active"))
    assert judged(run, "always").verdict is Verdict.INVALID


# sometimes


@pytest.mark.parametrize("reason", ["error", "interrupted", "stopped"])
def test_what_a_broken_off_run_has_not_shown_is_invalid(reason: str) -> None:
    """A run that did not come to its end might have shown it later: it is no failure."""
    run = healthy(expecting("sometimes", 'served_by: openai, requests: ">= 1"'))
    assert judged(run, "sometimes").verdict is Verdict.FAIL
    (end,) = run.of(End)
    end.reason = reason  # type: ignore[assignment]
    check = judged(run, "sometimes")
    assert (check.verdict, "broken off" in check.reason) == (Verdict.INVALID, True)


@pytest.mark.parametrize(
    ("line", "verdict", "figure"),
    [
        ('served_by: claude, requests: ">= 140", during: dark', "pass", "160 requests"),
        ('served_by: openai, requests: ">= 1"', "fail", "0 requests"),
        ('served_by: openai, requests: "== 0"', "pass", "0 requests"),
        ('refused: all_clouds_down, requests: ">= 1"', "fail", "0 requests"),
        ("breaker: gemini, reaches: half_open, during: dark", "pass", "1 times"),
        ("breaker: gemini, reaches: closed, during: dark", "fail", "0 times"),
        ("breaker: claude, reaches: open", "fail", "0 times"),
    ],
)
def test_sometimes_counts_what_happened_in_its_time(line: str, verdict: str, figure: str) -> None:
    """What is watched, when and how often: the figure is the count, a miss is a failure of the system."""
    check = one("sometimes", line)
    assert (check.verdict, check.figure) == (verdict, figure)
    assert figure in check.reason


def test_a_miss_during_a_fault_depends_on_that_fault_only() -> None:
    """That another fault was not met does not excuse it."""
    run = healthy(expecting("sometimes", "breaker: gemini, reaches: closed, during: dark"))
    run.drop(*run.of(Fault, id="throttle", phase="met"))
    assert judged(run, "sometimes").verdict is Verdict.FAIL
    run.drop(*run.of(Fault, id="dark", phase="met"))
    assert judged(run, "sometimes").verdict is Verdict.INVALID


# eventually

CLOSED = "breaker: gemini, state: closed, within: 5s, after: dark"
SHARE = 'served_by: gemini, share: ">= 95%", within: 8s, after: dark'


def test_eventually_is_true_from_the_last_moment_at_which_it_was_not() -> None:
    """The time is that of the last change, and the margin what is left of `within`."""
    check = one("eventually", CLOSED)
    assert (check.verdict, check.figure, check.margin) == (Verdict.PASS, "0.162 s", "4.838 s inside")


def test_eventually_must_hold_until_the_next_fault() -> None:
    """Closed in time, but open again before the next injection: not held."""
    run = healthy(expecting("eventually", CLOSED))
    for at_s, old, new, generation in (
        (20, "closed", "open", 5),
        (23, "open", "half_open", 6),
        (24, "half_open", "closed", 7),
    ):
        change = BreakerChange(
            worker=WORKER, provider="gemini", from_state=old, to=new, generation=generation, cause="x"
        )
        run.add(ns(at_s), WORKER, change)
    check = judged(run, "eventually")
    assert (check.verdict, check.figure) == (Verdict.FAIL, "7.900 s")
    assert "True for good only 7.900 s after dark had healed" in check.reason
    run.drop(*[change for change in run.of(BreakerChange) if change.generation > 5])
    check = judged(run, "eventually")
    assert (check.verdict, check.figure) == (Verdict.FAIL, "never held")
    assert "is still open (at 20.000 s)" in check.reason


def test_what_breaks_after_the_next_injection_is_not_held_against_it() -> None:
    """The next fault ends the time in which it must hold."""
    run = healthy(expecting("eventually", CLOSED))
    run.add(
        ns(27),
        WORKER,
        BreakerChange(worker=WORKER, provider="gemini", from_state="closed", to="open", generation=6, cause="x"),
    )
    assert judged(run, "eventually").verdict is Verdict.PASS


def test_a_breaker_of_a_worker_that_never_reported_is_closed() -> None:
    """A worker that only served, and whose breaker never moved, does not stand in the way."""
    run = healthy(expecting("eventually", CLOSED))
    run.of(Attempt, request_id="000010")[0].worker = "gateway-200"
    assert judged(run, "eventually").examined == 2
    assert judged(run, "eventually").verdict is Verdict.PASS


def test_the_slowest_worker_decides_when_all_are_closed() -> None:
    """Of two workers whose breakers close one after the other the later counts, whichever is looked at first."""
    for worker, took in (("gateway-000", "0.162 s"), ("gateway-999", "0.162 s")):
        run = healthy(expecting("eventually", CLOSED))
        run.of(Attempt, request_id="000010")[0].worker = worker
        for generation, (new, at_s) in enumerate((("open", 12.0), ("half_open", 16.11), ("closed", 16.12)), start=1):
            run.add(
                ns(at_s),
                worker,
                BreakerChange(
                    worker=worker, provider="gemini", from_state="x", to=new, generation=generation, cause="x"
                ),
            )
        assert judged(run, "eventually").figure == took


def test_eventually_that_could_not_be_decided_is_invalid() -> None:
    """When the next fault comes before the time is over and it is not yet true, nothing is proven."""
    run = healthy(expecting("eventually", CLOSED))
    run.drop(*run.of(BreakerChange, to="closed"))
    inject(run, "throttle", 18, 19)
    check = judged(run, "eventually")
    assert check.verdict is Verdict.INVALID
    assert check.reason == "the next fault came 1.900 s after dark had healed: too soon to decide."
    run = healthy(expecting("eventually", CLOSED.replace("dark", "throttle").replace("5s", "20s")))
    run.drop(*run.of(BreakerChange, to="closed"))
    assert judged(run, "eventually").reason.startswith("the end of the load came")


def test_eventually_after_each_occurrence() -> None:
    """Of a fault that repeats every healing must be followed by it; the first that is not is told."""
    run = healthy(expecting("eventually", SHARE))
    inject(run, "dark", 20.2, 21)
    assert judged(run, "eventually").verdict is Verdict.PASS
    for record in run.of(RequestRecord)[480:521]:
        record.providers_in_text = ["claude"]
    check = judged(run, "eventually")
    assert check.verdict is Verdict.INVALID  # the throttle comes 5 s after the second healing, and it is not yet true
    for record in run.of(RequestRecord)[521:600]:
        record.providers_in_text = ["claude"]
    run.drop(*run.of(Fault, id="throttle"))
    check = judged(run, "eventually")
    assert (check.verdict, check.figure) == (Verdict.FAIL, "10.150 s")


def test_eventually_of_a_fault_that_never_healed_is_invalid() -> None:
    """Without a healing its clock never starts."""
    run = healthy(expecting("eventually", SHARE))
    run.drop(*run.of(Fault, id="dark", phase="healed"))
    check = judged(run, "eventually")
    assert (check.verdict, check.reason) == (Verdict.INVALID, "Fault dark never healed.")


def test_a_share_needs_twenty_requests() -> None:
    """A healing too close to the next fault leaves too few requests for a share."""
    run = healthy(expecting("eventually", SHARE))
    inject(run, "throttle", 17, 18)
    check = judged(run, "eventually")
    assert check.verdict is Verdict.INVALID
    assert "18 requests after dark are too few" in check.reason


def test_a_share_reaches_back_twenty_requests_when_a_second_has_fewer() -> None:
    """At two requests a second the window is 20 requests: one foreign answer in 20 is 95 %, two are not."""
    sparse = expecting("eventually", SHARE).replace("rate: 20/s", "rate: 2/s")
    run = healthy(sparse)
    run.drop(*[r for r in run.of(RequestRecord) if int(r.request_id) % 10])
    for n, record in enumerate(run.of(RequestRecord)):
        record.request_id = f"{n:06d}"
        record.providers_in_text = ["claude"] if n == 44 else ["gemini"]
    run.drop(*run.of(Fault, id="throttle"))
    assert judged(run, "eventually").figure == "0.000 s"
    run.of(RequestRecord)[50].providers_in_text = ["claude"]
    check = judged(run, "eventually")
    # The 45th leaves the window with the 65th, at 32 s.
    assert (check.verdict, check.figure) == (Verdict.FAIL, "15.900 s")


def test_the_moment_of_healing_is_no_longer_during() -> None:
    """A time word's stretch holds its first moment and not its last."""
    run = healthy(expecting("always", "calls_to: openai, during: dark, at_most: 0"))
    call = run.of(CallRecord)[0]
    for at_s, verdict in ((16.1, Verdict.PASS), (8.1, Verdict.FAIL)):
        run.add(ns(at_s), "emulators-3", msgspec.structs.replace(call, provider="openai", arrival_ns=ns(at_s)))
        assert judged(run, "always").verdict is verdict


def test_closing_after_the_next_injection_is_too_late() -> None:
    """What became true only when the next fault had come was not true in its time."""
    run = healthy(expecting("eventually", CLOSED))
    run.move(run.of(BreakerChange, to="closed")[0], ns(26.5))
    check = judged(run, "eventually")
    assert (check.verdict, check.figure) == (Verdict.FAIL, "never held")
    assert "is still half_open" in check.reason
