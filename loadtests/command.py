"""
How the harness starts the load generator: the argument list, the environment, and the files on both sides.

Imports neither gevent nor Locust: these patch the process they are imported into, so they stay in one of their own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from loadtests.config import LOAD_VARIABLE, LoadConfig, LoadStatus, write_json

__all__ = ["EXIT_BROKEN", "command", "environment", "read_status", "worker_command", "write_config"]

EXIT_BROKEN = 3
"""Locust's exit code when the load was not dispatched as planned: the run proves nothing."""

_LOCUSTFILE = Path(__file__).with_name("locustfile.py")


def command(config_path: Path, *, expect_workers: int = 0, port: int = 5557) -> list[str]:
    """
    Return the argument list of a Locust that executes the configured load without its web UI and then ends.

    Start it with `environment(config_path)` added to the environment. With `expect_workers` it is a master that waits
    for so many workers on loopback `port` (`worker_command`). Exit code 0 whatever became of the requests,
    EXIT_BROKEN when the load could not be dispatched as planned.
    Raises FileNotFoundError when `config_path` does not exist.
    """
    if not config_path.is_file():
        raise FileNotFoundError(f"no load configuration at {config_path}; write it with write_config first")
    arguments = [sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--headless", "--only-summary", "-u", "1"]
    if expect_workers:
        arguments += ["--master", "--expect-workers", str(expect_workers)]
        arguments += ["--master-bind-host", "127.0.0.1", "--master-bind-port", str(port)]
    return arguments


def worker_command(port: int = 5557) -> list[str]:
    """Return the argument list of one worker for a master on loopback `port`."""
    where = ["--master-host", "127.0.0.1", "--master-port", str(port)]
    return [sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--worker", *where]


def environment(config_path: Path) -> dict[str, str]:
    """Return the environment variables that tell the Locust process which load is its own."""
    return {LOAD_VARIABLE: str(config_path.resolve())}


def write_config(path: Path, config: LoadConfig) -> None:
    """Write the configuration for `command`. Raises OSError."""
    write_json(path, config)


def read_status(config: LoadConfig) -> LoadStatus | None:
    """Return what the load generator wrote when it fixed the start of the load, or None before that."""
    try:
        return msgspec.json.decode(Path(config.status_file).read_bytes(), type=LoadStatus)
    except FileNotFoundError:
        return None
