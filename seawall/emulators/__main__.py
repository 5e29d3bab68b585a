"""
`python -m seawall.emulators`: stand-ins for the providers, as a process of their own.

Prints one JSON line when it listens: `{"ready": true, "pid": …, "ports": {"gemini": …}, "admin": …}`. The admin token
is SEAWALL_TOKEN; without it a random one is made and told in that line. SIGTERM and SIGINT end it with exit code 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from seawall.emulators.config import Config, ConfigError, from_file, from_names, with_ports
from seawall.emulators.server import EmulatorServer
from seawall.journal.writer import EventWriter

__all__ = ["TOKEN_VARIABLE", "main"]

TOKEN_VARIABLE = "SEAWALL_TOKEN"  # noqa: S105 - the variable's name
_BAD_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop. Returns the exit code: 0, or 2 when the configuration or a port cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        config = _config(options)
        writer = EventWriter.from_environment("emulator")
    except (ConfigError, OSError) as error:
        print(f"seawall.emulators: {error}", file=sys.stderr)
        return _BAD_USAGE
    _raise_descriptor_limit()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(config, writer))
    finally:
        if writer is not None:
            writer.close()


async def _serve(config: Config, writer: EventWriter | None) -> int:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    told = os.environ.get(TOKEN_VARIABLE)
    token = told or secrets.token_urlsafe(24)
    server = EmulatorServer(config, token, writer)
    try:
        await server.start()
    except OSError as error:
        print(f"seawall.emulators: a port cannot be opened: {error}", file=sys.stderr)
        return _BAD_USAGE
    ready = {"ready": True, "pid": os.getpid(), "ports": server.ports, "admin": server.admin_port}
    print(json.dumps(ready if told else {**ready, "token": token}), flush=True)
    await stopped.wait()
    await server.stop()
    return 0


def _config(options: argparse.Namespace) -> Config:
    providers: list[str] = options.providers
    if options.config is not None and providers:
        raise ConfigError("give --config or --providers, not both")
    config = from_file(options.config) if options.config is not None else from_names(providers, options.seed or 0)
    return with_ports(config, dict(options.ports))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m seawall.emulators", description="Stand-ins for the LLM providers.")
    parser.add_argument("--config", type=Path, help='JSON file: {"seed": 7, "providers": {"gemini": {"tokens": 16}}}')
    parser.add_argument("--providers", type=_names, default=[], help="with defaults: gemini,claude,openai,local")
    parser.add_argument("--ports", type=_ports, default={}, help="fixed ports: gemini=9001,claude=9002")
    parser.add_argument("--seed", type=int, help="with --providers")
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _ports(text: str) -> dict[str, int]:
    pairs = (item.partition("=") for item in _names(text))
    return {name: int(port) for name, _, port in pairs}


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - an extra; asyncio's own loop serves as well, with less room to spare
    except ImportError:
        return None
    return uvloop.new_event_loop


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as the system lets us: one a connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
