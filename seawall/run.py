"""
Carry out one scenario on the wire, from its text to its verdict. The engine of the harness.

    start arena ─▶ load and faults ─▶ undo ─▶ stop ─▶ merge ─▶ judge, report

Every way out of a run (its end, a failure, Ctrl-C, SIGTERM) goes through the same undo, stop, merge and report. After
SIGKILL the children end by themselves, and `recover`, with which `seawall.suite` begins, takes back the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
import traceback
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from faults.base import FaultError
from faults.undo import UndoFile
from router.errors import ConfigurationError, SeawallError
from seawall.arenas.injector import PlannedFault, inject_and_heal, tell_met
from seawall.arenas.parts import GATEWAY_NAME
from seawall.arenas.wire import LOAD_NAME, WireArena
from seawall.console import Console, parts_line
from seawall.control.revised import header_of_what_was
from seawall.control.steering import Load, Steering
from seawall.journal.events import End, Header, JournalEvent, Process
from seawall.journal.merge import merge
from seawall.journal.writer import EventWriter
from seawall.live import LiveView
from seawall.outcome import Exit, Outcome, Render, exit_code_of
from seawall.paths import undo_dir
from seawall.plan import count_of, duration_of
from seawall.processes import Processes
from seawall.scenario import Loaded
from seawall.systems import SystemUnderTest, system_named
from seawall.toolchain import ToolchainError
from seawall.version import commit, versions_of

__all__ = ["Exit", "Outcome", "Render", "exit_code_of", "run_scenario"]

_T = TypeVar("_T")
_EXPECTED = (SeawallError, ToolchainError, FaultError, OSError)
_TICK_S = 0.25
_LOAD_GRACE_S = 15.0
_REPORTED = ("seawall", "locust", "gevent", "httpx", "uvicorn", "fastapi", "toxiproxy-python")


async def run_scenario(
    loaded: Loaded,
    out: Path,
    *,
    console: Console,
    stop: asyncio.Event,
    render: Render,
    seed: int | None = None,
    steering: Steering | None = None,
    system: SystemUnderTest | None = None,
    make_arena: Callable[..., WireArena] = WireArena,
) -> Outcome:
    """
    Run one scenario and report on it into a new folder below `out`.

    `stop` interrupts it: everything is undone, and what has run is reported. `seed` and `system` replace its own.
    Through `steering` it can be watched and faults injected by hand.
    Raises nothing for what a run may meet: it is in the outcome, with the exit code.
    """
    run = _Run(loaded, out, console, stop, seed, steering or Steering())
    run.system, run.make_arena = system or run.system, make_arena
    try:
        run.system.settings(run.scenario)
    except ConfigurationError as error:
        return Outcome(folder=run.folder, verdict=None, exit_code=Exit.USAGE, detail=f"system.settings: {error}")
    try:
        run.folder.mkdir(parents=True)
        run.writer = EventWriter(run.folder, "harness")
        undo = UndoFile.create(undo_dir(), run.name)
    except (OSError, FaultError) as error:
        detail = f"the run cannot begin: {error}; reports go elsewhere with --out, undo files with SEAWALL_STATE"
        return Outcome(folder=run.folder, verdict=None, exit_code=Exit.INVALID, detail=detail)
    run.steering.begin(run)
    end = _with_undo_closed(await _carried_out(run, undo), undo)
    _emit_header_of_what_was(run, end)
    run.emit(end)
    run.steering.move("judging")
    run.writer.close()
    console.doing("judging the journal and writing the report")
    # In a thread: beside this run another one may be in the middle of its faults.
    outcome = await asyncio.to_thread(_judged, run, end, render)
    run.steering.finish(outcome)
    return outcome


class _Run:
    """One run: its place on disk, its journal, what is seen of it."""

    def __init__(
        self, loaded: Loaded, out: Path, console: Console, stop: asyncio.Event, seed: int | None, steering: Steering
    ) -> None:
        scenario = loaded.scenario
        self.scenario = scenario if seed is None else scenario.model_copy(update={"seed": seed})
        self.loaded = loaded
        stem = Path(loaded.name).stem
        self.scenario_name = stem
        self.name = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        self.folder = out / self.name
        self.console = console
        self.stop = stop
        self.abort = asyncio.Event()
        self.reason: Literal["finished", "interrupted", "stopped", "error"] = "finished"
        self.detail: str | None = None
        self.system: SystemUnderTest = system_named(self.scenario.system.gateway)
        self.live = LiveView(self.folder)
        self.steering = steering
        self.make_arena: Callable[..., WireArena] = WireArena
        self.header: tuple[int, Header] | None = None  # with the time at which it was written
        self.t0_ns: int | None = None
        self.load_end_ns: int | None = None
        self.writer: EventWriter | None = None
        self.stopping = False
        self.is_expected: Callable[[str], bool] = lambda _name: False
        """Whether a fault has asked for the end of the process of that name; the arena knows."""
        self.lost: str | None = None
        """The process that ended unasked."""

    def emit(self, event: JournalEvent) -> None:
        """Write to the harness's own part of the journal; when that fails, the run is broken off."""
        if self.writer is None:
            return
        try:
            self.writer.write(event)
        except OSError as error:
            self.end("error", f"the journal cannot be written: {error.strerror}")

    def end(self, reason: Literal["interrupted", "stopped", "error"], detail: str) -> None:
        """Break the run off. The first reason stays."""
        if not self.abort.is_set():
            self.reason, self.detail = reason, detail
            self.abort.set()
            self.steering.heal_all()

    def since_start_s(self) -> float:
        """Return seconds since the start of the load, 0 before it."""
        return 0.0 if self.t0_ns is None else (time.monotonic_ns() - self.t0_ns) / 1e9

    def on_process(
        self, name: str, action: Literal["start", "ready", "stop", "exit"], pid: int, code: int | None
    ) -> None:
        """Journal what happens to a process; one that ends unasked ends the run."""
        self.emit(Process(name=name, action=action, pid=pid, code=code))
        if action == "exit" and not self.stopping and name != LOAD_NAME and not self.is_expected(name):
            self.lost = self.lost or name
            self.end("error", f"{name} (pid {pid}) ended unasked with exit code {code}; see {self.folder / name}.log")


