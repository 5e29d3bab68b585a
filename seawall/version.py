"""Which Seawall this is: its version, and the commit of the checkout it runs from."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

__all__ = ["commit", "version", "versions_of"]


@cache
def version() -> str:
    """Return the installed distribution's version."""
    return importlib.metadata.version("seawall")


def commit() -> str | None:
    """Return the checkout's commit, with `+changes` when files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    return f"{head}+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else head


def versions_of(distributions: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python, the operating system and these distributions, those installed."""
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],  # noqa: S607 - git is the user's own
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
