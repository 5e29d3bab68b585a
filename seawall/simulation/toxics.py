"""
Toxiproxy's toxics, as stages of a pipe in virtual time.

Each does to chunks what Toxiproxy 2.12 does (read from its source, and compared with it by a test): one chunk at a
time, in order, what comes meanwhile waits. A stage hands on data, and None for the end of the stream. `interrupt` is
the removal of the toxic: what it holds back passes at once, and everything after that unharmed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import NamedTuple

from seawall.draws import unit
from seawall.simulation.loop import VirtualLoop

__all__ = ["TOXICS", "Chunk", "Draw", "Stage", "stage_of"]

Draw = Callable[[], float]
"""Returns the next number in [0, 1) of one toxic on one connection."""
_BLOCK_S = 0.1  # a slow link is fed in pieces of so long


class Chunk(NamedTuple):
    """Bytes as Toxiproxy read them, and when it did; None for the end of the stream."""

    data: bytes | None
    read_s: float


class Stage:
    """One toxic on one direction of one connection; as it is, it takes nothing: everything passes."""

    def __init__(self, loop: VirtualLoop, context: Context, attributes: Mapping[str, int], draw: Draw) -> None:
        self.out: Callable[[Chunk], None] = _nowhere
        self._loop = loop
        self._context = context
        self._attributes = attributes
        self._draw = draw
        self._waiting: deque[Chunk] = deque()
        self._busy = False
        self._closed = False
        self._passing = False

    def push(self, chunk: Chunk) -> None:
        """Take a chunk."""
        if self._closed:
            return
        if self._passing:
            self._give(chunk)
            return
        self._waiting.append(chunk)
        if not self._busy:
            self._next()

    def begin(self) -> None:
        """Begin to work: the connection is made, or the toxic has been added to it."""

    def interrupt(self) -> bool:
        """Let go of what is held back, and return whether that is all: then the stage can be taken out."""
        self._passing = True
        while self._waiting:
            self._give(self._waiting.popleft())
        return True

    def _next(self) -> None:
        while self._waiting and not self._busy and not self._closed:
            self._take(self._waiting[0])

    def _take(self, chunk: Chunk) -> None:
        """Deal with the first chunk that waits: hand it on, or wait and do it `_later`."""
        self._waiting.popleft()
        self._give(chunk)

    def _later(self, seconds: float, then: Callable[[], None]) -> None:
        self._busy = True

        def due() -> None:
            self._busy = False
            if not self._passing and not self._closed:
                then()
                self._next()

        self._loop.call_later(max(0.0, seconds), due, context=self._context)

    def _give(self, chunk: Chunk) -> None:
        if self._closed:
            return
        if chunk.data is None:
            self._closed = True
            self._waiting.clear()
        self.out(chunk)

    def _close(self) -> None:
        self._give(Chunk(None, self._loop.time()))


class _Latency(Stage):
    """`latency` ± `jitter` milliseconds, from when a chunk was read; the end of the stream is not held up."""

    def _take(self, chunk: Chunk) -> None:
        if chunk.data is None:
            super()._take(chunk)
            return
        jitter = self._attributes.get("jitter", 0)
        delay_ms = self._attributes.get("latency", 0)
        if jitter:
            delay_ms += int(self._draw() * 2 * jitter) - jitter
        sleep_s = delay_ms / 1000 - (self._loop.time() - chunk.read_s)
        late = Chunk(chunk.data, chunk.read_s + sleep_s)

        def pass_on() -> None:
            self._waiting.popleft()
            self._give(late)

        self._later(sleep_s, pass_on)


class _Bandwidth(Stage):
    """At most `rate` KB a second."""

    _owed_s = 0.0

    def _take(self, chunk: Chunk) -> None:
        if chunk.data is None:
            super()._take(chunk)
            return
        rate = self._attributes["rate"]
        self._owed_s += len(chunk.data) / (rate * 1000)
        self._feed(chunk.data, chunk.read_s, rate * 100)

    def _feed(self, data: bytes, read_s: float, block: int) -> None:
        self._waiting[0] = Chunk(data, read_s)
        if len(data) > block:

            def some() -> None:
                self._owed_s -= _BLOCK_S
                self.out(Chunk(data[:block], read_s))
                self._feed(data[block:], read_s, block)

            self._later(_BLOCK_S, some)
            return

        def rest() -> None:
            self._owed_s = min(self._owed_s, 0.0)
            self._waiting.popleft()
            self._give(Chunk(data, read_s))

        self._later(self._owed_s, rest)


class _SlowClose(Stage):
    """The end of the stream `delay` milliseconds late."""

    def _take(self, chunk: Chunk) -> None:
        if chunk.data is not None:
            super()._take(chunk)
            return
        self._later(self._attributes["delay"] / 1000, self._close)


class _Timeout(Stage):
    """Everything is lost, and after `timeout` milliseconds of silence (0: never) the connection ends."""

    _silences = 0

    def begin(self) -> None:
        """See Stage."""
        self._wait()

    def _wait(self) -> None:
        """Every chunk begins the wait anew, as Toxiproxy has it."""
        timeout_ms = self._attributes.get("timeout", 0)
        if not timeout_ms:
            return
        self._silences += 1
        number = self._silences

        def over() -> None:
            if number == self._silences and not self._passing:
                self._close()

        self._loop.call_later(timeout_ms / 1000, over, context=self._context)

    def _take(self, chunk: Chunk) -> None:
        if chunk.data is None:
            super()._take(chunk)
            return
        self._waiting.popleft()
        self._wait()

    def interrupt(self) -> bool:
        """What was lost cannot come any more: Toxiproxy closes the connection."""
        self._passing = True
        self._close()
        return True


class _ResetPeer(Stage):
    """`timeout` milliseconds after the first chunk the connection breaks. That cannot be interrupted once begun."""

    def _take(self, chunk: Chunk) -> None:
        self._busy = True
        timeout_s = self._attributes.get("timeout", 0) / 1000
        self._loop.call_later(timeout_s, self._close, context=self._context)

    def interrupt(self) -> bool:
        """See Stage."""
        return not self._busy and super().interrupt()


class _Slicer(Stage):
    """Slices of `average_size` ± `size_variation` bytes, each followed by `delay` microseconds."""

    def _take(self, chunk: Chunk) -> None:
        if chunk.data is None:
            super()._take(chunk)
            return
        self._send(chunk.data, chunk.read_s, deque(self._cuts(0, len(chunk.data))))

    def _send(self, data: bytes, read_s: float, cuts: deque[tuple[int, int]]) -> None:
        start, end = cuts.popleft()
        self.out(Chunk(data[start:end], read_s))
        self._waiting[0] = Chunk(data[end:], read_s) if cuts else Chunk(b"", read_s)

        def more() -> None:
            if cuts:
                self._send(data, read_s, cuts)
            else:
                self._waiting.popleft()

        self._later(self._attributes.get("delay", 0) / 1_000_000, more)

    def _cuts(self, start: int, end: int) -> list[tuple[int, int]]:
        size, variation = self._attributes["average_size"], self._attributes.get("size_variation", 0)
        if end - start - size <= variation:
            return [(start, end)]
        middle = start + (end - start) // 2
        if variation:
            middle += int(self._draw() * 2 * variation) - variation
        return [*self._cuts(start, middle), *self._cuts(middle, end)]


class _LimitData(Stage):
    """`bytes` bytes pass, then the connection ends."""

    _passed = 0

    def _take(self, chunk: Chunk) -> None:
        if chunk.data is None:
            super()._take(chunk)
            return
        self._waiting.popleft()
        data = chunk.data[: max(0, self._attributes["bytes"] - self._passed)]
        self._passed += len(data)
        if data:
            self._give(Chunk(data, chunk.read_s))
        if self._passed >= self._attributes["bytes"]:
            self._close()


TOXICS: Mapping[str, type[Stage]] = {
    "latency": _Latency,
    "bandwidth": _Bandwidth,
    "slow_close": _SlowClose,
    "timeout": _Timeout,
    "reset_peer": _ResetPeer,
    "slicer": _Slicer,
    "limit_data": _LimitData,
}
"""The stage of each toxic by its type; `down` is the proxy's own."""


def stage_of(
    toxic: str,
    attributes: Mapping[str, int],
    toxicity: float,
    loop: VirtualLoop,
    context: Context,
    key: tuple[str, ...],
) -> Stage:
    """
    Return the stage of a toxic on the connection that `key` (with the seed first) names.

    `toxicity` is drawn once a connection; one that it spares has a stage through which everything passes.
    """
    seed, *names = key
    count = 0

    def draw() -> float:
        nonlocal count
        count += 1
        return unit(int(seed), *names, count)

    spared = toxicity < 1 and unit(int(seed), *names, "toxicity") >= toxicity
    return (Stage if spared else TOXICS[toxic])(loop, context, attributes, draw)


def _nowhere(_chunk: Chunk) -> None:
    """Where chunks go before a stage is part of a pipe."""
