"""Run the gateway: `python -m seawall.gateway --port 0 --ready-json`, in one process or with `--workers`."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from router.errors import ConfigurationError
from router.events import Event
from router.hybrid import HybridRouter
from router.settings import Settings
from seawall.config_file import load_settings
from seawall.gateway.config import GatewaySettings
from seawall.gateway.logs import Log, logged
from seawall.gateway.protection import add_tls_flags, app_with, router_with, server_with, take_tls_flags
from seawall.gateway.redaction import redaction_for
from seawall.gateway.workers import WORKERS_MAX, check_budget, follow_supervisor, listen, supervise
from seawall.journal.writer import EventWriter
from seawall.screen import complain
from seawall.transports import transport_named

__all__ = ["main", "serve"]

_LATE_S = 5.0
"""What the end of a worker may take beyond its drain."""


def main(argv: Sequence[str] | None = None, *, on_ready: Callable[[str], None] = lambda _url: None) -> int:
    """
    Parse the command line and serve until SIGTERM or SIGINT. Returns the exit code.

    `on_ready` is called with the gateway's URL for this machine when it listens, after the line that says so.
    """
    options = _parser().parse_args(argv)
    take_tls_flags(options)
    try:
        settings, gateway = _settings(options.config)
        check_budget(settings, options.workers)
    except ConfigurationError as error:
        complain(f"seawall serve: {error}")
        return 2

    def announce(port: int) -> None:
        _announce(options, port, "https" if gateway.tls_cert else "http")
        # Certificates are for names more often than for addresses.
        on_ready(f"https://localhost:{port}" if gateway.tls_cert else f"http://127.0.0.1:{port}")

    try:
        if options.workers > 1:
            arguments = ["--config", str(options.config)] if options.config is not None else []
            drain_s = gateway.drain_delay_s + gateway.drain_timeout_s + _LATE_S
            with logged(gateway, redaction_for(options.config, settings, gateway)):
                return supervise(
                    options.workers,
                    options.host,
                    options.port,
                    arguments=arguments,
                    drain_s=drain_s,
                    announce=announce,
                    reloads=bool(gateway.tls_cert),
                )
        listener = _listener(options)
    except ConfigurationError as error:  # of the log
        complain(f"seawall serve: {error}")
        return 2
    except OSError as error:
        complain(
            f"seawall serve: cannot listen on {options.host}:{options.port}: {error.strerror}; choose another --port"
        )
        return 3
    if options.supervised is not None:
        follow_supervisor(gateway.drain_delay_s + gateway.drain_timeout_s + _LATE_S)
    with listener:
        try:
            serve(
                settings,
                gateway,
                listener,
                announce=announce,
                shared=_is_shared(options),
                board=options.supervised,
                config=options.config,
            )
        except ConfigurationError as error:  # what only the router itself can check
            complain(f"seawall serve: {error}")
            return 2
    return 0


def serve(
    settings: Settings,
    gateway: GatewaySettings,
    listener: socket.socket,
    *,
    announce: Callable[[int], None],
    shared: bool = False,
    board: Path | None = None,
    config: Path | None = None,
) -> None:
    """
    Serve on `listener` in this process until SIGTERM or SIGINT, then drain.

    Where the port is `shared` by several workers, each answer says which of them gave it (`X-Seawall-Worker`), and
    this one's figures are kept in the file `board`. `config` is the file of the settings, whose secrets are not logged.
    """
    with logged(gateway, redaction_for(config, settings, gateway)) as log:
        _serve(settings, gateway, listener, announce, shared, board, log)


def _serve(
    settings: Settings,
    gateway: GatewaySettings,
    listener: socket.socket,
    announce: Callable[[int], None],
    shared: bool,
    board: Path | None,
    log: Log,
) -> None:
    # A supervisor of workers must not load what only they need.
    from seawall.gateway.app import create_app  # noqa: PLC0415
    from seawall.gateway.clients import fitting  # noqa: PLC0415
    from seawall.gateway.guard import ServerConfig  # noqa: PLC0415
    from seawall.gateway.metrics import Board, Metrics  # noqa: PLC0415
    from seawall.gateway.protocol import GatewayProtocol  # noqa: PLC0415

    breakers = {str(provider): len(each) for provider, each in settings.deployments.items()}
    metrics = Metrics(Board(board), breakers)
    writer = EventWriter.from_environment("gateway")
    sink = metrics.take if writer is None else _both(_sink_of(writer), metrics.take)
    sink = _both(sink, log.take)
    worker = f"gateway-{os.getpid()}"

    def missed(reason: str) -> None:
        metrics.unrecorded(reason)
        log.event("warning", "answer unrecorded", outcome=reason)

    def made() -> HybridRouter:
        transport = transport_named(gateway.transport)
        return router_with(gateway, settings, missed=missed, transport=transport, sink=sink, worker=worker)

    app = create_app(
        made,
        gateway,
        is_draining=lambda: server.should_exit,
        metrics=metrics,
        log=log,
    )
    clients = app.state.chat.clients
    clients.limits = fitting(clients.limits)
    server = server_with(
        gateway,
        ServerConfig(
            app_with(gateway, app),
            clients=clients,
            access_log=False,
            log_level="warning",
            log_config=None,  # the root's handler writes it, without secrets
            server_header=False,
            proxy_headers=False,  # who asks does not matter here, and it costs every request
            ws="none",
            http=GatewayProtocol,
            headers=[("x-seawall-worker", worker)] if shared else [],
        ),
        delay_s=gateway.drain_delay_s,
        timeout_s=gateway.drain_timeout_s,
        cut_off=app.state.chat.cut_off,
    )
    server.on_drain = lambda: log.event("warning", "draining", outcome="draining")
    announce(int(listener.getsockname()[1]))
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[listener]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="seawall serve", description="Serve the gateway.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8080, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--config", type=Path, help="a YAML file with settings; the environment wins over it")
    parser.add_argument("--workers", type=_workers, default=1, help="processes on the port (default: %(default)s)")
    parser.add_argument("--reuse-port", action="store_true", help="share the port with other workers that do so")
    parser.add_argument("--ready-json", action="store_true", help="print one line of JSON when listening")
    add_tls_flags(parser)
    # Between the supervisor and its workers.
    parser.add_argument("--listen-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--supervised", type=Path, help=argparse.SUPPRESS)
    return parser


def _settings(config: Path | None) -> tuple[Settings, GatewaySettings]:
    """Return the settings that environment, `.env` and file make. Raises ConfigurationError with every violation."""
    problems: list[str] = []
    settings = gateway = None
    try:
        settings = load_settings(config)
    except ConfigurationError as error:
        problems += error.problems
    try:
        gateway = GatewaySettings.load(config)
    except ConfigurationError as error:
        problems += (problem for problem in error.problems if problem not in problems)
    if settings is None or gateway is None:
        raise ConfigurationError(*problems)
    return settings, gateway


def _listener(options: Any) -> socket.socket:
    if options.listen_fd is not None:
        return socket.socket(fileno=options.listen_fd)
    return listen(options.host, options.port, shared=options.reuse_port)


def _is_shared(options: Any) -> bool:
    return options.reuse_port or options.listen_fd is not None


def _announce(options: Any, port: int, scheme: str) -> None:
    """Say that the port is listened on."""
    if options.ready_json:
        line = {"ready": True, "pid": os.getpid(), "port": port}
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    else:
        host = f"[{options.host}]" if ":" in options.host else options.host
        of = f" with {options.workers} workers" if options.workers > 1 else ""
        sys.stdout.write(f"Seawall gateway on {scheme}://{host}:{port}{of} (Ctrl-C stops it)\n")
    sys.stdout.flush()


def _sink_of(writer: EventWriter) -> Callable[[Event], None]:
    """Return a sink that never raises: a full disk must not fail a request. What it lost, it says once."""
    failed = False

    def sink(event: Event) -> None:
        nonlocal failed
        try:
            writer.write(event)
        except OSError as error:
            if not failed:
                failed = True
                complain(f"seawall serve: events are lost, the journal cannot be written: {error.strerror}")

    return sink


def _both(first: Callable[[Event], None], second: Callable[[Event], None]) -> Callable[[Event], None]:
    def sink(event: Event) -> None:
        first(event)
        second(event)

    return sink


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{port} is not from 0 to 65535")
    return port


def _workers(text: str) -> int:
    workers = int(text)
    if not 1 <= workers <= WORKERS_MAX:
        raise argparse.ArgumentTypeError(f"{workers} is not from 1 to {WORKERS_MAX}")
    return workers
