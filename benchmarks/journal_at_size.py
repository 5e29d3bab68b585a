"""
Does a long run still fit? A journal of a million requests (five million events) is merged, read, judged and shown.

The files are written by a small model of a run: one outage, whose breaker opens, probes in vain once, and closes again.
Prints n, the seconds of each step, and the peak resident memory of the process that took them; exit code 1 when the
page takes more than 60 s from the journal on, or a megabyte, or the process a gigabyte.
`python -m benchmarks.journal_at_size [REQUESTS]`
"""

from __future__ import annotations

import contextlib
import heapq
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from reports.model import view_of
from reports.page import run_page
from router.events import Attempt, BreakerChange, Skip, Spend
from seawall.journal.events import VERSION, CallRecord, End, Fault, FaultPhase, Header, JournalEvent, RequestRecord
from seawall.journal.merge import merge
from seawall.journal.read import load_journal
from seawall.verdicts.judge import judge

__all__ = ["main", "write_run"]

RENDER_S_MAX, PAGE_MB_MAX, MEMORY_MB_MAX = 60.0, 1.0, 1000.0
"""Of a million requests."""
RATE = 2000
DARK_S, LIGHT_S = 10.0, 18.0
THRESHOLD, RECOVERY_NS = 3, 5_000_000_000
T0 = 1_000_000_000_000
WORKER, EMULATOR, LOADER, HARNESS = "gateway-3", "emulator-2", "load-4", "harness-1"
RESERVED, COST = 400, 150
MS = 1_000_000
_SCENARIO = """\
version: 1
title: A million requests and one outage
seed: 7
system: {{gateway: seawall, settings: {{CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 5s}}}}
load: {{executor: constant-arrival-rate, rate: {rate}/s, duration: {seconds:g}s}}
steady_state: {{window: 5s, success_rate: ">= 99.9%", latency_p99: "< 800ms"}}
faults:
  - {{id: dark, at: 10s, duration: 8s, target: gemini, toxic: {{type: timeout, attributes: {{timeout: 0}}}}}}
expect:
  always:
    - {{calls_to: gemini, while: open, at_most: 0}}
  sometimes:
    - {{breaker: gemini, reaches: open}}
    - {{served_by: claude, requests: ">= 20", during: dark}}
    - {{skipped: gemini, reason: breaker_open, requests: ">= 20"}}
  eventually:
    - {{breaker: gemini, state: closed, within: 5s, after: dark}}
    - {{served_by: gemini, share: ">= 95%", within: 8s, after: dark}}
  thresholds:
    - {{metric: success_rate, limit: ">= 99.9%"}}
    - {{metric: latency_p99, limit: "< 2s", after: dark}}
    - {{metric: spend_usd, limit: "< 1000 USD"}}
"""

_Line = tuple[int, str, JournalEvent]


def main(requests: int) -> int:
    """Print what it takes to report on a run of so many requests; return 1 when it does not pass."""
    with tempfile.TemporaryDirectory(prefix="seawall-size-") as name:
        folder = Path(name)
        # In another process: what the writing takes is not what is measured.
        subprocess.run([sys.executable, "-m", "benchmarks.journal_at_size", str(requests), name], check=True)
        began = time.perf_counter()
        merged = merge(folder)
        merged_s = time.perf_counter() - began
        journal = load_journal(merged.path)
        read_s = time.perf_counter() - began - merged_s
        verdict = judge(journal)
        judged_s = time.perf_counter() - began - merged_s - read_s
        page = run_page(view_of(journal, verdict))
        shown_s = time.perf_counter() - began - merged_s - read_s - judged_s
    peak_mb = peak_bytes() / 1e6
    sys.stdout.write(
        f"{requests} requests, {merged.events} events: merged in {merged_s:.1f} s, read in {read_s:.1f} s, "
        f"judged in {judged_s:.1f} s ({verdict.verdict}), a page of {len(page) / 1000:.0f} kB made in {shown_s:.1f} s; "
        f"peak resident memory {peak_mb:.0f} MB\n"
    )
    if verdict.verdict != "pass":
        sys.stdout.write(f"{verdict.why}\n")
    over = [
        f"{what} is over its limit of {limit:g} {unit}"
        for what, value, limit, unit in (
            ("the time to read the journal and make the page", read_s + shown_s, RENDER_S_MAX, "s"),
            ("the page", len(page) / 1e6, PAGE_MB_MAX, "MB"),
            ("the memory", peak_mb, MEMORY_MB_MAX, "MB"),
        )
        if value > limit
    ]
    sys.stdout.write("".join(f"{text}\n" for text in over))
    return 0 if verdict.verdict == "pass" and not over else 1


