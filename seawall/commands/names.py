"""`seawall list --names`, for shells: quick, because no scenario is read."""

from __future__ import annotations

from seawall.paths import scenarios_dir
from seawall.screen import Screen

__all__ = ["list_names"]


def list_names() -> int:
    """Print the names of all scenarios, one a line, those in folders below with the folder."""
    folder = scenarios_dir()
    names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    Screen().write("\n".join(names))
    return 0
