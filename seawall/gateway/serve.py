"""Run one gateway worker: `python -m seawall.gateway --port 0 --ready-json`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import msgspec
import uvicorn

from router.errors import ConfigurationError
from router.events import Event
from router.hybrid import HybridRouter
from router.settings import Settings
from seawall.gateway.app import create_app
from seawall.gateway.config import GatewaySettings
from seawall.journal.writer import EventWriter

__all__ = ["main", "serve"]

_BACKLOG = 4096  # a short one turns a stall of the gateway into SYN retries of one second


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and serve until SIGTERM or SIGINT. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="seawall serve", description="Serve the gateway.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8080, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--reuse-port", action="store_true", help="share the port with other workers that do so")
    parser.add_argument("--ready-json", action="store_true", help="print one line of JSON when listening")
    options = parser.parse_args(argv)
    try:
        settings, gateway = Settings.from_environment(), GatewaySettings.from_environment()
    except ConfigurationError as error:
        sys.stderr.write(f"seawall serve: {error}\n")
        return 2
    try:
        listener = _listen(options.host, options.port, shared=options.reuse_port)
    except OSError as error:
        sys.stderr.write(
            f"seawall serve: cannot listen on {options.host}:{options.port}: {error.strerror}; choose another --port\n"
        )
        return 3
    try:
        serve(settings, gateway, listener, ready_json=options.ready_json, shared=options.reuse_port)
    except ConfigurationError as error:  # what only the router itself can check
        sys.stderr.write(f"seawall serve: {error}\n")
        return 2
    finally:
        listener.close()
    return 0


def serve(
    settings: Settings, gateway: GatewaySettings, listener: socket.socket, *, ready_json: bool, shared: bool = False
) -> None:
    """
    Serve on `listener` until SIGTERM or SIGINT, then let answers under way finish, up to the drain timeout.

    Where the port is `shared` by several workers, each answer says which of them gave it (`X-Seawall-Worker`).
    """
    sink = _sink_of(EventWriter.from_environment("gateway"))
    worker = f"gateway-{os.getpid()}"

    app = create_app(
        lambda: HybridRouter(settings, sink=sink, worker=worker), gateway, is_draining=lambda: server.should_exit
    )
    server = _Server(
        uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            server_header=False,
            headers=[("x-seawall-worker", worker)] if shared else [],
            timeout_graceful_shutdown=int(gateway.drain_timeout_s),
            timeout_keep_alive=60,
        )
    )
    host, port = listener.getsockname()[:2]
    if ready_json:
        line = {"ready": True, "pid": os.getpid(), "port": port}
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    else:
        sys.stdout.write(f"Seawall gateway on http://{host}:{port} (Ctrl-C stops it)\n")
    sys.stdout.flush()
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[listener]))


class _Server(uvicorn.Server):
    """uvicorn's server, but a stop that was asked for ends with exit code 0, not with the signal raised again."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Let SIGTERM and SIGINT begin the drain; a second SIGINT ends it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def _sink_of(writer: EventWriter | None) -> Callable[[Event], None]:
    """Return a sink that never raises: a full disk must not fail a request. What it lost, it says once."""
    failed = False

    def sink(event: Event) -> None:
        nonlocal failed
        if writer is None:
            return
        try:
            writer.write(event)
        except OSError as error:
            if not failed:
                failed = True
                sys.stderr.write(f"seawall serve: events are lost, the journal cannot be written: {error.strerror}\n")

    return sink


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{port} is not from 0 to 65535")
    return port


def _listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
