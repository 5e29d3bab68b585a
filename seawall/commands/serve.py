"""`seawall serve`: the gateway, with `--demo` in front of emulated providers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Generator
from typing import Any

from seawall import supervise
from seawall.commands.emulate import environment_of
from seawall.gateway.serve import main as serve_gateway
from seawall.screen import complain

__all__ = ["serve"]

_DEMO = "gemini,claude,openai,local"
_STOP_S = 5.0
_NOT_STARTED = 3


def serve(options: Any) -> int:
    """Serve until SIGTERM or SIGINT and return the gateway's exit code."""
    argv = ["--host", options.host] if options.host is not None else []
    argv += ["--port", str(options.port)] if options.port is not None else []
    argv += ["--ready-json"] if options.ready_json else []
    if not options.demo:
        return serve_gateway(argv)
    try:
        with _emulators() as environment:
            os.environ.update(environment)
            _say_demo(options)
            return serve_gateway(argv)
    except (OSError, ValueError) as error:
        complain(f"seawall serve: the emulated providers did not start: {error}")
        return _NOT_STARTED


@contextlib.contextmanager
def _emulators() -> Generator[dict[str, str]]:
    """Start the emulators in a process that ends with this one, however that ends; yield what leads to them."""
    command = supervise.command_line([sys.executable, "-m", "seawall.emulators", "--providers", _DEMO])
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None  # noqa: S101 - asked for above
        ports = json.loads(process.stdout.readline())["ports"]
        # A demo must reach nothing but the emulators, whatever the machine's settings or a .env file say.
        yield {**environment_of(ports), "AIRGAP_MODE": "false", "BUDGET_STORE": "memory"}
    finally:
        assert process.stdin is not None  # noqa: S101 - asked for above
        process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
        if process.stdout is not None:
            process.stdout.close()


def _say_demo(options: Any) -> None:
    if options.ready_json:
        return
    port = 8080 if options.port is None else options.port
    body = '{"model": "gemini", "messages": [{"role": "user", "content": "Hello"}]}'
    complain("Demo: all four providers are emulated; no key is used and nothing leaves this machine. Try:")
    complain(
        f"  curl http://127.0.0.1:{port or 'PORT'}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'"
    )
