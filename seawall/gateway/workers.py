"""
Several gateway workers on one port: started, started again when one dies, drained together.

Each worker is a process of its own that listens on the port (SO_REUSEPORT: the kernel deals out the connections). The
supervisor only holds the port's number; where the platform does not deal out, workers share its listening socket. A
worker's standard input is its lifeline: it ends when the supervisor does, even by SIGKILL, and drains first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from router.errors import ConfigurationError
from router.models import FAILOVER_CHAIN
from router.settings import Settings
from seawall.gateway.metrics import Board
from seawall.screen import complain

__all__ = ["WORKERS_MAX", "check_budget", "follow_supervisor", "listen", "supervise"]

WORKERS_MAX = 256
SHARES_PORT = sys.platform == "linux"
"""Whether sockets with SO_REUSEPORT share the load: elsewhere the option exists, but one of them gets everything."""

_BACKLOG = 4096  # a short one turns a stall of the gateway into SYN retries of one second
_START_S = 60.0
_RESTART_MIN_S = 0.1
_RESTART_MAX_S = 5.0
_STEADY_S = 30.0
"""A worker that lived so long died of something new."""
_KILL_S = 5.0
"""Beyond the drain, before SIGKILL."""


def check_budget(settings: Settings, count: int) -> None:
    """Raise ConfigurationError where `count` workers would each spend the whole limit."""
    paid = any(one.api_key for provider in FAILOVER_CHAIN if provider.is_cloud for one in settings.targets(provider))
    if count > 1 and settings.budget_store == "memory" and paid and not settings.airgap_mode:
        raise ConfigurationError(
            f"BUDGET_STORE=memory is each worker's own: {count} workers could spend {count} times "
            f"DAILY_SPEND_LIMIT_USD; set BUDGET_STORE=sqlite (this host) or redis (any number of hosts), "
            f"or use one worker"
        )


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a listening socket; a `shared` port may have several. Raises OSError."""
    listener = _bound(host, port, shared=shared)
    listener.listen(_BACKLOG)
    return listener


def follow_supervisor(limit_s: float) -> None:
    """Have this process drain when standard input ends, and end at the latest `limit_s` seconds after that."""

    def follow() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 512):
                pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(limit_s)
        os._exit(1)

    threading.Thread(target=follow, name="lifeline", daemon=True).start()


def supervise(
    count: int,
    host: str,
    port: int,
    *,
    arguments: Sequence[str],
    drain_s: float,
    announce: Callable[[int], None],
    reloads: bool = False,
) -> int:
    """
    Serve with `count` workers until SIGTERM or SIGINT and return the exit code: 0 after a drain.

    `arguments` are added to each worker's command line, `drain_s` is how long a drain may take, `announce` is called
    with the port when all listen. `reloads`: SIGHUP is handed on to the workers, who read their files again. Raises
    OSError when the port cannot be had. A worker that ends before it has ever listened ends everything, with its exit
    code.
    """
    # Alone for a moment first: a second gateway on this port must not join in unseen.
    _bound(host, port, shared=False).close()
    with _bound(host, port, shared=SHARES_PORT) as holder, tempfile.TemporaryDirectory(prefix="seawall-") as folder:
        port = int(holder.getsockname()[1])
        command = [*_python(), "-m", "seawall.gateway", "--host", host, "--port", str(port), "--ready-json", *arguments]
        if SHARES_PORT:
            command.append("--reuse-port")
        else:
            holder.listen(_BACKLOG)
            command += ["--listen-fd", str(holder.fileno())]
        supervisor = _Supervisor(command, Path(folder), () if SHARES_PORT else (holder.fileno(),), drain_s)
        return asyncio.run(supervisor.run(count, lambda: announce(port), reloads=reloads))