async def _carried_out(run: _Run, undo: UndoFile) -> End:
    """Start the arena, run load and faults, undo, stop, and say how it ended."""
    undone = True
    watcher = asyncio.create_task(_interrupted(run))
    async with Processes(on_event=run.on_process) as processes:
        arena = run.make_arena(
            run.scenario,
            run.system,
            run.folder,
            run.name,
            undo=undo,
            processes=processes,
            progress=run.console.line,
        )
        run.is_expected = arena.expects_exit
        arena.break_off = partial(run.end, "stopped")
        try:
            started = await _unless_aborted(run, _started(run, arena))
            if started is not None:
                undone = await _under_load(run, *started, undo)
        except _EXPECTED as error:
            run.end("error", str(error))
        except Exception as error:  # noqa: BLE001 - a defect of ours must not keep us from undoing and saying so
            undone = run.t0_ns is None
            run.end("error", _told_defect(run, error))
        finally:
            run.stopping = True
            watcher.cancel()
            undone = await arena.close() and undone
            # The gateway first: what it has still to settle needs a Redis.
            await processes.stop_all(first=GATEWAY_NAME)
    return End(
        reason=run.reason,
        detail=run.detail,
        load_start_ns=run.t0_ns,
        load_end_ns=run.load_end_ns,
        undone=undone if run.t0_ns is not None and run.scenario.faults else None if undone else False,
    )


