"""A Toxiproxy proxy of our own, which must not outlive the run: no harm in itself, but undone like one."""

from __future__ import annotations

import msgspec

from faults.base import Undo
from faults.registry import register
from faults.toxiproxy import ProxyInfo, Toxiproxy, ToxiproxyError

__all__ = ["OwnProxy"]


class OwnProxy(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy `name` to `upstream` (`host:port`) on the Toxiproxy at `url`. The name carries the run's id."""

    name: str
    upstream: str
    url: str
    listen: str = "127.0.0.1:0"
    allow_remote: bool = False

    def prepare(self) -> Undo:
        """Return how to delete it. Changes nothing."""
        arguments = {
            "url": self.url,
            "proxy": self.name,
            "upstream": self.upstream,
            "allow_remote": self.allow_remote,
        }
        return Undo(kind="proxy", arguments=arguments)

    def create(self) -> ProxyInfo:
        """Create it. Raises ToxiproxyError, also when the name is taken."""
        return Toxiproxy(self.url, allow_remote=self.allow_remote).create_proxy(self.name, self.upstream, self.listen)


def _undo(record: Undo, *, deadline_s: float) -> None:
    server = Toxiproxy.of(record, deadline_s=deadline_s)
    try:
        if _is_there(server, record):
            server.delete_proxy(record.arguments["proxy"])
    except ToxiproxyError as error:
        if not error.gone:
            raise


def _verify(record: Undo, *, deadline_s: float) -> bool:
    try:
        return not _is_there(Toxiproxy.of(record, deadline_s=deadline_s), record)
    except ToxiproxyError as error:
        if error.gone:
            return True
        raise


def _is_there(server: Toxiproxy, record: Undo) -> bool:
    """Whether our proxy is there; one of its name that leads elsewhere is somebody else's, and stays."""
    found = server.proxy(record.arguments["proxy"])
    return found is not None and record.arguments.get("upstream", found.upstream) == found.upstream


register("proxy", undo=_undo, verify=_verify)
