"""`seawall serve --demo`: the gateway in front of emulated providers. No keys, no costs, nothing leaves the machine."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

from seawall import supervise
from seawall.commands.emulate import environment_of

__all__ = ["emulated", "words"]

_PROVIDERS = "gemini,claude,openai,local"
_STOP_S = 5.0
_ASKED = {"model": "gemini", "messages": [{"role": "user", "content": "Hello"}]}


@contextlib.contextmanager
def emulated(workers: int = 1) -> Generator[dict[str, str]]:
    """
    Start the emulators in a process that ends with this one, however that ends; yield what leads a gateway to them.

    Several workers share a budget in a file that goes with the demo.

    Raises OSError or ValueError when they do not start.
    """
    command = supervise.command_line([sys.executable, "-m", "seawall.emulators", "--providers", _PROVIDERS])
    # In a session of its own: Ctrl-C is for the gateway, whose last answers still need a provider.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None  # noqa: S101 - asked for above
    assert process.stdout is not None  # noqa: S101 - asked for above
    with process.stdin as lifeline, process.stdout as said, tempfile.TemporaryDirectory(prefix="seawall-") as folder:
        try:
            ports = json.loads(said.readline())["ports"]
            # A demo must reach nothing but the emulators, whatever the machine's settings or a .env file say.
            yield {
                **environment_of(ports),
                "AIRGAP_MODE": "false",
                "BUDGET_STORE": "memory" if workers == 1 else "sqlite",
                "BUDGET_SQLITE_PATH": str(Path(folder, "budget.sqlite")),
                "SEAWALL_API_KEYS": "",
                "METRICS_API_KEY": "",
            }
        finally:
            lifeline.close()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def words(url: str) -> str:
    """Return what to tell the user of a demo that listens at `url`."""
    tls = "\nIt speaks TLS: add --cacert with its CA's certificate, and --cert and --key where it asks clients for one."
    body = json.dumps(_ASKED)
    return (
        "Demo: all four providers are emulated; no key is used and nothing leaves this machine. Try:\n"
        f"  curl {url}/v1/chat/completions -H 'Content-Type: application/json' -d {shlex.quote(body)}"
        f"{tls if url.startswith('https:') else ''}"
    )
