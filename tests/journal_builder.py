"""
Build journals for tests: a healthy run of a small scenario, made by a model router in virtual time, to be mutated.

Gemini goes dark at 8 s and throttles at 26 s; the model router has one breaker (threshold 3, recovery 3 s), obeys
Retry-After and fails over to Claude. All times are exact, so every test knows what to expect.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from seawall.draws import unit
from seawall.journal.events import (
    VERSION,
    Attempt,
    BreakerChange,
    CallRecord,
    End,
    Fault,
    Header,
    JournalEvent,
    Lag,
    Note,
    Process,
    RequestRecord,
    Skip,
    Spend,
    Stamped,
)
from seawall.journal.view import Journal, index

SCENARIO = """\
version: 1
title: Gemini goes dark; traffic moves to Claude and comes back
arenas: [simulation, wire]
seed: 7
system: {gateway: seawall, settings: {CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 3s}}
load: {executor: constant-arrival-rate, rate: 20/s, duration: 40s, stream: 30%}
steady_state:
  {window: 5s, success_rate: ">= 99.9%", latency_p50: "< 200ms", latency_p95: "< 400ms", latency_p99: "< 800ms"}
faults:
  - {id: dark, at: 8s, duration: 8s, target: gemini, toxic: {type: timeout, attributes: {timeout: 0}}}
  - {id: throttle, at: 26s, duration: 3s, target: gemini, respond: {status: 429, retry_after: 2s}, injection_rate: 50%}
expect:
  always:
    - {calls_to: gemini, while: open, at_most: 0}
  sometimes:
    - {breaker: gemini, reaches: open}
    - {served_by: claude, requests: ">= 20"}
  eventually:
    - {breaker: gemini, state: closed, within: 5s, after: dark}
    - {served_by: gemini, share: ">= 95%", within: 8s, after: dark}
  thresholds:
    - {metric: success_rate, limit: ">= 99.9%"}
    - {metric: latency_p99, during: dark, limit: "< 1500ms", severity: advisory}
"""
T0 = 1_000_000_000_000
WALL0 = 1_700_000_000.0
WORKER = "gateway-100"
HARNESS, LOADER, EMULATORS = "harness-1", "load-2", "emulators-3"
LIMIT_MICRO_USD = 50_000_000
RESERVED, COST = 400, 150
E = TypeVar("E")


def ns(seconds: float) -> int:
    """Return the moment `seconds` after the start of the load."""
    return T0 + round(seconds * 1e9)


class Recording:
    """The events of a run as (mono_ns, source, event), to be changed at will and then read as a journal."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str, JournalEvent]] = []

    def add(self, at_ns: int, source: str, event: JournalEvent) -> None:
        self.lines.append((at_ns, source, event))

    def of(self, kind: type[E], **fields: Any) -> list[E]:
        """Return the events of a kind whose fields have these values, in order of time."""
        ordered = sorted(self.lines, key=lambda line: line[0])
        events = (event for _, _, event in ordered if isinstance(event, kind))
        return [event for event in events if all(getattr(event, name) == value for name, value in fields.items())]

    def time_of(self, wanted: JournalEvent) -> int:
        return next(at_ns for at_ns, _, event in self.lines if event is wanted)

    def drop(self, *unwanted: JournalEvent) -> None:
        gone = {id(event) for event in unwanted}
        self.lines = [line for line in self.lines if id(line[2]) not in gone]

    def move(self, wanted: JournalEvent, at_ns: int) -> None:
        self.lines = [(at_ns if event is wanted else t, source, event) for t, source, event in self.lines]

    def stamped(self) -> list[Stamped]:
        """Return the events in order of time, numbered by source."""
        seqs: Counter[str] = Counter()
        events: list[Stamped] = []
        for at_ns, source, event in sorted(self.lines, key=lambda line: line[0]):
            wall = WALL0 + (at_ns - T0) / 1e9
            events.append(Stamped(mono_ns=at_ns, wall=wall, source=source, seq=seqs[source], event=event))
            seqs[source] += 1
        return events

    def journal(self) -> Journal:
        return index(self.stamped(), Path("journal.jsonl"))

    def write(self, folder: Path) -> None:
        """Write one `events-*.jsonl` a source into `folder`."""
        parts: dict[str, list[bytes]] = {}
        for stamped in self.stamped():
            parts.setdefault(stamped.source, []).append(line_of(stamped))
        for source, lines in parts.items():
            (folder / f"events-{source}.jsonl").write_bytes(b"".join(lines))


def line_of(stamped: Stamped) -> bytes:
    """Return an event as a line of a journal."""
    head = {
        "v": VERSION,
        "mono_ns": stamped.mono_ns,
        "wall": stamped.wall,
        "source": stamped.source,
        "seq": stamped.seq,
    }
    return msgspec.json.encode(head)[:-1] + b"," + msgspec.json.encode(stamped.event)[1:] + b"\n"


