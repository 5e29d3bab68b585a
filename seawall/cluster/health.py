"""Whether a part is ready, and how much memory it takes."""

from __future__ import annotations

import asyncio
import http.client
import re
import ssl
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

__all__ = ["answers", "memory_kib"]

_TIMEOUT_S = 3.0
_PATHS = {
    # The aggregated readiness of the API server includes its etcd, its hooks and the start of its informers.
    "kube-apiserver": "/readyz",
    "kube-controller-manager": "/healthz",
    "kube-scheduler": "/readyz",
    "etcd": "/health",
}
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
_PS_LIMIT_S = 5.0


async def answers(part: str, state: Path, ports: dict[str, int]) -> bool:
    """Ask a part whether it is ready: True when it says so, False for anything else, and when it cannot be reached."""
    # In a thread: it is asked again and again while it starts, and often given up in mid-connection.
    return await asyncio.to_thread(_ask, part, state, ports)


def _ask(part: str, state: Path, ports: dict[str, int]) -> bool:
    webhook = part == "chaos-controller-manager"
    port = ports.get("chaos-webhook" if webhook else part)
    if port is None:
        return False
    headers: dict[str, str] = {}
    if part == "kube-apiserver":
        headers["Authorization"] = f"Bearer {(state / 'token').read_text('ascii').strip()}"
    context = _context(state / "pki", "etcd" if part == "etcd" else "")
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=_TIMEOUT_S, context=context)
    try:
        connection.request("GET", "/" if webhook else _PATHS[part], headers=headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    # A webhook server has no page of health: that it speaks TLS with our certificate is what can be seen.
    return status == http.HTTPStatus.NOT_FOUND if webhook else status == http.HTTPStatus.OK


def memory_kib(pid: int) -> int | None:
    """
    Return what a process takes of this machine's memory in KiB; None when it cannot be told.

    On Linux the proportional set size, in which pages that several processes share are split between them; elsewhere
    the resident set, which is more.
    """
    if sys.platform.startswith("linux"):
        try:
            found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text("ascii"))
        except OSError:
            return None
        return int(found[1]) if found else None
    try:
        said = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(pid)],  # noqa: S607 - the system's own
            capture_output=True,
            text=True,
            timeout=_PS_LIMIT_S,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return int(said) if said.strip().isdecimal() else None


@lru_cache(maxsize=4)
def _context(pki: Path, client: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pki / f"{client and 'etcd-'}ca.crt"))
    if client:
        context.load_cert_chain(pki / "etcd-client.crt", pki / "etcd-client.key")
    return context
