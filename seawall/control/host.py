"""
Have runs made for somebody else's load: what `locust -f loadtests/locustfile.py` starts as its child.

    POST /v1/runs        {"scenario": NAME}: start the parts; the state is `ready` when they wait for the load
    POST /v1/load/begin  {"t0_ns": N}: the load starts then (CLOCK_MONOTONIC)
    POST /v1/load/end    {"code": 0}: the load has ended; the run is undone, judged and reported

One run at a time. Where it listens is printed as one line of JSON, with the file that holds the token. The process ends
when standard input does, so that nothing outlives whoever started it; what is under way is undone first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
from fastapi import Request, Response

from seawall.console import Console
from seawall.control.access import write_token
from seawall.control.byhand import Flaw, Refused, Unfit
from seawall.control.revised import BY_HAND, by_hand
from seawall.control.server import ControlServer, answer, read_json
from seawall.control.steering import Steering
from seawall.outcome import Exit, Render
from seawall.paths import state_dir, undo_dir
from seawall.recover import recover
from seawall.run import run_scenario
from seawall.scenario import Loaded, ScenarioError, find, load_scenario
from seawall.screen import Screen

__all__ = ["serve_runs"]


async def serve_runs(out: Path, render: Render, *, announce: Callable[[str], None]) -> int:
    """Serve until standard input ends; return the exit code of the last run, 0 without one."""
    screen = Screen(sys.stderr)
    await asyncio.to_thread(
        recover, undo_dir(), emit=lambda line: None if line == "Nothing to undo." else screen.write(line)
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _read_on, stop)
    host = _Host(out, render, screen)
    async with ControlServer(lambda: host.steering) as server:
        server.route("/v1/runs", host.start, "POST")
        server.route("/v1/load", host.load)
        server.route("/v1/load/begin", host.begin, "POST")
        server.route("/v1/load/end", host.end, "POST")
        path = state_dir() / f"control-{os.getpid()}-{secrets.token_hex(4)}"
        write_token(path, server.access.token)
        try:
            announce(msgspec.json.encode({"port": server.access.port, "token_file": str(path)}).decode())
            await stop.wait()
        finally:
            path.unlink(missing_ok=True)
            await host.close()
    return int(host.code)


class _Host:
    """One run after the other."""

    def __init__(self, out: Path, render: Render, screen: Screen) -> None:
        self.steering = Steering()
        self.code = Exit.PASS
        self._out = out
        self._render = render
        self._screen = screen
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, request: Request) -> Response:
        """Start a run of a scenario, whose load comes from elsewhere."""
        asked = _object(await read_json(request))
        if self._task is not None and not self._task.done():
            raise Unfit(f"a run is {self.steering.phase}; end its load or abort it first")
        loaded = _loaded(asked.get("scenario", BY_HAND))
        self.steering = Steering(outside_load=True)
        self._task = asyncio.create_task(self._carry_out(loaded, self.steering))
        return answer({"scenario": loaded.name}, 201)

    async def load(self, _request: Request) -> Response:
        """Tell what the load is: the plan, where to send it, and where to write what came of it."""
        steering = self.steering
        run = steering.run
        return answer(
            {
                "plan": run.scenario.load.plan(run.scenario.seed),
                "base_url": steering.base_url,
                "events": str(run.folder),
                "label": run.scenario.title,
                "is_free": run.scenario_name == BY_HAND,
            }
        )

    async def begin(self, request: Request) -> Response:
        """The load starts."""
        t0_ns = _object(await read_json(request)).get("t0_ns")
        if not isinstance(t0_ns, int) or t0_ns <= 0:
            raise Refused([Flaw(field="t0_ns", message="this is no time", fix="send CLOCK_MONOTONIC in nanoseconds")])
        self.steering.begin_load(t0_ns)
        return answer({"t0_ns": t0_ns})

    async def end(self, request: Request) -> Response:
        """The load has ended."""
        code = _object(await read_json(request)).get("code", 0)
        if not isinstance(code, int):
            raise Refused(
                [Flaw(field="code", message="this is no exit code", fix="send 0, or what the load ended with")]
            )
        self.steering.end_load(code)
        return answer({"code": code})

    async def close(self) -> None:
        """End what is under way as a signal would, and wait for it."""
        self._stop.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _carry_out(self, loaded: Loaded, steering: Steering) -> None:
        outcome = await run_scenario(
            loaded,
            self._out,
            console=Console(self._screen),
            stop=self._stop,
            render=self._render,
            steering=steering,
        )
        if steering.phase != "ended":  # it could not even begin
            steering.finish(outcome)
        if outcome.detail is not None:
            self._screen.write(f"  {outcome.exit_code.name.lower()}: {outcome.detail}")
        if outcome.verdict is not None:
            Console(self._screen).verdict(loaded.name, outcome.verdict, outcome.folder / "index.html")
        self.code = outcome.exit_code


def _loaded(name: object) -> Loaded:
    if name == BY_HAND:
        return by_hand()
    try:
        loaded = load_scenario(find([str(name)])[0])
    except ScenarioError as error:
        raise Refused([Flaw(field="scenario", message=p.message, fix=p.fix) for p in error.problems]) from None
    if "wire" not in loaded.scenario.arenas:
        message = f"{name} runs in {', '.join(loaded.scenario.arenas)} only"
        raise Refused([Flaw(field="scenario", message=message, fix="choose one whose arenas have `wire`")])
    return loaded


def _object(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise Refused([Flaw(field="body", message="this is no JSON object", fix="send one")])
    return cast("dict[str, Any]", body)


def _read_on(stop: asyncio.Event) -> None:
    """Nothing is said on standard input: only its end counts."""
    with contextlib.suppress(BlockingIOError):
        if not os.read(sys.stdin.fileno(), 4096):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            stop.set()
