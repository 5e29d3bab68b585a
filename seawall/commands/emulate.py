"""`seawall emulate`: the providers' stand-ins on ports of one's choice, for a gateway or an SDK of one's own."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Mapping
from typing import Any

from seawall.emulators.config import Config, ConfigError, from_names, with_ports
from seawall.emulators.server import EmulatorServer
from seawall.screen import Screen, complain

__all__ = ["emulate", "environment_of"]

_ALL = ("gemini", "claude", "openai", "local")
# Provider → the variable of its address, the variable of its key, both as the router and most gateways read them.
_VARIABLES = {
    "gemini": ("GEMINI_BASE_URL", "GEMINI_API_KEY"),
    "claude": ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
    "openai": ("OPENAI_BASE_URL", "OPENAI_API_KEY"),
    "local": ("OLLAMA_HOST", None),
}
_BAD_USAGE = 2
_NO_PORT = 3


def environment_of(ports: Mapping[str, int]) -> dict[str, str]:
    """Return the variables that lead a router to emulators on these ports, with keys that are none."""
    found: dict[str, str] = {}
    for provider, port in ports.items():
        address, key = _VARIABLES[provider]
        found[address] = f"http://127.0.0.1:{port}"
        if key is not None:
            found[key] = "emulated"
    return found


def emulate(options: Any) -> int:
    """Serve until SIGINT or SIGTERM. 2 when the options cannot be used, 3 when a port is taken."""
    try:
        config = _config(options)
    except ConfigError as error:
        complain(f"seawall emulate: {error}")
        return _BAD_USAGE
    return asyncio.run(_serve(config))


async def _serve(config: Config) -> int:
    server = EmulatorServer(config, secrets.token_urlsafe(24))
    try:
        await server.start()
    except OSError as error:
        complain(f"seawall emulate: a port cannot be opened: {error.strerror}; choose others with --port or --ports")
        return _NO_PORT
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    screen = Screen()
    for name, value in environment_of(server.ports).items():
        screen.write(f"export {name}={value}")
    if "openai" in server.ports:
        screen.write(
            f"# OpenAI's own SDK wants the version too: OPENAI_BASE_URL=http://127.0.0.1:{server.ports['openai']}/v1"
        )
    screen.write("# Ctrl-C ends the emulators.")
    await stopped.wait()
    await server.stop()
    return 0


def _config(options: Any) -> Config:
    names = [name.strip() for name in (options.providers or ",".join(_ALL)).split(",") if name.strip()]
    config = from_names(names, options.seed)
    if options.port is not None and options.ports:
        raise ConfigError("give --port or --ports, not both")
    if options.port is not None:
        return with_ports(config, {name: options.port + n for n, name in enumerate(config.providers)})
    return with_ports(config, dict(_pair(item) for item in (options.ports or "").split(",") if item.strip()))


def _pair(item: str) -> tuple[str, int]:
    name, _, port = item.strip().partition("=")
    if not port.isdecimal():
        raise ConfigError(f"--ports has {item.strip()!r}; write NAME=PORT, such as gemini=9001")
    return name, int(port)
