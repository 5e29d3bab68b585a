"""Several searches side by side, each in a process of its own with a seed of its own; the first find ends them all."""

from __future__ import annotations

import importlib
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

import msgspec

from seawall.draws import unit
from seawall.hunt.document import scenario_of
from seawall.hunt.hunter import HuntResult, Progress, search

__all__ = ["Hunt", "hunt", "router_named", "seed_of"]

_TOLD_EVERY_S = 0.2
_LOOK_S = 0.5


class Hunt(msgspec.Struct, frozen=True, kw_only=True):
    """What is hunted, for how long, by how many."""

    seed: int
    budget_s: float | None = None
    schedules: int | None = None
    requests: int | None = None
    jobs: int = 1
    settings: dict[str, Any] = {}
    router: str | None = None
    """`module:factory` of another router than ours."""


def seed_of(hunt: Hunt, job: int) -> int:
    """Return the seed of one of the searches: of the first it is the hunt's own."""
    return hunt.seed if job == 0 else int(unit(hunt.seed, "job", job) * 2**53)


def router_named(name: str | None) -> Any:
    """Return the factory that `module:factory` names, None for ours. Raises ImportError or AttributeError."""
    if name is None:
        return None
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute or "make_router")


def hunt(what: Hunt, told: Callable[[list[Progress]], None]) -> list[HuntResult]:
    """Search, and return what each search came to; `told` hears how they stand. An interrupt ends all processes."""
    if what.jobs == 1:
        return [_searched(what, 0, lambda progress: told([progress]))]
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, Any] = {}
    try:
        for job in range(what.jobs):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(what, job, theirs), daemon=True)
            process.start()
            theirs.close()
            workers[ours] = process
        return _gathered(list(workers), told)
    finally:
        for process in workers.values():
            process.terminate()
        for process in workers.values():
            process.join()


def _gathered(pipes: list[Connection], told: Callable[[list[Progress]], None]) -> list[HuntResult]:
    """Return the results of all searches, or as far as they are when one has found something."""
    standing = [Progress(schedules=0, requests=0, states=0, elapsed_s=0.0) for _ in pipes]
    results: dict[int, HuntResult] = {}
    waiting = list(pipes)
    while waiting:
        for pipe in wait(waiting, timeout=_LOOK_S):
            assert isinstance(pipe, Connection)  # noqa: S101 - nothing else is waited for
            job = pipes.index(pipe)
            try:
                kind, data = pipe.recv()
            except EOFError:
                raise RuntimeError(f"search {job + 1} of {len(pipes)} ended without a word") from None
            if kind == "progress":
                standing[job] = msgspec.convert(data, Progress)
                continue
            waiting.remove(pipe)
            results[job] = _result_of(data)
            if results[job].found is not None:
                return [results[n] if n in results else _so_far(standing[n]) for n in range(len(pipes))]
        told(standing)
    return [results[job] for job in range(len(pipes))]


def _work(what: Hunt, job: int, pipe: Connection) -> None:
    """Search in a process of its own and send what comes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told too, and ends this one
    last_s = 0.0

    def told(progress: Progress) -> None:
        nonlocal last_s
        if progress.elapsed_s - last_s >= _TOLD_EVERY_S:
            last_s = progress.elapsed_s
            pipe.send(("progress", msgspec.to_builtins(progress)))

    result = _searched(what, job, told)
    pipe.send(("result", msgspec.to_builtins(msgspec.structs.replace(result, found=None))))


def _searched(what: Hunt, job: int, told: Callable[[Progress], None]) -> HuntResult:
    return search(
        seed=seed_of(what, job),
        budget_s=what.budget_s,
        schedules=_share(what.schedules, what.jobs),
        requests=_share(what.requests, what.jobs),
        make_router=router_named(what.router),
        settings=what.settings,
        told=told,
    )


def _share(count: int | None, jobs: int) -> int | None:
    return None if count is None else -(-count // jobs)


def _result_of(data: dict[str, Any]) -> HuntResult:
    result = msgspec.convert({**data, "found": None}, HuntResult)
    if result.document is None:
        return result
    return msgspec.structs.replace(result, found=scenario_of(result.document))


def _so_far(progress: Progress) -> HuntResult:
    return HuntResult(
        seed=0,
        schedules=progress.schedules,
        requests=progress.requests,
        states=progress.states,
        elapsed_s=progress.elapsed_s,
    )
