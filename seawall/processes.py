"""
The processes of a run: started, made ready, signalled, stopped, and never outliving the harness.

    async with Processes(on_event=…) as processes:
        gateway = await processes.start("gateway", argv, env=…, ready="json-line", log=folder / "gateway.log")
        gateway.ready["port"]

Each child runs under `seawall.supervise` and ends when this process does, even by SIGKILL. Exit codes are those of the
child itself: negative for a signal, as in `subprocess`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

from router.errors import SeawallError
from seawall import pipes, supervise

__all__ = ["Child", "OnEvent", "ProcessFailed", "Processes", "Ready", "accepting", "free_port"]

Action = Literal["start", "ready", "stop", "exit"]
OnEvent = Callable[[str, Action, int, int | None], None]
"""Called as (name, action, pid, exit code); the code is None but for `exit`."""

_POLL_S = 0.05
_KILL_LIMIT_S = 5.0
_DRAIN_LIMIT_S = 1.0
_QUOTED_LINES = 10
_TAIL_BYTES = 64 * 1024
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|DSN", re.IGNORECASE)
_USERINFO = re.compile(r"://[^/\s@]*@")


class ProcessFailed(SeawallError):
    """
    A process could not be started, ended before it was ready, or was not ready in time.

    `name`, `exit_code` (None while it ran) and `log_lines`, the last ten lines of its log without the values of its
    secret variables. No value of its environment is told.
    """

    code = "process_failed"

    def __init__(self, name: str, problem: str, *, exit_code: int | None, log_lines: Sequence[str]) -> None:
        self.name = name
        self.exit_code = exit_code
        self.log_lines = tuple(log_lines)
        quoted = "".join(f"\n    {line}" for line in self.log_lines) or " nothing"
        super().__init__(f"{name} {problem}; the end of its log:{quoted}")


class Child:
    """One process. Made by `Processes.start`."""

    def __init__(self, name: str, log: Path, secrets: Sequence[str], on_event: OnEvent) -> None:
        self.name = name
        self.log = log
        self.pid = 0
        """The child's own process id, which is its session's and its process group's too. 0 before it runs."""
        self.ready: dict[str, Any] = {}
        """The line of JSON that it announced itself with, where it does."""
        self.announced = asyncio.Event()
        """Set when `ready` is known."""
        self.exited = asyncio.Event()
        """Set when the child has ended; `code` is known from then on."""
        self.code: int | None = None
        self._problem: str | None = None
        self._secrets = secrets
        self._on_event = on_event
        self._orders = -1
        self._stopping = False
        self._supervisor: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid} code={self.code}>"

    @property
    def is_running(self) -> bool:
        """Whether the child was started and, as far as is known, has not ended."""
        return self._watcher is not None and not self.exited.is_set()

    async def wait(self) -> int:
        """Wait for the end of the child and return its exit code."""
        await self.exited.wait()
        assert self.code is not None  # noqa: S101 - set before the event
        return self.code

    async def ended_within(self, seconds: float) -> bool:
        """Wait for the end of the child, at most `seconds`, and tell whether it has come."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.exited.wait(), seconds)
        return self.exited.is_set()

    def send_signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the child, or to its whole process group. Does nothing when it has ended."""
        if self._orders >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._orders, bytes([number | (supervise.GROUP if group else 0)]))

    def kill(self) -> None:
        """Kill the child and all of its process group at once."""
        self.send_signal(signal.SIGKILL, group=True)

    async def stop(self, grace_s: float = 5.0) -> int:
        """
        End the child: SIGTERM to it, after `grace_s` seconds SIGKILL to its group. Returns the exit code.

        A child that was stopped with SIGSTOP is continued, so that it can act on it. Idempotent.
        """
        if self.is_running:
            if not self._stopping:
                self._stopping = True
                self.tell("stop")
            self.send_signal(signal.SIGTERM)
            self.send_signal(signal.SIGCONT, group=True)
            if not await self.ended_within(grace_s):
                self.kill()
                if not await self.ended_within(_KILL_LIMIT_S) and self._supervisor is not None:
                    # The supervisor itself is stuck. Where there is a death signal, its end is the child's.
                    with contextlib.suppress(ProcessLookupError):
                        self._supervisor.kill()
        return await self.wait()

    def tell(self, action: Action) -> None:
        """Report to `on_event`. What that raises goes to the loop's exception handler: a process must be watched on."""
        try:
            self._on_event(self.name, action, self.pid, self.code)
        except Exception as error:  # noqa: BLE001 - told just below
            loop = asyncio.get_running_loop()
            loop.call_exception_handler({"message": f"on_event failed for {self.name} {action}", "exception": error})

    def tail(self) -> list[str]:
        """Return the last ten lines of the log, with the values of secret variables masked."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        for secret in self._secrets:
            text = text.replace(secret, "****")
        return _USERINFO.sub("://****@", text).splitlines()[-_QUOTED_LINES:]

    def failure(self, problem: str) -> ProcessFailed:
        """Return the error that says what happened to this child."""
        return ProcessFailed(self.name, problem, exit_code=self.code, log_lines=self.tail())

    async def launch(
        self, argv: Sequence[str], env: Mapping[str, str] | None, *, announces: bool, cwd: Path | None = None
    ) -> None:
        """
        Start the process and return when it runs. Called once, by `Processes.start`.

        `announces`: its output has a line of JSON to be found. Raises ProcessFailed when it cannot be started.
        """
        orders, self._orders = os.pipe()
        os.set_blocking(self._orders, False)
        life, life_writer = os.pipe()
        output, output_writer = os.pipe() if announces else (-1, -1)
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            self._supervisor = await asyncio.create_subprocess_exec(
                *supervise.command_line(list(argv), control=life_writer),
                stdin=orders,
                stdout=output_writer if announces else log,
                stderr=log,
                env=None if env is None else dict(env),
                cwd=cwd,
                pass_fds=(life_writer,),
                start_new_session=True,
            )
        except BaseException:
            self._close_orders()
            pipes.close(life, output, log)
            raise
        finally:
            # What the supervisor holds must be held by nobody else, or an end of file would never come.
            pipes.close(orders, life_writer, output_writer)
        running = asyncio.Event()
        self._watcher = asyncio.create_task(
            self._watch(self._supervisor, life, output, log, running), name=f"watch {self.name}"
        )
        try:
            await running.wait()
        except BaseException:
            self._close_orders()
            raise
        if not self.pid:
            await self.wait()
            raise self.failure(f"cannot be started: {argv[0]}: {self._problem or 'its supervisor ended'}")

    async def _watch(
        self, supervisor: asyncio.subprocess.Process, life: int, output: int, log: int, running: asyncio.Event
    ) -> None:
        """Follow the child's life and drain its output until it has ended, then say so."""
        drain = asyncio.create_task(pipes.drain(output, log, self._announce))
        code: int | None = None
        async with pipes.reading(life) as lines:
            async for line in lines:
                word, number = line.decode().split()
                if word == "pid":
                    self.pid = int(number)
                    self.tell("start")
                    running.set()
                elif word == "failed":
                    self._problem = os.strerror(int(number))
                else:
                    code = int(number) if word == "exit" else -int(number)
        self._close_orders()
        supervisor_code = await supervisor.wait()
        # A process that left the group may hold the output open for ever.
        await asyncio.wait((drain,), timeout=_DRAIN_LIMIT_S)
        if not drain.done():
            drain.cancel()
            await asyncio.wait((drain,))
        pipes.close(log)
        self.code = supervisor_code if code is None else code
        self.exited.set()
        running.set()
        if self.pid:
            self.tell("exit")

    def _announce(self, line: bytes) -> bool:
        """Take the first line of JSON; tell whether this is it."""
        if self.announced.is_set():
            return False
        try:
            said = json.loads(line)
        except ValueError:
            return False
        if isinstance(said, dict):
            self.ready = cast("dict[str, Any]", said)
            self.announced.set()
        return self.announced.is_set()

    def _close_orders(self) -> None:
        pipes.close(self._orders)
        self._orders = -1


