"""The scenarios that the start form offers, by name; the harness reads and checks the one that is chosen."""

from __future__ import annotations

import re

from seawall.paths import scenarios_dir

__all__ = ["on_the_wire"]

_ARENAS = re.compile(r"^arenas: *\[([^\]]*)\]", re.MULTILINE)


def on_the_wire() -> list[str]:
    """Return the names of all scenarios that run on real parts, in order. A file that cannot be read is left out."""
    names: list[str] = []
    for path in sorted(scenarios_dir().glob("*.yaml")):
        try:
            found = _ARENAS.search(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        if found is None or "wire" in found[1]:
            names.append(path.stem)
    return names
