"""
How a process of the arena shows that it serves, was stopped, or is gone: the evidence of process faults.

Each look is a fresh connection that asks something only that process can answer; a stopped one shows by its silence
and by the state that the system gives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

from faults.base import FaultError
from faults.probe import PERIOD_S
from faults.process import Action, ProcessFault
from seawall.arenas.injector import PlannedFault
from seawall.arenas.part import Part
from seawall.scenario.model import FaultSpec

__all__ = [
    "ProcessProver",
    "ask",
    "gateway_answers",
    "path_answers",
    "planned_process_fault",
    "redis_answers",
    "toxiproxy_answers",
]

_ASK_LIMIT_S = 0.5
_ANSWER_LIMIT = 64 * 1024
_LOOKS = 16
_LOOK_EVERY_S = 0.02
_WORKER = re.compile(rb"\r\nx-seawall-worker: gateway-(\d+)\r\n", re.IGNORECASE)


class ProcessProver:
    """Looks at `part` while a fault does `action` to it."""

    by_behaviour = False

    def __init__(self, part: Part, action: Action) -> None:
        self._part = part
        self._action = action

    async def prepare(self) -> None:
        """See Prover. Before any fault it must answer, or its silence would prove nothing."""
        if await self._part.answers() is None:
            raise FaultError(f"{self._part.name} does not answer on port {self._part.port} before any fault")

    async def active(self, deadline_s: float, stop: asyncio.Event) -> dict[str, Any] | None:
        """See Prover."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + deadline_s
        while not stop.is_set():
            found = await self._silent() if self._action == "stop" else self._gone()
            if found is not None or loop.time() >= due_s:
                return found
            await asyncio.sleep(_LOOK_EVERY_S)
        return None

    async def healed(self, deadline_s: float) -> dict[str, Any] | None:
        """See Prover."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + deadline_s
        while True:
            found = await self._part.answers()
            if found is not None:
                return {"criterion": "serves", "pid": self._part.child.pid, "port": self._part.port, **found}
            if loop.time() >= due_s:
                return None
            await asyncio.sleep(PERIOD_S)

    def _gone(self) -> dict[str, Any] | None:
        """The process has ended, and its port refuses, unless other workers share it."""
        ended = self._part.ended
        if ended is None or not (ended.refused or self._part.shared):
            return None
        return {
            "criterion": "gone",
            "pid": ended.pid,
            "exit_code": ended.exit_code,
            "port": ended.port,
            "port_refuses": ended.refused,
        }

    async def _silent(self) -> dict[str, Any] | None:
        """The system says that it is stopped and, where nobody else serves on its port, a question stays unanswered."""
        seen = self._part.seen()
        if seen is None or not seen.is_stopped:
            return None
        if not self._part.shared and await self._part.answers() is not None:
            return None
        return {
            "criterion": "stopped",
            "pid": seen.pid,
            "state": seen.state,
            "port": self._part.port,
            "unanswered_s": None if self._part.shared else _ASK_LIMIT_S,
        }


def planned_process_fault(spec: FaultSpec, start_s: float, part: Part, key: str) -> PlannedFault:
    """Return the fault `process` of the scenario, bound to its part, which the run attached as `key`."""
    assert spec.process is not None  # noqa: S101 - what the caller has seen
    fault = ProcessFault(id=spec.id, target=spec.target, key=key, action=spec.process)
    prover = ProcessProver(part, spec.process)
    return PlannedFault(fault=fault, prover=prover, start_s=start_s, duration_s=spec.duration)


async def gateway_answers(pid: int, port: int, *, shared: bool = False) -> dict[str, Any] | None:
    """Ask a gateway worker for /readyz: often where others share its port, as the kernel chooses who answers."""
    for _ in range(_LOOKS if shared else 1):
        answer = await ask(port, b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        if answer.startswith(b"HTTP/1.1 200 "):
            worker = _WORKER.search(answer)
            if not shared or (worker is not None and int(worker[1]) == pid):
                return {"answer": "/readyz 200"}
    return None


async def path_answers(_pid: int, port: int, *, path: str) -> dict[str, Any] | None:
    """Ask a gateway of others for the path that says that it serves."""
    answer = await ask(port, f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
    return {"answer": f"{path} 200"} if answer.startswith(b"HTTP/1.1 200 ") else None


async def redis_answers(pid: int, port: int) -> dict[str, Any] | None:
    """Ask a Redis for PONG and for its process id: another server's answer counts for nothing."""
    answer = await ask(port, b"PING\r\nINFO server\r\nQUIT\r\n")
    ours = f"\r\nprocess_id:{pid}\r\n".encode()
    return {"answer": "PONG"} if answer.startswith(b"+PONG\r\n") and ours in answer else None


async def toxiproxy_answers(_pid: int, port: int, *, marker: str) -> dict[str, Any] | None:
    """Ask a Toxiproxy for the proxy `marker`, which only ours has; it does not tell its process id."""
    question = f"GET /proxies/{marker} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    answer = await ask(port, question.encode())
    return {"answer": "/proxies 200"} if answer.startswith(b"HTTP/1.1 200 ") else None


async def ask(port: int, question: bytes) -> bytes:
    """Return what the loopback port answers until it closes the connection; nothing when it does not in 0.5 s."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_ASK_LIMIT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(question)
            answer = b""
            while len(answer) < _ANSWER_LIMIT and (piece := await reader.read(_ANSWER_LIMIT)):
                answer += piece
            return answer
    except OSError:  # the deadline is one too
        return b""
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
