"""The journal of a simulation: events in memory, in virtual time, judged there or written as the files of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from seawall.journal.events import (
    VERSION,
    Attempt,
    CallRecord,
    JournalEvent,
    MetricsAnswer,
    RequestRecord,
    Skip,
    Spend,
    Stamped,
)
from seawall.journal.view import Journal, index
from seawall.live import Line, LiveView
from seawall.simulation.loop import START_S, VirtualLoop

__all__ = ["WALL_START_S", "MemoryView", "Recorder"]

WALL_START_S = 1_767_268_800.0
"""What the clocks on the wall show at the beginning: noon of 2026-01-01, UTC."""


class Recorder:
    """
    Keeps the events of one run, each under its source, numbered by it.

    `keep` limits nothing: a simulation that is hunted in has some thousand requests.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self.events: list[Stamped] = []
        self._loop = loop
        self._seqs: dict[str, int] = {}

    def wall_s(self) -> float:
        """Return the time of day, in seconds since the epoch."""
        return WALL_START_S + self._loop.time() - START_S

    def source(self, name: str) -> Callable[[JournalEvent], None]:
        """Return what records the events of `name`."""
        events, loop, seqs = self.events, self._loop, self._seqs
        seqs.setdefault(name, 0)

        def write(event: JournalEvent) -> None:
            seq = seqs[name]
            seqs[name] = seq + 1
            now_s = loop.time()
            wall = round(WALL_START_S + now_s - START_S, 6)
            events.append(Stamped(mono_ns=round(now_s * 1e9), wall=wall, source=name, seq=seq, event=event))

        return write

    def journal(self, path: Path) -> Journal:
        """Return the indexed view of what was recorded; `path` is what it is called."""
        return index(self.events, path, packs=False)

    def write_files(self, folder: Path) -> None:
        """Write `events-<source>.jsonl` for each source into `folder`, as the processes of a real run do."""
        lines: dict[str, list[bytes]] = {}
        encode = msgspec.json.Encoder().encode
        for stamped in self.events:
            head = encode(
                {
                    "v": VERSION,
                    "mono_ns": stamped.mono_ns,
                    "wall": stamped.wall,
                    "source": stamped.source,
                    "seq": stamped.seq,
                }
            )
            lines.setdefault(stamped.source, []).append(head[:-1] + b"," + encode(stamped.event)[1:] + b"\n")
        for source, written in lines.items():
            (folder / f"events-{source}.jsonl").write_bytes(b"".join(written))


class MemoryView(LiveView):
    """
    What a run knows of itself, from the events in memory. `counts`: outcomes are asked for, and not only faults.
    """

    def __init__(self, recorder: Recorder, *, counts: bool) -> None:
        super().__init__(Path())
        self.counts = counts
        self._recorder = recorder
        self._seen = 0

    def poll(self) -> None:
        """See LiveView."""
        events = self._recorder.events
        if self.watches or self.counts:
            for stamped in events[self._seen :]:
                line = _line_of(stamped)
                if line is not None:
                    self.take(line)
        self._seen = len(events)


def _line_of(stamped: Stamped) -> Line | None:
    """Return what a view needs to know of an event; None where that is nothing."""
    event, mono_ns = stamped.event, stamped.mono_ns
    match event:
        case RequestRecord():
            return Line(
                kind="request",
                mono_ns=mono_ns,
                provider=event.provider,
                outcome=event.outcome,
                intended_ns=event.intended_ns,
                end_ns=event.end_ns,
            )
        case CallRecord():
            return Line(
                kind="call",
                mono_ns=mono_ns,
                provider=event.provider,
                behaviour=event.behaviour,
                arrival_ns=event.arrival_ns,
                end_ns=event.end_ns,
            )
        case Attempt():
            return Line(
                kind="attempt",
                mono_ns=mono_ns,
                provider=event.provider,
                outcome=event.outcome,
                start_ns=event.start_ns,
                end_ns=event.end_ns,
            )
        case Skip() | Spend():
            return Line(kind=str(event.__struct_config__.tag), mono_ns=mono_ns, provider=event.provider)
        case MetricsAnswer():
            return Line(kind="metrics_answer", mono_ns=mono_ns)
        case _:
            return None
