"""What processes hold, measured while they run, into a file: the sampler must not grow beside what it measures."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil

from benchmarks.soak_trends import MEASURES, Life, Trend, trend_of

__all__ = ["FILE", "HARNESS", "Sample", "name_of", "sample_until_gone", "sampled", "tasks_file", "trends_in"]

ROOT = Path(__file__).resolve().parents[1]
FILE = "samples.jsonl"
"""In the soak's folder: a sample a line."""
HARNESS = "harness"
_MODULES = {
    "benchmarks.soak_gateway": "gateway",
    "seawall.emulators": "emulators",
    "loadtests": "load generator",
    "locust": "load generator",
}
_PROGRAMS = {"redis-server": "redis", "toxiproxy-server": "toxiproxy", "toxiproxy": "toxiproxy"}


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One process at one moment. `at_s` is on the monotonic clock; `values` are by the names of MEASURES."""

    at_s: float
    process: str
    pid: int
    values: dict[str, float]


def tasks_file(folder: Path, pid: int) -> Path:
    """Return where a gateway worker keeps the number of its tasks."""
    return folder / f"tasks-{pid}"


async def sampled(folder: Path, period_s: float) -> None:
    """
    Measure this process and its descendants every `period_s` seconds, until cancelled, into FILE in `folder`.

    A process of its own does it: beside busy threads, each of its many small reads would wait for the interpreter.
    """
    command = (sys.executable, "-m", "benchmarks.soak_samples", str(folder), str(os.getpid()), repr(period_s))
    sampler = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL)
    own = tasks_file(folder, os.getpid())
    try:
        while sampler.returncode is None:
            own.write_text(str(len(asyncio.all_tasks())), "ascii")
            await asyncio.sleep(period_s / 2)
        raise RuntimeError(f"the sampler ended by itself with exit code {sampler.returncode}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            sampler.terminate()
        await sampler.wait()


def sample_until_gone(folder: Path, pid: int, period_s: float) -> None:
    """Measure the process `pid` and its descendants until it is gone."""
    with (folder / FILE).open("ab") as file, contextlib.suppress(psutil.NoSuchProcess):
        harness = psutil.Process(pid)
        while harness.is_running():
            due_s = time.monotonic() + period_s
            for sample in _measured(folder, harness):
                file.write(msgspec.json.encode(sample) + b"\n")
            file.flush()
            time.sleep(max(0.0, due_s - time.monotonic()))


def trends_in(folder: Path) -> tuple[list[Trend], list[str]]:
    """Return the trend of all that was measured there of each kind of process, and the kinds that lived too shortly."""
    lives: dict[tuple[str, str], dict[int, Life]] = {}
    began_s: float | None = None
    whole_s = 0.0
    with (folder / FILE).open("rb") as file:
        for line in file:
            sample = msgspec.json.decode(line, type=Sample)
            began_s = sample.at_s if began_s is None else began_s
            whole_s = sample.at_s - began_s
            for measure, value in sample.values.items():
                own = lives.setdefault((sample.process, measure), {}).setdefault(sample.pid, [])
                own.append((round(sample.at_s - began_s, 3), value))
    processes = dict.fromkeys(process for process, _ in lives)
    found = [
        trend_of(process, measure, list(lives.get((process, measure.name), {}).values()), whole_s)
        for process in processes
        for measure in MEASURES
    ]
    trends = [trend for trend in found if trend is not None]
    judged = {trend.process for trend in trends}
    return trends, [process for process in processes if process not in judged]


def name_of(words: Sequence[str]) -> str | None:
    """Return what a process is by its command line; None for supervisors and what else is there."""
    if not words:
        return None
    program = Path(words[0]).name
    if program in _PROGRAMS or program.startswith("redis-server"):  # Redis writes its address behind its name
        return _PROGRAMS.get(program, "redis")
    # Of a supervisor the command that it keeps alive comes later: only what Python itself was told counts.
    return _MODULES.get(words[2]) if len(words) > 2 and words[1] == "-m" else None


def _measured(folder: Path, harness: psutil.Process) -> list[Sample]:
    processes = [(harness, HARNESS)]
    for process in harness.children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError):
            name = name_of(process.cmdline())
            if name is not None:
                processes.append((process, name))
    found: list[Sample] = []
    for process, name in processes:
        # What has just ended, a connection or a process, cannot be looked at: it is left out this time.
        with contextlib.suppress(psutil.Error, OSError):
            found.append(_sample(process, name, _tasks_of(folder, process.pid)))
    return found


def _sample(process: psutil.Process, name: str, tasks: float | None) -> Sample:
    values = {
        "memory": process.memory_info().rss / 1e6,
        "descriptors": float(process.num_fds()),
        "threads": float(process.num_threads()),
        "connections": float(len(process.net_connections("tcp"))),
    }
    if tasks is not None:
        values["tasks"] = tasks
    return Sample(at_s=time.monotonic(), process=name, pid=process.pid, values=values)


def _tasks_of(folder: Path, pid: int) -> float | None:
    try:
        return float(tasks_file(folder, pid).read_text("ascii"))
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    sample_until_gone(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
