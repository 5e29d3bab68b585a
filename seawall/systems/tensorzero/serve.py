"""
Start TensorZero's gateway from its own package, say where it listens, and stay until told to stop.

Run by the Python that `tensorzero` is installed in: `python serve.py CONFIG`. It prints `{"port": …}`.
"""

from __future__ import annotations

import importlib
import json
import signal
import sys
from typing import Any
from urllib.parse import urlsplit

__all__ = ["main"]


def main(config: str) -> None:
    """Serve the configuration file `config`."""
    package: Any = importlib.import_module("tensorzero.tensorzero")
    gateway = package._start_http_gateway(
        config_file=config, clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
    )
    port = urlsplit(str(gateway.base_url)).port
    sys.stdout.write(json.dumps({"port": port}) + "\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(sys.argv[1])
