"""The fault `down`: a Toxiproxy proxy is disabled, so that connections drop and new ones are refused."""

from __future__ import annotations

import msgspec

from faults.base import Undo
from faults.registry import register
from faults.toxiproxy import Toxiproxy, ToxiproxyError

__all__ = ["DownFault"]


class DownFault(msgspec.Struct, frozen=True, kw_only=True):
    """
    Disable `proxy` on the Toxiproxy at `url`.

    `was` is whether the proxy is enabled before, which is what the undo restores: somebody else's disabled proxy
    stays disabled.
    """

    id: str
    target: str
    proxy: str
    url: str
    was: bool = True
    allow_remote: bool = False

    def describe(self) -> str:
        """Return the fault in a few words."""
        return "down (connections refused)"

    def prepare(self) -> Undo:
        """Return how to undo it. Changes nothing."""
        arguments = {"url": self.url, "proxy": self.proxy, "was": self.was, "allow_remote": self.allow_remote}
        return Undo(kind="down", arguments=arguments)

    def inject(self) -> None:
        """Put it in force. Raises ToxiproxyError."""
        Toxiproxy(self.url, allow_remote=self.allow_remote).set_enabled(self.proxy, False)


def _undo(record: Undo, *, deadline_s: float) -> None:
    try:
        Toxiproxy.of(record, deadline_s=deadline_s).set_enabled(
            record.arguments["proxy"], bool(record.arguments["was"])
        )
    except ToxiproxyError as error:
        # A proxy that is no more has nothing to restore.
        if not (error.gone or error.status == 404):
            raise


def _verify(record: Undo, *, deadline_s: float) -> bool:
    try:
        found = Toxiproxy.of(record, deadline_s=deadline_s).proxy(record.arguments["proxy"])
    except ToxiproxyError as error:
        if error.gone:
            return True
        raise
    return found is None or found.enabled is bool(record.arguments["was"])


register("down", undo=_undo, verify=_verify)
