"""
The network of a simulation: one proxy a target, as Toxiproxy is, and connections through it, in virtual time.

    client ──▶ up: stages … ──▶ server
    client ◀── down: stages … ◀── server

Nothing is late but by a toxic. A connection dies as a whole when either direction has come to its end, as behind a real
Toxiproxy: a server's reset reaches the client as an ordinary end, and only `reset_peer` breaks connections.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Literal, Protocol

import msgspec

from seawall.simulation.loop import OWNER, VirtualLoop
from seawall.simulation.toxics import Chunk, Stage, stage_of

__all__ = ["Client", "Link", "Network", "Proxy", "Refused", "Server", "Toxic"]

_READ_BYTES = 32 * 1024
Stream = Literal["upstream", "downstream"]


class Refused(Exception):
    """Nobody listens at the address."""


class Client(Protocol):
    """The client's end of a connection."""

    def received(self, data: bytes) -> None:
        """Take bytes."""
        ...

    def lost(self, *, reset: bool) -> None:
        """Note that the connection has ended, in order or by a reset."""
        ...


class Server(Protocol):
    """The server's end of a connection."""

    def lost(self) -> None:
        """Note that the connection has ended."""
        ...


class Toxic(msgspec.Struct, frozen=True, kw_only=True):
    """A toxic at a proxy. `name` is the fault's id."""

    name: str
    type: str
    stream: Stream = "downstream"
    toxicity: float = 1.0
    attributes: dict[str, int] = {}


class _Pipe:
    """One direction of a connection."""

    __slots__ = ("_deliver", "_ended", "_link", "held", "stages")

    def __init__(self, link: Link, deliver: Callable[[bytes | None], None]) -> None:
        self.stages: list[tuple[Toxic, Stage]] = []
        self.held: list[bytes | None] | None = None
        """What waits while Toxiproxy stands still; None while it runs."""
        self._link = link
        self._deliver = deliver
        self._ended = False

    def feed(self, data: bytes | None) -> None:
        """Take what one end sends; None is its end."""
        if self._ended:
            return
        if self.held is not None:
            self.held.append(data)
        elif not self.stages:
            self._deliver(data)
        else:
            now_s = self._link.loop.time()
            for start in range(0, 1 if data is None else len(data), _READ_BYTES):
                self.stages[0][1].push(Chunk(data and data[start : start + _READ_BYTES], now_s))

    def add(self, toxic: Toxic, stage: Stage) -> None:
        """Put a stage at the end."""
        if self._ended:
            return
        if self.stages:
            self.stages[-1][1].out = stage.push
        stage.out = self._arrive
        self.stages.append((toxic, stage))
        stage.begin()

    def remove(self, name: str) -> None:
        """Take the stage of a toxic out; what it holds goes on its way."""
        place = next((n for n, (toxic, _) in enumerate(self.stages) if toxic.name == name), None)
        if place is None or not self.stages[place][1].interrupt() or self._ended:
            return
        del self.stages[place]
        if place:
            self.stages[place - 1][1].out = self.stages[place][1].push if place < len(self.stages) else self._arrive

    def end(self) -> None:
        """Let nothing pass any more."""
        self._ended = True
        self.stages.clear()

    def _arrive(self, chunk: Chunk) -> None:
        if not self._ended:
            self._deliver(chunk.data)


