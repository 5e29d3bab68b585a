"""`seawall serve`: the gateway, with `--demo` in front of emulated providers."""

from __future__ import annotations

import os
from typing import Any

from seawall.gateway import demo
from seawall.gateway.protection import TLS_FLAGS
from seawall.gateway.serve import main as serve_gateway
from seawall.screen import complain

__all__ = ["serve"]

_NOT_STARTED = 3


def serve(options: Any) -> int:
    """Serve until SIGTERM or SIGINT and return the gateway's exit code."""
    given = {"--host": options.host, "--port": options.port, "--workers": options.workers, "--config": options.config}
    argv = [f"{name}={value}" for name, value in given.items() if value is not None]
    argv += [f"{flag}={value}" for flag in TLS_FLAGS if (value := getattr(options, flag[2:].replace("-", "_")))]
    argv += ["--ready-json"] if options.ready_json else []
    if not options.demo:
        return serve_gateway(argv)
    try:
        with demo.emulated(options.workers or 1) as environment:
            os.environ.update(environment)
            return serve_gateway(argv, on_ready=lambda url: None if options.ready_json else complain(demo.words(url)))
    except (OSError, ValueError) as error:
        complain(f"seawall serve: the emulated providers did not start: {error}")
        return _NOT_STARTED
