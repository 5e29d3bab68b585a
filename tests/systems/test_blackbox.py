"""What is said of a gateway from its two ends alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from journal_builder import Recording, healthy

from router.events import Attempt, BreakerChange, Skip, Spend
from seawall.journal.events import CallRecord, Header, RequestRecord
from seawall.verdicts.judge import judge
from seawall.verdicts.model import Check, RunVerdict, Verdict

ORDER = "providers are tried in the order of the chain"
MANY = "a request makes at most 4 calls"
TWICE = "no request is paid for twice"
PAUSE = "Retry-After is honoured by not calling"


def from_outside() -> Recording:
    """Return a healthy run of a system that shows only its two ends."""
    recording = healthy()
    recording.drop(*(event for kind in (Attempt, BreakerChange, Skip, Spend) for event in recording.of(kind)))
    recording.of(Header)[0].observes = ["request", "call"]
    return recording


def check(verdict: RunVerdict, name: str) -> Check:
    """Return the check of that name."""
    return next(each for each in verdict.checks if each.name == name)


def more(recording: Recording, call: CallRecord, **changes: Any) -> None:
    """Add a call like another one."""
    made = msgspec.structs.replace(call, **changes)
    recording.add(made.arrival_ns, "emulators-3", made)


def test_a_well_behaved_gateway_passes() -> None:
    """A run whose providers were left alone and asked in order has nothing against it."""
    verdict = judge(from_outside().journal())
    assert {name: check(verdict, name).verdict for name in (ORDER, MANY, TWICE, PAUSE)} == dict.fromkeys(
        (ORDER, MANY, TWICE, PAUSE), Verdict.PASS
    )
    assert verdict.verdict in (Verdict.PASS, Verdict.PARTIAL)


def test_seawall_is_judged_by_its_own_checks() -> None:
    """A system that tells its attempts gets none of these checks, for it has stricter ones."""
    assert not {ORDER, MANY, TWICE, PAUSE} & {each.name for each in judge(healthy().journal()).checks}


def test_a_call_in_a_pause_is_seen() -> None:
    """A provider that had asked for a pause and is called in it makes the run partial, with the call as evidence."""
    recording = from_outside()
    asking = recording.of(CallRecord, behaviour="throttle", status=429)[0]
    later_ns = asking.end_ns + 500_000_000
    more(recording, asking, arrival_ns=later_ns, end_ns=later_ns, behaviour="healthy", status=200, completed=False)
    verdict = judge(recording.journal())
    assert check(verdict, PAUSE).verdict is Verdict.PARTIAL
    assert verdict.figures["calls_in_pause:throttle"] == 1


@pytest.mark.parametrize("extra", [3, 4])
def test_a_multiplied_request_is_seen(extra: int) -> None:
    """More calls for one request than there are providers are counted and told."""
    recording = from_outside()
    call = recording.of(CallRecord)[0]
    for n in range(extra):
        more(recording, call, arrival_ns=call.arrival_ns + n + 1, completed=False)
    verdict = judge(recording.journal())
    assert check(verdict, MANY).verdict is (Verdict.PARTIAL if extra == 4 else Verdict.PASS)
    assert verdict.figures["calls_a_request_max"] == extra + 1


def test_an_answer_that_is_paid_for_twice_is_seen() -> None:
    """Two providers that answer the same request in full are a bill that nobody needs."""
    recording = from_outside()
    call = recording.of(CallRecord, behaviour="healthy", provider="gemini", status=200)[0]
    more(recording, call, provider="claude", arrival_ns=call.arrival_ns + 1)
    verdict = judge(recording.journal())
    assert check(verdict, TWICE).verdict is Verdict.PARTIAL
    assert verdict.figures["billed_twice"] == 1


def test_another_order_is_seen() -> None:
    """Asking a later provider before an earlier one is told with both."""
    recording = from_outside()
    call = recording.of(CallRecord, provider="gemini")[0]
    more(recording, call, provider="openai", arrival_ns=call.arrival_ns - 1000, completed=False)
    found = check(judge(recording.journal()), ORDER)
    assert found.verdict is Verdict.PARTIAL
    assert "openai → gemini" in found.evidence[0].text


def test_giving_up_is_timed() -> None:
    """How long clients waited for a refusal is a figure, and there is none where nobody was refused."""
    recording = from_outside()
    request = recording.of(RequestRecord)[0]
    assert judge(recording.journal()).figures["give_up_ms_max"] is None
    request.outcome, request.status, request.end_ns = "refused", 502, request.intended_ns + 1_500_000_000
    assert judge(recording.journal()).figures["give_up_ms_max"] == 1500.0


def test_what_is_not_observed_is_none() -> None:
    """Where providers' calls cannot be seen, their figures are None and never 0."""
    recording = from_outside()
    recording.of(Header)[0].observes = ["request"]
    figures = judge(recording.journal()).figures
    assert [figures[name] for name in ("calls_a_request_max", "billed_twice", "calls_to_dead:throttle")] == [None] * 3