def peak_bytes() -> int:
    """Return the most memory that this process has had resident, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # `ru_maxrss` survives exec on Linux: it would be the peak of whoever started this process.
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        if found is not None:
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def write_run(folder: Path, requests: int) -> None:
    """Write the event files of a run of at least 60,000 requests into `folder`."""
    encode = msgspec.json.Encoder().encode
    numbers: dict[str, int] = dict.fromkeys((WORKER, EMULATOR, LOADER, HARNESS), 0)
    total = 0
    with contextlib.ExitStack() as stack:
        files = {s: stack.enter_context((folder / f"events-{s}.jsonl").open("wb")) for s in numbers}
        for at_ns, source, event in _in_order(_Model(requests)):
            if isinstance(event, Spend):
                total += event.micro_usd - (0 if event.action == "reserve" else RESERVED)
                event.total_micro_usd = total
            stamp = b'{"v":%d,"mono_ns":%d,"wall":%.6f,"source":"%s","seq":%d,' % (
                *(VERSION, at_ns, 1_700_000_000 + (at_ns - T0) / 1e9, source.encode(), numbers[source]),
            )
            numbers[source] += 1
            files[source].write(stamp + encode(event)[1:] + b"\n")


class _Model:
    """Requests at a steady rate to Gemini, which goes dark once, and a router with one breaker and a budget."""

    def __init__(self, requests: int) -> None:
        self.requests = requests
        self.failures = self.generation = self.probing_until_ns = 0
        self.open_ns: int | None = None
        self.closed_ns: int | None = None

    def events(self) -> Iterator[tuple[int, list[_Line]]]:
        """Yield, in order of their due times, each request's due time and its events; these may be later."""
        yield T0 - 1, list(self._beginning())
        for n in range(self.requests):
            due_ns = T0 + n * 1_000_000_000 // RATE
            yield due_ns, list(self._request(f"{n:06d}", due_ns))
        end_ns = T0 + self.requests * 1_000_000_000 // RATE
        end = End(reason="finished", load_start_ns=T0, load_end_ns=end_ns, undone=True)
        yield end_ns, [(end_ns + 5000 * MS, HARNESS, end)]

    def _beginning(self) -> Iterator[_Line]:
        scenario = _SCENARIO.format(rate=RATE, seconds=self.requests / RATE)
        header = Header(
            run="size", title="size", scenario=scenario, scenario_name="size.yaml", scenario_sha256="0" * 64, seed=7,
            arena="wire", system="seawall", commit=None, versions={}, settings={},
            observes=["request", "call", "attempt", "breaker", "spend"],
        )  # fmt: skip
        yield T0 - 1, HARNESS, header
        phases: dict[FaultPhase, float] = {
            "injecting": DARK_S,
            "active": DARK_S + 0.1,
            "met": DARK_S + 0.2,
            "healing": LIGHT_S,
            "healed": LIGHT_S + 0.1,
            "undo_verified": LIGHT_S + 0.2,
        }
        for phase, at_s in phases.items():
            fault = Fault(
                id="dark", phase=phase, target="gemini", description="toxic timeout", planned_at_s=10, duration_s=8
            )
            yield T0 + round(at_s * 1e9), HARNESS, fault

    def _request(self, request_id: str, due_ns: int) -> Iterator[_Line]:
        at_ns, n = due_ns + 2 * MS, 1
        if self._is_open(at_ns):
            yield at_ns, WORKER, Skip(request_id=request_id, provider="gemini", reason="breaker_open", worker=WORKER)
        else:
            answered, end_ns, events = self._gemini(request_id, at_ns)
            yield from events
            if answered:
                yield self._record(request_id, due_ns, end_ns, "gemini")
                return
            at_ns, n = end_ns, 2
        yield from _try(request_id, "claude", n, at_ns, at_ns + 60 * MS, answered=True, generation=0)
        yield self._record(request_id, due_ns, at_ns + 60 * MS, "claude")

    def _is_open(self, at_ns: int) -> bool:
        if at_ns < self.probing_until_ns:
            return True
        if self.open_ns is None or at_ns <= self.open_ns or self.closed_ns is not None:
            return False
        return at_ns < self.open_ns + RECOVERY_NS

    def _gemini(self, request_id: str, at_ns: int) -> tuple[bool, int, list[_Line]]:
        answered = not T0 + round((DARK_S + 0.1) * 1e9) <= at_ns < T0 + round((LIGHT_S + 0.1) * 1e9)
        end_ns = at_ns + (60 if answered else 1000) * MS
        is_probe = self.open_ns is not None and at_ns > self.open_ns and self.closed_ns is None
        events: list[_Line] = []
        if is_probe:
            self.probing_until_ns = end_ns
            events.append(self._change("open", "half_open", at_ns))
        events += _try(request_id, "gemini", 1, at_ns, end_ns, answered=answered, generation=self.generation)
        if answered and is_probe:
            self.closed_ns = end_ns
            events.append(self._change("half_open", "closed", end_ns))
        elif not answered:
            self.failures += 1
            if is_probe or self.failures == THRESHOLD:
                self.open_ns = end_ns
                events.append(self._change("half_open" if is_probe else "closed", "open", end_ns))
        return answered, end_ns, events

    def _change(self, old: str, new: str, at_ns: int) -> _Line:
        self.generation += 1
        change = BreakerChange(
            worker=WORKER, provider="gemini", from_state=old, to=new, generation=self.generation, cause="as modelled"
        )
        return at_ns, WORKER, change

    def _record(self, request_id: str, due_ns: int, answered_ns: int, provider: str) -> _Line:
        record = RequestRecord(
            request_id=request_id, stream=False, intended_ns=due_ns, sent_ns=due_ns + MS,
            first_byte_ns=answered_ns, end_ns=answered_ns + MS, outcome="whole", status=200, code=None, chunks=1,
            tokens=16, text_sha256=f"{int(request_id):064x}", provider=provider, providers_in_text=[provider],
            retry_after_s=None, problem=None, reused=True,
        )  # fmt: skip
        return record.end_ns, LOADER, record


