"""Carrying out what probes and hooks ask for, against the address where a pod really listens."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable

from seawall.cluster.kubelet.probes import Action, Exec, HttpGet

__all__ = ["RunCommand", "check"]

RunCommand = Callable[[tuple[str, ...], float], Awaitable[str | None]]
"""Runs a command in the container for at most so many seconds; returns what went wrong, None when nothing did."""

_LINE_LIMIT = 8192


async def check(action: Action, address: str, timeout_s: float, run: RunCommand) -> str | None:
    """Carry it out within `timeout_s` seconds and return what went wrong; None is success."""
    if isinstance(action, Exec):
        return await run(action.command, timeout_s)
    where = f"{address}:{action.port}"
    try:
        async with asyncio.timeout(timeout_s):
            if isinstance(action, HttpGet):
                return await _get(action, address)
            _, writer = await asyncio.open_connection(address, action.port)
            writer.close()
            return None
    except TimeoutError:
        return f"no answer from {where} within {timeout_s:g} s"
    except OSError as error:
        return f"dial {where}: {os.strerror(error.errno) if error.errno else error}"


async def _get(action: HttpGet, address: str) -> str | None:
    context = None
    if action.tls:  # a kubelet takes any certificate
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(address, action.port, ssl=context, limit=_LINE_LIMIT)
    words: list[bytes] = []
    try:
        headers = {"Host": f"{address}:{action.port}", "User-Agent": "kube-probe", "Accept": "*/*", **action.headers}
        lines = [f"GET {action.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1", "replace"))
        words = (await reader.readuntil(b"\n")).split()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return f"{address}:{action.port} did not answer in HTTP"
    return None if 200 <= int(words[1]) < 400 else f"HTTP probe failed with statuscode: {int(words[1])}"