class _Supervisor:
    """The workers by number; each is kept alive by a task of its own until `_stopping`."""

    def __init__(self, command: Sequence[str], folder: Path, inherited: tuple[int, ...], drain_s: float) -> None:
        self._command = command
        self._folder = folder
        self._inherited = inherited
        self._drain_s = drain_s
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._ready: dict[int, asyncio.Event] = {}
        self._stopping = asyncio.Event()
        self._code = 0

    async def run(self, count: int, announce: Callable[[], None], *, reloads: bool = False) -> int:
        """Keep `count` workers until a signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        if reloads:
            loop.add_signal_handler(signal.SIGHUP, self._send, signal.SIGHUP)
        # One first: what is wrong with the settings is told once.
        keepers = [asyncio.create_task(self._keep(0))]
        if await self._are_ready(range(1)):
            keepers += [asyncio.create_task(self._keep(worker)) for worker in range(1, count)]
            if await self._are_ready(range(count)):
                announce()
        await self._stopping.wait()
        _, late = await asyncio.wait(keepers, timeout=self._drain_s + _KILL_S)
        if late:
            complain(f"seawall serve: {len(late)} workers did not end in time and are killed")
            self._send(signal.SIGKILL)
            await asyncio.wait(late)
            self._code = self._code or 1
        return self._code

    def _stop(self, number: signal.Signals) -> None:
        """Begin the drain; on another SIGINT, end it."""
        self._send(signal.SIGINT if self._stopping.is_set() and number == signal.SIGINT else signal.SIGTERM)
        self._stopping.set()

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)

    async def _are_ready(self, workers: range) -> bool:
        """Wait until these listen; tell whether they do, and nobody wants us to stop."""
        events = [self._ready.setdefault(worker, asyncio.Event()) for worker in workers]
        ready = asyncio.gather(*(event.wait() for event in events))
        stopped = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((ready, stopped), timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if ready.done() and not self._stopping.is_set():
            return True
        ready.cancel()
        if not self._stopping.is_set():
            complain(f"seawall serve: a worker did not listen within {_START_S:g} s")
            self._code = 1
            self._stop(signal.SIGTERM)
        return False

    async def _keep(self, worker: int) -> None:
        """Start a worker, and again whenever it dies."""
        loop = asyncio.get_running_loop()
        ready = self._ready.setdefault(worker, asyncio.Event())
        pause_s = 0.0
        while not self._stopping.is_set():
            began_s = loop.time()
            code = await self._live(worker, ready)
            Board(self._board(worker)).clear_gauges()
            if self._stopping.is_set():
                break
            if not ready.is_set():
                self._code = code if code > 0 else 1
                self._stop(signal.SIGTERM)
                break
            if loop.time() - began_s >= _STEADY_S:
                pause_s = 0.0
            if not pause_s:  # what dies again and again is told once
                how = f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
                complain(f"seawall serve: worker {worker} {how}; starting it again")
            pause_s = min(max(_RESTART_MIN_S, 2 * pause_s), _RESTART_MAX_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def _live(self, worker: int, ready: asyncio.Event) -> int:
        """Run one worker process to its end and return its exit code."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *("--supervised", str(self._board(worker))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=self._inherited,
            start_new_session=True,  # Ctrl-C is for the supervisor, which tells the workers
        )
        self._processes[worker] = process
        if self._stopping.is_set():  # the signal came before there was anybody to hand it on to
            self._send(signal.SIGTERM)
        assert process.stdout is not None  # noqa: S101 - asked for above
        async for line in process.stdout:
            if line.startswith(b'{"ready":true'):
                ready.set()
            else:
                sys.stdout.write(line.decode("utf-8", "replace"))
        return await process.wait()

    def _board(self, worker: int) -> Path:
        return self._folder / f"{worker}{Board.SUFFIX}"


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _python() -> list[str]:
    """Return the interpreter, which finds our packages where we did: in the current folder only if we did there."""
    here = str(Path.cwd())
    return [sys.executable] if {"", here} & set(sys.path) else [sys.executable, "-P"]