def _try(
    request_id: str, provider: str, n: int, start_ns: int, end_ns: int, *, answered: bool, generation: int
) -> list[_Line]:
    """Return the events of one attempt: the call, and what it costs."""
    reserve = Spend(
        action="reserve", reservation_id=f"{request_id}-{n}", request_id=request_id, provider=provider,
        micro_usd=RESERVED, total_micro_usd=0, limit_micro_usd=1_000_000_000, estimated=True, worker=WORKER,
    )  # fmt: skip
    settle = msgspec.structs.replace(reserve, action="settle", micro_usd=COST if answered else 0, estimated=False)
    attempt = Attempt(
        request_id=request_id, provider=provider, model=f"{provider}-model", n=n, stream=False, start_ns=start_ns,
        end_ns=end_ns, first_byte_ns=end_ns if answered else None, outcome="ok" if answered else "failed",
        reason="preferred", error=None if answered else "first_byte_timeout", status=200 if answered else None,
        worker=WORKER, generation=generation,
    )  # fmt: skip
    call = CallRecord(
        request_id=request_id, provider=provider, model=f"{provider}-model", stream=False, arrival_ns=start_ns + MS,
        first_byte_ns=end_ns - MS, end_ns=end_ns, behaviour="healthy", status=200, bytes=400, completed=True,
        prompt_tokens=8, completion_tokens=16,
    )  # fmt: skip
    return [
        (start_ns, WORKER, reserve),
        (end_ns, WORKER, attempt),
        (end_ns, EMULATOR, call),
        (end_ns, WORKER, settle),
    ]


def _in_order(model: _Model) -> Iterator[_Line]:
    """Yield all events in order of their own times, holding back no more than lies ahead."""
    ahead: list[tuple[int, int, str, JournalEvent]] = []
    number = 0
    for due_ns, events in model.events():
        while ahead and ahead[0][0] < due_ns:
            at_ns, _, source, event = heapq.heappop(ahead)
            yield at_ns, source, event
        for at_ns, source, event in events:
            number += 1
            heapq.heappush(ahead, (at_ns, number, source, event))
    for at_ns, _, source, event in sorted(ahead):
        yield at_ns, source, event


if __name__ == "__main__":
    if len(sys.argv) > 2:
        write_run(Path(sys.argv[2]), int(sys.argv[1]))
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