def request(request_id: str, intended_ns: int, **changes: Any) -> RequestRecord:
    """Return the record of a request that Gemini answered whole within 62 ms."""
    fields: dict[str, Any] = {
        "request_id": request_id,
        "stream": False,
        "intended_ns": intended_ns,
        "sent_ns": intended_ns + 1_000_000,
        "first_byte_ns": intended_ns + 22_000_000,
        "end_ns": intended_ns + 62_000_000,
        "outcome": "whole",
        "status": 200,
        "code": None,
        "chunks": 1,
        "tokens": 16,
        "text_sha256": "0" * 64,
        "provider": "gemini",
        "providers_in_text": ["gemini"],
        "retry_after_s": None,
        "problem": None,
        "reused": True,
    }
    return RequestRecord(**(fields | changes))


def header(scenario: str = SCENARIO, **changes: Any) -> Header:
    """Return the header of a run of `scenario` on a system that reports everything."""
    fields: dict[str, Any] = {
        "run": "r1",
        "title": "t",
        "scenario": scenario,
        "scenario_name": "dark.yaml",
        "scenario_sha256": "0" * 64,
        "seed": 7,
        "arena": "wire",
        "system": "seawall",
        "commit": None,
        "versions": {},
        "settings": {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "3"},
        "observes": ["request", "call", "attempt", "breaker", "spend"],
    }
    return Header(**(fields | changes))


def healthy(scenario: str = SCENARIO, *, seconds: float = 40.0) -> Recording:
    """Return the recording of a run in which everything held; `seconds` of load at 20 requests a second."""
    return _Model(scenario, seconds).run()


