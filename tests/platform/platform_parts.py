"""What the tests of the platform share beside their fixtures: processes that end, and certificates of every kind."""

from __future__ import annotations

import datetime
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seawall.certs.authority import Authority


class Running:
    """A running gateway process; `says` is what it has written to standard error."""

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    @property
    def says(self) -> str:
        """What stands on its standard error so far."""
        return self._log.read_text(encoding="utf-8")


@contextmanager
def ended(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Have a process end with the block."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Pki:
    """Two authorities, and what their services look like to a client."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "ours")
        self.authority.begin("ecdsa")
        for name in ("backend", "db", "web", "stranger", "revoked"):
            self.authority.issue(name, kind="ecdsa")
        self.authority.revoke("revoked")
        long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=100)
        Authority(self.authority.folder, now=lambda: long_ago).issue("expired", kind="ecdsa", days=90)
        self.others = Authority(folder / "others")
        self.others.begin("ecdsa")
        self.others.issue("web", kind="ecdsa")

    def client(self, name: str | None, *, of: Authority | None = None) -> ssl.SSLContext:
        """Return the context of a client that trusts our authority and shows a certificate, or none."""
        authority = of or self.authority
        context = ssl.create_default_context(cafile=self.authority.cert_path("ca"))
        if name is not None:
            context.load_cert_chain(authority.cert_path(name), authority.key_path(name))
        return context


def listening(port: int) -> None:
    """Wait until somebody listens on a port."""
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return
