"""More mutations of a healthy run, as in `verdict_mutations`: those that break what a router does of its own accord."""

from __future__ import annotations

from journal_builder import WORKER, Recording, ns
from verdict_mutations import SCENARIO, Broken

from seawall.journal.events import Attempt, BreakerChange, CallRecord, LatencyChange, RequestRecord, Skip, Spend

__all__ = ["CONDUCT"]

SHORT_IDLE = SCENARIO.replace("RECOVERY_TIMEOUT: 3s", "RECOVERY_TIMEOUT: 3s, idle_timeout: 1s")
NO_END = SCENARIO.replace("{status: 429, retry_after: 2s}, injection_rate: 50%", "{no_done: true}")
DRIBBLE = SHORT_IDLE.replace("{status: 429, retry_after: 2s}, injection_rate: 50%", "{dribble: 3s}")


def opens_late(run: Recording) -> None:
    """A call begins by the state in which three in a row had failed."""
    failed = run.of(Attempt, provider="gemini", outcome="failed", generation=0)
    later = run.of(Attempt, provider="claude", reason="failover")[20]
    later.provider, later.generation = "gemini", failed[0].generation
    (call,) = run.of(CallRecord, request_id=later.request_id, provider="claude")
    call.provider = "gemini"


def rests_too_short(run: Recording) -> None:
    """The first half-open state is told a second too early."""
    change = run.of(BreakerChange, to="half_open")[0]
    run.move(change, run.time_of(change) - 1_000_000_000)


def cools_for_another(run: Recording) -> None:
    """Claude is passed over as cooling down, and nobody had asked for that."""
    skip = Skip(request_id="000500", provider="claude", reason="cooling_down", worker=WORKER)
    run.add(ns(25.002), WORKER, skip)


def flaps(run: Recording) -> None:
    """A provider is called fast again without a measuring call."""
    change = LatencyChange(worker=WORKER, provider="gemini", to="fast", average_ms=1, limit_ms=500, message="m")
    run.add(ns(3), WORKER, change)


def pauses_between(run: Recording) -> None:
    """The second attempt of a request begins a second after the first has ended."""
    first = run.of(Attempt, status=429)[0]
    second = next(a for a in run.of(Attempt, request_id=first.request_id) if a.n == 2)
    (record,) = run.of(RequestRecord, request_id=first.request_id)
    for event in (second, record):
        event.end_ns += 1_000_000_000
    second.start_ns += 1_000_000_000
    call = run.of(CallRecord, request_id=first.request_id, provider="claude")[0]
    call.arrival_ns += 1_000_000_000
    call.end_ns += 1_000_000_000


def flag_lost(run: Recording) -> None:
    call = next(call for call in run.of(CallRecord, provider="claude") if call.stream)
    call.stream = False


def too_many_tokens(run: Recording) -> None:
    run.of(CallRecord, behaviour="healthy")[300].completion_tokens = 65


def goes_on(run: Recording) -> None:
    """A call ends three seconds after its request."""
    run.of(CallRecord, request_id="000500")[0].end_ns += 3_000_000_000


def marked_and_good(run: Recording) -> None:
    """A stream that met the second fault is reported as good."""
    (call,) = run.of(CallRecord, request_id="000300")
    assert call.stream
    call.behaviour = "throttle"


def not_reserved(run: Recording) -> None:
    """Of the last request there is no budget step at all."""
    steps = run.of(Spend, request_id="000799")
    assert steps
    for step in steps:
        step.request_id = "another"


def wrong_price(run: Recording) -> None:
    """An answer of a model whose price is known is settled at something else."""
    run.of(Attempt, request_id="000300")[0].model = "gemini-2.5-flash"


CONDUCT: dict[str, Broken] = {
    "a breaker opens at its threshold": Broken(opens_late, set(), "fail", "3 failures in a row had not opened"),
    "a breaker stays open for its recovery timeout": Broken(rests_too_short, set(), "fail", "rest for 2.000 s"),
    "a provider cools down only when it asked for it": Broken(
        cools_for_another, set(), "fail", "passed over claude as cooling down"
    ),
    "a slow provider is fast again only when it was measured so": Broken(flaps, set(), "fail", "measured no such time"),
    "a failover is at once": Broken(pauses_between, set(), "fail", "attempt 2 began 1.000 s after"),
    "every call asks for what its client asked for": Broken(flag_lost, set(), "fail", "asked for JSON where"),
    "no call outlives its request": Broken(goes_on, set(), "fail", "went on for 2.9"),
    "no broken answer makes a good attempt": Broken(marked_and_good, set(), "fail", "answer was no_done", NO_END),
    "no attempt outlasts its idle timeout": Broken(marked_and_good, set(), "fail", "its tokens 3 s apart", DRIBBLE),
    "every paid call is reserved for": Broken(not_reserved, set(), "fail", "called gemini without a reservation"),
    "every call is settled at its price": Broken(wrong_price, set(), "fail", "150 micro-dollars were settled"),
}
"""By the check that each turns red; others may turn red with it."""