def _with_undo_closed(end: End, undo: UndoFile) -> End:
    """Remove the undo file when nothing in it is left to do, else leave it to a recovery, and say which it was."""
    try:
        if end.undone is not False:
            undo.close_clean()
            return end
    except FaultError as error:
        end = msgspec.structs.replace(end, undone=False, detail=end.detail or str(error))
    undo.close()
    return end


def _told_defect(run: _Run, error: BaseException) -> str:
    run.console.line("".join(traceback.format_exception(error)).rstrip())
    return f"a defect in Seawall: {type(error).__name__}: {error}"


def _emit_header_of_what_was(run: _Run, end: End) -> None:
    """Where faults came by hand, or the load from elsewhere, put the scenario that was in the place of the first."""
    if run.header is None or run.writer is None or end.load_start_ns is None:
        return
    written_ns, header = run.header
    revised = header_of_what_was(header, run.loaded, run.steering, end)
    if revised is not None:
        # Of several headers the first in time counts.
        run.writer.write(revised, mono_ns=written_ns - 1)


async def _started(run: _Run, arena: WireArena) -> tuple[Load, list[PlannedFault]]:
    """Bring the arena up to the moment at which the load begins; return the load generator and the bound faults."""
    began = time.monotonic()
    toxiproxy = await arena.resolve()
    run.header = (time.monotonic_ns(), _header(run, arena))
    run.emit(run.header[1])
    await arena.start()
    faults = arena.planned_faults()
    for fault in faults:
        for start_s in (fault.start_s, *fault.repeats_s):
            run.emit(fault.event("planned", start_s=start_s))
        await fault.prover.prepare()
    load, run.t0_ns = await run.steering.start_load(arena)
    run.console.line(parts_line(toxiproxy, run.system, time.monotonic() - began))
    return load, faults


async def _under_load(run: _Run, load: Load, faults: list[PlannedFault], undo: UndoFile) -> bool:
    """Let load and faults run to their end, and return whether every fault was verified undone."""

    async def carry(fault: PlannedFault, stop: asyncio.Event) -> bool:
        return await inject_and_heal(
            fault,
            t0_s=(run.t0_ns or 0) / 1e9,
            clock=time.monotonic,
            stop=stop,
            undo=undo,
            live=run.live,
            emit=lambda event: _tell(run, event),
        )

    run.steering.open(faults, carry)
    ticker = asyncio.create_task(_tick(run))
    try:
        await _load_ended(run, load)
    finally:
        run.steering.shut()
        results = await asyncio.gather(*run.steering.tasks, return_exceptions=True)
        ticker.cancel()
        await asyncio.gather(ticker, return_exceptions=True)
    run.load_end_ns = time.monotonic_ns() if run.load_end_ns is None else run.load_end_ns
    run.live.poll()
    _emit_met(run, run.steering.planned)
    for result in results:
        if isinstance(result, BaseException):
            run.end("error", str(result) if isinstance(result, _EXPECTED) else _told_defect(run, result))
    # What an injector raises of the expected kind it raises before it has injected anything.
    return all(result is True or isinstance(result, _EXPECTED) for result in results)