class _Model:
    """A router with one breaker, in virtual time."""

    def __init__(self, scenario: str, seconds: float) -> None:
        self.recording = Recording()
        self.scenario = scenario
        self.count = round(seconds * 20)
        self.seconds = seconds
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.tie = 0
        self.state, self.generation, self.failures = "closed", 0, 0
        self.probe_at_ns = self.cooling_until_ns = 0
        self.probing = False
        self.total = 0

    def run(self) -> Recording:
        add, end_s = self.recording.add, self.seconds
        add(ns(-2), HARNESS, header(self.scenario))
        add(ns(-1.9), HARNESS, Process(name="load", action="start", pid=2))
        self._fault("dark", 8.0, 8.0, "toxic timeout")
        self._fault("throttle", 26.0, 3.0, "respond 429")
        for n in range(self.count):
            self._at(ns(n / 20), lambda n=n: self._try(request(f"{n:06d}", ns(n / 20), stream=n % 3 == 0), 1, "gemini"))
        while self.queue:
            _, _, step = heapq.heappop(self.queue)
            step()
        add(ns(end_s), LOADER, Lag(requests=self.count, p50_ms=1, p99_ms=1, max_ms=1, cpu_share=0.1))
        add(ns(end_s + 2), HARNESS, Process(name="load", action="exit", pid=2, code=0))
        add(ns(end_s + 2), HARNESS, Note(text="done"))
        end = End(reason="finished", load_start_ns=T0, load_end_ns=ns(end_s), undone=True)
        add(ns(end_s + 3), HARNESS, end)
        return self.recording

    def _fault(self, fault_id: str, at_s: float, duration_s: float, description: str) -> None:
        phases = {
            "planned": -1.0,
            "injecting": at_s,
            "active": at_s + 0.1,
            "met": at_s + 0.2,
            "healing": at_s + duration_s,
            "healed": at_s + duration_s + 0.1,
            "undo_verified": self.seconds + 2.5,
        }
        for phase, moment_s in phases.items():
            event = Fault(
                id=fault_id,
                phase=phase,  # type: ignore[arg-type]
                target="gemini",
                description=description,
                planned_at_s=at_s,
                duration_s=duration_s,
                evidence={"probe_ms": 1000} if phase == "active" else {},
            )
            self.recording.add(ns(moment_s), HARNESS, event)

    def _at(self, moment_ns: int, step: Callable[[], None]) -> None:
        self.tie += 1
        heapq.heappush(self.queue, (moment_ns, self.tie, step))

    def _try(self, record: RequestRecord, n: int, provider: str, at_ns: int | None = None) -> None:
        now_ns = record.intended_ns + 2_000_000 if at_ns is None else at_ns
        if provider == "gemini" and (why := self._skip(now_ns)) is not None:
            skip = Skip(request_id=record.request_id, provider="gemini", reason=why, worker=WORKER)  # type: ignore[arg-type]
            self.recording.add(now_ns, WORKER, skip)
            provider = "claude"
        if provider == "gemini" and self.state == "open":
            self._change("half_open", now_ns, "recovery timeout over")
        is_probe = provider == "gemini" and self.state == "half_open"
        self.probing = self.probing or is_probe
        generation = self.generation
        end_ns, error, status, behaviour = self._fate(record, provider, now_ns)
        attempt = Attempt(
            request_id=record.request_id,
            provider=provider,
            model=f"{provider}-model",
            n=n,
            stream=record.stream,
            start_ns=now_ns,
            end_ns=end_ns,
            first_byte_ns=now_ns + 20_000_000 if error is None else None,
            outcome="ok" if error is None else "failed",
            reason="probe" if is_probe else "preferred" if provider == "gemini" else "failover",
            error=error,
            status=status,
            worker=WORKER,
            generation=generation,
        )
        call = CallRecord(
            request_id=record.request_id,
            provider=provider,
            model=f"{provider}-model",
            stream=record.stream,
            arrival_ns=now_ns + 2_000_000,
            first_byte_ns=attempt.first_byte_ns,
            end_ns=end_ns,
            behaviour=behaviour,
            status=status,
            bytes=100,
            completed=status is not None,
            prompt_tokens=8,
            completion_tokens=16 if error is None else 0,
        )
        self._spend("reserve", attempt, RESERVED, now_ns)
        self._at(end_ns, lambda: self._ended(record, attempt, call, is_probe=is_probe))

    def _fate(self, record: RequestRecord, provider: str, now_ns: int) -> tuple[int, str | None, int | None, str]:
        if provider == "gemini" and ns(8.1) <= now_ns < ns(16.1):
            return now_ns + 1_000_000_000, "first_byte_timeout", None, "healthy"
        throttled = provider == "gemini" and ns(26.1) <= now_ns < ns(29.1)
        if throttled and unit(7, "throttle", record.request_id) < 0.5:
            return now_ns + 5_000_000, "rate_limited", 429, "throttle"
        return now_ns + 60_000_000, None, 200, "healthy"

    def _skip(self, now_ns: int) -> str | None:
        if now_ns < self.cooling_until_ns:
            return "cooling_down"
        waits = self.state == "open" and now_ns < self.probe_at_ns
        return "breaker_open" if waits or (self.state == "half_open" and self.probing) else None

    def _ended(self, record: RequestRecord, attempt: Attempt, call: CallRecord, *, is_probe: bool) -> None:
        now_ns = attempt.end_ns
        if attempt.provider == "gemini" and attempt.generation == self.generation:
            self._judge(attempt, is_probe=is_probe)
        self._spend("settle", attempt, COST if attempt.outcome == "ok" else 0, now_ns)
        self.recording.add(now_ns, WORKER, attempt)
        self.recording.add(now_ns, EMULATORS, call)
        if attempt.status == 429:
            self.cooling_until_ns = now_ns + 2_000_000_000
        if attempt.outcome == "failed":
            self._try(record, attempt.n + 1, "claude", now_ns)
            return
        record.provider = attempt.provider
        record.providers_in_text = [attempt.provider]
        record.first_byte_ns, record.end_ns = now_ns - 40_000_000, now_ns + 1_000_000
        self.recording.add(record.end_ns, LOADER, record)

    def _judge(self, attempt: Attempt, *, is_probe: bool) -> None:
        now_ns = attempt.end_ns
        self.failures = 0 if attempt.outcome == "ok" else self.failures + 1
        self.probing = self.probing and not is_probe
        if is_probe and attempt.outcome == "ok":
            self._change("closed", now_ns, "probe succeeded")
        elif is_probe or self.failures >= 3:
            self.failures, self.probe_at_ns = 0, now_ns + 3_000_000_000
            self._change("open", now_ns, f"the last {attempt.error}")

    def _change(self, to: str, now_ns: int, cause: str) -> None:
        self.generation += 1
        change = BreakerChange(
            worker=WORKER, provider="gemini", from_state=self.state, to=to, generation=self.generation, cause=cause
        )
        self.state = to
        self.recording.add(now_ns, WORKER, change)

    def _spend(self, action: str, attempt: Attempt, amount: int, now_ns: int) -> None:
        self.total += amount - (0 if action == "reserve" else RESERVED)
        spend = Spend(
            action=action,  # type: ignore[arg-type]
            reservation_id=f"{attempt.request_id}-{attempt.n}",
            request_id=attempt.request_id,
            provider=attempt.provider,
            micro_usd=amount,
            total_micro_usd=self.total,
            limit_micro_usd=LIMIT_MICRO_USD,
            estimated=action == "reserve",
            worker=WORKER,
        )
        self.recording.add(now_ns, WORKER, spend)
