"""
The run's own proxies on a Toxiproxy: created and deleted under the undo file, and brought back when it restarts.

Toxiproxy keeps everything in memory. After a restart each proxy listens where it did, and a toxic that is still in
force is there again under its name: the undo records of before stay valid.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from faults import registry
from faults.base import FaultError, Undo
from faults.proxy import OwnProxy
from faults.toxiproxy import ProxyInfo, Toxiproxy
from faults.undo import UndoFile, pending
from seawall.toolchain import Progress

__all__ = ["OwnProxies"]


class OwnProxies:
    """The proxies of `run` by the part that they lead to. `attach` says on which Toxiproxy."""

    def __init__(self, run: str, undo: UndoFile, progress: Progress) -> None:
        self._run = run
        self._undo = undo
        self._progress = progress
        self._records: list[tuple[int, Undo]] = []
        self._lost: dict[str, ProxyInfo] = {}
        self.by_target: dict[str, ProxyInfo] = {}
        self.url = ""
        self.is_external = False

    def attach(self, url: str, *, is_external: bool) -> None:
        """
        Use the Toxiproxy at `url`; an external one is somebody else's.

        Raises FaultError where it is not on this machine: our proxies listen on loopback and lead there.
        """
        Toxiproxy(url)
        self.url = url
        self.is_external = is_external

    @property
    def ports(self) -> tuple[int, ...]:
        """Where they listen on this machine."""
        return tuple(proxy.address[1] for proxy in self.by_target.values())

    @property
    def addresses(self) -> Mapping[str, tuple[str, int]]:
        """Where each target is reached through its proxy."""
        return {target: proxy.address for target, proxy in self.by_target.items()}

    async def create(self, target: str, port: int, *, listen_port: int = 0) -> ProxyInfo:
        """Create a proxy to a loopback port, which listens on `listen_port`, 0 for a free one. Raises FaultError."""
        creation = asyncio.ensure_future(self._create(target, port, listen_port))
        try:
            return await asyncio.shield(creation)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: what it is creating must be there, and recorded, before it can be deleted.
            await asyncio.wait((creation,))
            creation.exception()  # it is told to nobody any more
            raise

    async def _create(self, target: str, port: int, listen_port: int) -> ProxyInfo:
        proxy = OwnProxy(
            name=f"seawall-{self._run}-{target}",
            upstream=f"127.0.0.1:{port}",
            listen=f"127.0.0.1:{listen_port}",
            url=self.url,
        )
        record = proxy.prepare()
        number = await asyncio.to_thread(self._undo.append, record)
        self._records.append((number, record))
        made = await asyncio.to_thread(proxy.create)
        self.by_target[target] = made
        return made

    async def remove_all(self) -> bool:
        """Delete them all and return whether they are verified gone."""
        clean = True
        for number, record in reversed(self._records):
            try:
                await asyncio.to_thread(registry.undo, record)
                if await asyncio.to_thread(registry.verify, record):
                    await asyncio.to_thread(self._undo.mark_done, number)
                    continue
            except FaultError as error:
                self._progress(f"undo: {error}")
            clean = False
        self._records.clear()
        return clean

    async def remember(self) -> None:
        """Learn what is there, before Toxiproxy ends. Raises FaultError."""
        found = await asyncio.to_thread(self._server().proxies)
        names = {proxy.name for proxy in self.by_target.values()}
        self._lost = {name: proxy for name, proxy in found.items() if name in names}

    async def bring_back(self) -> None:
        """Create again what `remember` saw, but for toxics that were taken back meanwhile. Raises FaultError."""
        await asyncio.to_thread(self._bring_back)

    def _bring_back(self) -> None:
        server = self._server()
        in_force = [record for _, record in pending(self._undo.path).records]
        for lost in self._lost.values():
            server.create_proxy(lost.name, lost.upstream, lost.listen)
            for toxic in lost.toxics:
                if any(_is_of(record, "toxic", proxy=lost.name, toxic=toxic.name) for record in in_force):
                    server.add_toxic(lost.name, toxic.name, toxic.type, toxic.stream, toxic.toxicity, toxic.attributes)
            if not lost.enabled and any(_is_of(record, "down", proxy=lost.name) for record in in_force):
                server.set_enabled(lost.name, False)

    def _server(self) -> Toxiproxy:
        return Toxiproxy(self.url)


def _is_of(record: Undo, kind: str, **arguments: str) -> bool:
    return record.kind == kind and all(record.arguments.get(name) == value for name, value in arguments.items())
