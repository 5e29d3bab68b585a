"""
Where Seawall keeps things: what can be made again, what must not be lost, what a run leaves to be read.

All paths are absolute. An environment variable of ours wins over the XDG one, which wins over the home folder.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

__all__ = ["cache_dir", "k8s_dir", "runs_dir", "scenarios_dir", "state_dir", "undo_dir"]

_PACKAGE = Path(__file__).resolve().parent


def cache_dir() -> Path:
    """Return the folder of what can be made again (`$SEAWALL_CACHE`, `$XDG_CACHE_HOME/seawall`); it may not exist."""
    return _choose("SEAWALL_CACHE", "XDG_CACHE_HOME", ".cache")


def state_dir() -> Path:
    """
    Return the folder of what must outlive a crash (`$SEAWALL_STATE`, `$XDG_STATE_HOME/seawall`).

    It is made when missing, with mode 0700: it holds tokens and undo files. The mode of a folder that exists is left
    alone. Raises OSError when it cannot be made.
    """
    folder = _choose("SEAWALL_STATE", "XDG_STATE_HOME", ".local/state")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def undo_dir() -> Path:
    """Return the folder of the undo files, made when missing. Raises OSError as `state_dir` does."""
    folder = state_dir() / "undo"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def runs_dir(cwd: Path | None = None) -> Path:
    """
    Return the folder that holds a folder for each run; it may not exist.

    `reports/out` of the checkout that `cwd` (default: the working folder) is in, else `seawall-reports` in `cwd`.
    """
    here = (cwd or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if _is_checkout(folder):
            return folder / "reports" / "out"
    return here / "seawall-reports"


def scenarios_dir() -> Path:
    """Return the folder of the scenarios that come with Seawall: the checkout's, or the installed package's copy."""
    root = _PACKAGE.parent
    return root / "scenarios" if _is_checkout(root) else _PACKAGE / "_data" / "scenarios"


def k8s_dir() -> Path:
    """Return the folder of the Kubernetes manifests and pins: the checkout's, or the installed package's copy."""
    root = _PACKAGE.parent
    return root / "k8s" if _is_checkout(root) else _PACKAGE / "_data" / "k8s"


def _choose(own: str, xdg: str, home: str) -> Path:
    if named := os.environ.get(own):
        return Path(named).expanduser().absolute()
    base = os.environ.get(xdg, "")
    # The XDG rules: a relative path is invalid and is ignored.
    return (Path(base) if base.startswith("/") else Path.home() / home) / "seawall"


def _is_checkout(folder: Path) -> bool:
    if not (folder / "scenarios").is_dir():
        return False
    try:
        name = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(name == "seawall")