class Link:
    """
    A connection through a proxy. The client calls `request` and `close`, the server `reply` and `hang_up`.

    A request is delivered when all of its bytes are: `arrived` is called then.
    """

    def __init__(self, proxy: Proxy, client: Client, number: int) -> None:
        self.loop = proxy.network.loop
        self.proxy = proxy
        self.client: Client | None = client
        self.server: Server | None = None
        self.number = number
        self.is_open = True
        self.up = _Pipe(self, self._to_server)
        self.down = _Pipe(self, self._to_client)
        self._breaks = any(toxic.type == "reset_peer" for toxic in proxy.toxics)
        """Whether the proxy's sockets close by a reset: a `reset_peer` was there when the connection was made."""
        self._due = 0
        self._arrived: Callable[[], None] | None = None
        if proxy.network.is_stopped:
            self.up.held, self.down.held = [], []
        for toxic in proxy.toxics:
            self.add(toxic)

    def request(self, make: Callable[[], bytes], arrived: Callable[[], None]) -> None:
        """Send a request; `make` gives its bytes, which nobody needs where nothing works on them."""
        if not self.is_open:
            return
        if not self.up.stages and self.up.held is None:
            if self.proxy.serves:  # else nobody is there to take it, and the proxy is about to close
                arrived()
            return
        data = make()
        self._due, self._arrived = len(data), arrived
        self.up.feed(data)

    def close(self) -> None:
        """The client closes its side."""
        self.client = None
        self.up.feed(None)

    def reply(self, data: bytes) -> None:
        """The server sends bytes."""
        self.down.feed(data)

    def hang_up(self) -> None:
        """The server closes its side, in order or by a reset: behind a proxy that is the same."""
        self.server = None
        self.down.feed(None)

    def sever(self) -> None:
        """The proxy closes both sides at once."""
        self._end(reset=self._breaks)

    def add(self, toxic: Toxic) -> None:
        """Put a toxic on this connection."""
        network = self.proxy.network
        key = (str(network.seed), toxic.name, self.proxy.name, str(self.number))
        stage = stage_of(toxic.type, toxic.attributes, toxic.toxicity, self.loop, network.context, key)
        (self.up if toxic.stream == "upstream" else self.down).add(toxic, stage)

    def remove(self, name: str) -> None:
        """Take a toxic from this connection."""
        self.up.remove(name)
        self.down.remove(name)

    def resume(self) -> None:
        """Deliver what waited while Toxiproxy stood still."""
        for pipe in (self.up, self.down):
            held, pipe.held = pipe.held or [], None
            for data in held:
                pipe.feed(data)

    def _to_server(self, data: bytes | None) -> None:
        if data is None:
            self._end(reset=self._breaks)
            return
        self._due -= len(data)
        if self._due <= 0 and self._arrived is not None:
            arrived, self._arrived = self._arrived, None
            if self.proxy.serves:
                arrived()

    def _to_client(self, data: bytes | None) -> None:
        if data is None:
            self._end(reset=self._breaks, from_server=True)
        elif self.client is not None:
            self.client.received(data)

    def _end(self, *, reset: bool, from_server: bool = False) -> None:
        """Close the sockets at both ends. What is on its way to the server still goes through its toxics."""
        client, self.client = self.client, None
        if self.is_open:
            self.is_open = False
            self.proxy.links.pop(self.number, None)
            self.down.end()
            if client is not None:
                client.lost(reset=reset)
        if from_server and self.server is not None and self.up.stages:
            self.up.feed(None)
            return
        self.up.end()
        server, self.server = self.server, None
        if server is not None:
            server.lost()


class Proxy:
    """The proxy of one target. `accept` is told of every connection made."""

    def __init__(self, network: Network, name: str, accept: Callable[[Link], None]) -> None:
        self.network = network
        self.name = name
        self.toxics: list[Toxic] = []
        self.down_for: set[str] = set()
        """The faults that hold the proxy down."""
        self.links: dict[int, Link] = {}
        self.serves = True
        """Whether the server behind it runs."""
        self._accept = accept
        self._numbers = 0

    def connect(self, client: Client) -> Link:
        """Return a new connection. Raises Refused."""
        if self.down_for or not self.network.is_up:
            raise Refused
        self._numbers += 1
        link = Link(self, client, self._numbers)
        self.links[link.number] = link
        if self.serves:
            self._accept(link)
        else:  # the proxy takes the connection, finds nobody behind it, and closes it
            self.network.soon(link.sever)
        return link

    def add(self, toxic: Toxic) -> None:
        """Put a toxic in force, also on the connections that there are."""
        if toxic.type == "down":
            self.down_for.add(toxic.name)
            self.sever()
            return
        self.toxics.append(toxic)
        for link in [*self.links.values()]:
            link.add(toxic)

    def remove(self, name: str) -> None:
        """Take a toxic back; what is not there is taken back already."""
        self.down_for.discard(name)
        self.toxics = [toxic for toxic in self.toxics if toxic.name != name]
        for link in [*self.links.values()]:
            link.remove(name)

    def has(self, name: str) -> bool:
        """Whether a toxic is in force."""
        return name in self.down_for or any(toxic.name == name for toxic in self.toxics)

    def sever(self) -> None:
        """End every connection at once."""
        for link in [*self.links.values()]:
            link.sever()


class Network:
    """Every proxy of a run, by target. `is_up` and `is_stopped` are the process Toxiproxy itself."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.loop = loop
        self.seed = seed
        self.proxies: dict[str, Proxy] = {}
        self.context: Context = copy_context()
        """In which everything runs that is no process of the system under test."""
        self.context.run(OWNER.set, 0)
        self.is_up = True
        self.is_stopped = False

    def add(self, name: str, accept: Callable[[Link], None]) -> Proxy:
        """Return a new proxy."""
        self.proxies[name] = Proxy(self, name, accept)
        return self.proxies[name]

    def soon(self, callback: Callable[[], None]) -> None:
        """Call back in a moment, outside of every simulated process."""
        self.loop.call_soon(callback, context=self.context)

    def kill(self) -> None:
        """Toxiproxy dies: every connection ends, and nobody listens."""
        self.is_up = False
        for proxy in self.proxies.values():
            proxy.sever()

    def stop(self) -> None:
        """Toxiproxy stands still: connections are made, and nothing passes."""
        self.is_stopped = True
        for link in self._links():
            link.up.held = [] if link.up.held is None else link.up.held
            link.down.held = [] if link.down.held is None else link.down.held

    def go_on(self) -> None:
        """Toxiproxy runs again, started anew or continued."""
        self.is_up = True
        self.is_stopped = False
        for link in self._links():
            link.resume()

    def _links(self) -> list[Link]:
        return [link for proxy in self.proxies.values() for link in proxy.links.values()]