Ready = Callable[[Child], Awaitable[bool]]
"""Asked again and again until it says True; an OSError means not yet."""


class Processes:
    """
    The children of a run, by name. Leaving the `async with` block stops them all.

    `on_event` gets every start, ready, stop and exit, in the event loop. Not thread-safe.
    """

    def __init__(self, *, on_event: OnEvent | None = None) -> None:
        self.children: dict[str, Child] = {}
        """The latest child of each name, in the order of starting."""
        self._on_event: OnEvent = on_event or (lambda _name, _action, _pid, _code: None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.stop_all()

    async def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        ready: Literal["json-line"] | Ready | None = None,
        deadline_s: float = 10.0,
    ) -> Child:
        """
        Start `argv` and wait until it is ready, at most `deadline_s` seconds.

        `env` is the child's whole environment, `cwd` its working folder (None: ours). Standard output and error are
        appended to the file `log`. Ready is: with `json-line`, the first line of standard output that is a JSON object
        (kept in `child.ready`, not logged); with a callable, when it returns True; else when it runs. Raises
        ProcessFailed when it cannot be started, ends before that or is too late (it is killed then), and ValueError
        when `name` still runs.
        """
        former = self.children.get(name)
        if former is not None and former.is_running:
            raise ValueError(f"a process named {name!r} is running already (pid {former.pid})")
        child = Child(name, log, _secrets(env), self._on_event)
        self.children.pop(name, None)
        self.children[name] = child
        await child.launch(argv, env, announces=ready == "json-line", cwd=cwd)
        try:
            await self._until_ready(child, ready, deadline_s)
        except BaseException as error:
            child.kill()
            if isinstance(error, Exception):  # not a cancellation: the name is to be free for another try
                await child.ended_within(_KILL_LIMIT_S)
            raise
        if ready is not None:
            child.tell("ready")
        return child

    async def stop_all(self, grace_s: float = 5.0, *, first: str | None = None) -> None:
        """
        Stop every child at the same time, but those whose names begin with `first` before the others.

        Takes at most `grace_s` and a few seconds more, twice that with `first`.
        """
        running = [child for child in self.children.values() if child.is_running]
        if first is not None:
            await asyncio.gather(*(child.stop(grace_s) for child in running if child.name.startswith(first)))
        await asyncio.gather(*(child.stop(grace_s) for child in running if child.is_running))

    async def _until_ready(self, child: Child, ready: Literal["json-line"] | Ready | None, deadline_s: float) -> None:
        if ready is None:
            return
        check = asyncio.ensure_future(child.announced.wait() if ready == "json-line" else _poll(child, ready))
        ended = asyncio.ensure_future(child.exited.wait())
        try:
            done, _ = await asyncio.wait((check, ended), timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            check.cancel()
            ended.cancel()
        if check in done:
            check.result()
        elif ended in done:
            raise child.failure(f"ended with exit code {child.code} before it was ready")
        else:
            child.kill()
            await child.ended_within(_KILL_LIMIT_S)
            raise child.failure(f"was not ready after {deadline_s:g} s and was killed")


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that was free a moment ago. Another process may take it: prefer port 0 where a child can."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def accepting(port: int, host: str = "127.0.0.1") -> Ready:
    """Return a readiness check: the TCP port accepts a connection."""

    async def check(_child: Child) -> bool:
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    return check


async def _poll(child: Child, ready: Ready) -> bool:
    while True:
        with contextlib.suppress(OSError):
            if await ready(child):
                return True
        await asyncio.sleep(_POLL_S)


def _secrets(env: Mapping[str, str] | None) -> list[str]:
    """Return the values to mask: those of variables named like a secret, longest first."""
    variables = os.environ if env is None else env
    values = {value for name, value in variables.items() if _SECRET_NAME.search(name) and len(value) >= 4}
    return sorted(values, key=len, reverse=True)
