"""`seawall recover` and `seawall version`."""

from __future__ import annotations

from typing import Any

from seawall.paths import undo_dir
from seawall.recover import recover
from seawall.screen import Screen, complain
from seawall.version import commit, version, versions_of

__all__ = ["show_version", "take_back"]

_PARTS = ("httpx", "msgspec", "fastapi", "uvicorn", "locust", "gevent", "pydantic", "toxiproxy-python", "redis")


def take_back(_options: Any) -> int:
    """Undo what killed runs left; 5 when not all of it could be."""
    try:
        folder = undo_dir()
    except (OSError, RuntimeError) as error:
        complain(f"seawall recover: there is no folder for undo files: {error}; point SEAWALL_STATE at it")
        return 3
    return recover(folder, emit=Screen().write).exit_code


def show_version(_options: Any) -> int:
    """Print the version, the commit of a checkout, and the versions of what it runs on."""
    screen = Screen()
    here = commit()
    screen.write(f"seawall {version()}" + (f" (commit {here})" if here else ""))
    for name, number in versions_of(_PARTS).items():
        screen.write(f"{name} {number}")
    return 0
