"""What can go wrong when a part is looked for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from router.errors import ConfigurationError

__all__ = ["ToolchainError", "masked"]

_USERINFO = re.compile(r"://[^/\s@]*@")


def masked(text: str) -> str:
    """Return `text` without the user names and passwords of the URLs in it."""
    return _USERINFO.sub("://****@", text)


class ToolchainError(ConfigurationError):
    """A part is not to be had. `tried` says what was tried and why it failed, `ways_out` what the user can do."""

    code = "toolchain"

    def __init__(self, part: str, *, tried: Sequence[str], ways_out: Sequence[str]) -> None:
        self.part = part
        self.tried = tuple(masked(line) for line in tried)
        self.ways_out = tuple(ways_out)
        lines = [f"{part} is not available."]
        lines += ["Tried:", *(f"  - {line}" for line in self.tried)] if self.tried else []
        lines += ["Any one of these helps:", *(f"  - {line}" for line in self.ways_out)] if self.ways_out else []
        super().__init__("\n".join(lines))
