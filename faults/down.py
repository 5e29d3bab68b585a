"""
The fault `down`: a Toxiproxy proxy is disabled, so that connections drop and new ones are refused.

Several may be in force at one proxy, and the removal of a toxic that hangs disables it for a while too. So this process
keeps who holds a proxy down, and only the last of them lets it listen again.
"""

from __future__ import annotations

import threading

import msgspec

from faults.base import Undo
from faults.registry import register
from faults.toxiproxy import Toxiproxy, ToxiproxyError

__all__ = ["DownFault", "enable_unless_held", "holders"]

_held: dict[tuple[str, str], set[str]] = {}
_locks: dict[tuple[str, str], threading.Lock] = {}


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
    upstream: str | None = None
    """Where the proxy leads to; when it is given, a proxy of the name that leads elsewhere is left alone."""

    def describe(self) -> str:
        """Return the fault in a few words."""
        return "down (connections refused)"

    def prepare(self) -> Undo:
        """Return how to undo it. Changes nothing."""
        arguments = {
            "url": self.url,
            "proxy": self.proxy,
            "fault_id": self.id,
            "was": self.was,
            "allow_remote": self.allow_remote,
        }
        return Undo(kind="down", arguments=arguments)

    def inject(self) -> None:
        """Put it in force. Raises ToxiproxyError."""
        server = Toxiproxy(self.url, allow_remote=self.allow_remote)
        if self.upstream is not None:
            server.require_upstream(self.proxy, self.upstream)
        with _switching(server, self.proxy):
            _held.setdefault((server.url, self.proxy), set()).add(self.id)
            server.set_enabled(self.proxy, False)


def holders(url: str, proxy: str) -> frozenset[str]:
    """Return the ids of the faults `down` of this process that are in force at a proxy."""
    return frozenset(_held.get((url.rstrip("/"), proxy), ()))


def enable_unless_held(server: Toxiproxy, proxy: str) -> str | None:
    """Let a proxy listen, unless it is held down; then say by which faults. Raises ToxiproxyError."""
    with _switching(server, proxy):
        others = holders(server.url, proxy)
        if others:
            return f"the proxy stays down for {', '.join(sorted(others))}"
        server.set_enabled(proxy, True)
    return None


def _switching(server: Toxiproxy, proxy: str) -> threading.Lock:
    """Return what makes deciding and switching one step: a new hold must not come between the two."""
    return _locks.setdefault((server.url, proxy), threading.Lock())


def _undo(record: Undo, *, deadline_s: float) -> str | None:
    server = Toxiproxy.of(record, deadline_s=deadline_s)
    proxy, was = record.arguments["proxy"], bool(record.arguments["was"])
    with _switching(server, proxy):
        _held.get((server.url, proxy), set[str]()).discard(record.arguments.get("fault_id", ""))
    try:
        if was:
            return enable_unless_held(server, proxy)
        server.set_enabled(proxy, False)
    except ToxiproxyError as error:
        # A proxy that is no more has nothing to restore.
        if not (error.gone or error.status == 404):
            raise
    return None


def _verify(record: Undo, *, deadline_s: float) -> bool:
    server = Toxiproxy.of(record, deadline_s=deadline_s)
    proxy, was = record.arguments["proxy"], bool(record.arguments["was"])
    try:
        # Both at one moment: the other holder may be letting go right now.
        with _switching(server, proxy):
            found = server.proxy(proxy)
            others = holders(server.url, proxy) - {record.arguments.get("fault_id", "")}
    except ToxiproxyError as error:
        if error.gone:
            return True
        raise
    return found is None or found.enabled is was or bool(others and not found.enabled)


register("down", undo=_undo, verify=_verify)