async def _load_ended(run: _Run, load: Load) -> None:
    """Wait for the load generator's end, or end it when the run is broken off or it overstays."""
    plan = run.scenario.load.plan(run.scenario.seed)
    limit_s = duration_of(plan) + plan.deadline_s + _LOAD_GRACE_S
    aborted = asyncio.ensure_future(run.abort.wait())
    ended = asyncio.ensure_future(load.wait())
    await asyncio.wait((aborted, ended), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        if not run.abort.is_set():
            run.end("error", f"the load generator did not end within {limit_s:.0f} s; see {load.log}")
        await load.stop()
    code = await ended
    aborted.cancel()
    run.load_end_ns = time.monotonic_ns()
    if code != 0 and not run.abort.is_set():
        run.end("error", f"the load generator ended with exit code {code}; see {load.log}")


async def _tick(run: _Run) -> None:
    """Follow the run while it lasts: progress, met faults, `stop_when`."""
    total = count_of(run.scenario.load.plan(run.scenario.seed))
    low_since_s: float | None = None
    met: set[str] = set()
    while True:
        await asyncio.sleep(_TICK_S)
        run.live.poll()
        for watch in run.live.watches:
            if watch.is_met and watch.fault_id not in met:
                met.add(watch.fault_id)
                run.console.event(run.since_start_s(), f"fault {watch.fault_id}: met by traffic")
        run.console.status(run.since_start_s(), total, run.live)
        low_since_s = _check_stop(run, low_since_s)


def _check_stop(run: _Run, low_since_s: float | None) -> float | None:
    """Break the run off once `stop_when` has held for its time; return since when it holds."""
    rule = run.scenario.stop_when
    if rule is None:
        return None
    now_s = run.since_start_s()
    rate = run.live.success_rate(time.monotonic_ns(), max(1.0, rule.for_))
    if rate is None or not rule.success_rate.holds(rate):
        return None
    since_s = now_s if low_since_s is None else low_since_s
    if now_s - since_s >= rule.for_:
        run.end("stopped", f"stop_when: success rate {rate:.1%} was {rule.success_rate.text} for {rule.for_:g} s")
    return since_s


def _emit_met(run: _Run, faults: list[PlannedFault]) -> None:
    by_id = {fault.fault.id: fault for fault in faults}
    for watch in run.live.watches:
        tell_met(by_id[watch.fault_id], watch, run.emit)


def _tell(run: _Run, event: JournalEvent) -> None:
    run.emit(event)
    run.steering.see(event)
    run.console.fault(run.since_start_s(), event)


async def _interrupted(run: _Run) -> None:
    await run.stop.wait()
    run.console.line("stopping: healing faults, ending processes, writing the report (this takes a few seconds)")
    run.end("interrupted", "interrupted by a signal")


async def _unless_aborted(run: _Run, work: Coroutine[Any, Any, _T]) -> _T | None:
    """Return what `work` gives, or None when the run is broken off before it is done."""
    task = asyncio.create_task(work)
    aborted = asyncio.create_task(run.abort.wait())
    try:
        await asyncio.wait((task, aborted), return_when=asyncio.FIRST_COMPLETED)
        if not run.abort.is_set():
            return task.result()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, SeawallError, OSError, FaultError):
            await task
        return None
    finally:
        aborted.cancel()


def _header(run: _Run, arena: WireArena) -> Header:
    loaded = run.loaded
    return Header(
        run=run.name,
        title=run.scenario.title,
        scenario=loaded.text,
        scenario_name=run.scenario_name,
        scenario_sha256=loaded.sha256,
        seed=run.scenario.seed,
        arena=arena.name,
        system=f"{run.system.label} {run.system.version()}",
        commit=commit(),
        versions=versions_of(_REPORTED) | arena.versions(),
        settings=run.system.settings(run.scenario),
        observes=list(arena.observes),
    )


def _judged(run: _Run, end: End, render: Render) -> Outcome:
    try:
        merge(run.folder)
        verdict = render(run.folder)
    except (SeawallError, OSError) as error:
        return Outcome(
            folder=run.folder,
            verdict=None,
            exit_code=Exit.INVALID,
            detail=f"{run.detail or 'the run ended'}; no report: {error}",
        )
    if run.t0_ns is None and end.reason == "error":
        # The report says what is missing; a verdict on a system that nobody asked anything would be one by chance.
        code = Exit.NOT_UNDONE if end.undone is False else Exit.INVALID
        return Outcome(folder=run.folder, verdict=None, exit_code=code, detail=run.detail)
    exit_code = exit_code_of(end, verdict)
    if exit_code is Exit.FAIL and run.lost is not None and not run.lost.startswith(GATEWAY_NAME):
        # What fails when a part of ours is gone says nothing of the system under test.
        exit_code = Exit.INVALID
    return Outcome(folder=run.folder, verdict=verdict, exit_code=exit_code, detail=run.detail)
