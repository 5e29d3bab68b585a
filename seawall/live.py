"""
What a run knows of itself while it runs, read from the event files as they grow.

For progress, for `stop_when`, and to see that a fault was met. The verdict never comes from here: it is computed from
the merged journal.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["FaultWatch", "Line", "LiveView"]

_WINDOW_S = 60.0
_READ_BYTES = 4 * 1024 * 1024  # of one file at one poll; the rest comes with the next


class Line(msgspec.Struct):
    """The few fields of any event that matter here."""

    kind: str
    mono_ns: int
    provider: str | None = None
    part: str | None = None
    outcome: str | None = None
    behaviour: str | None = None
    intended_ns: int = 0
    start_ns: int = 0
    arrival_ns: int = 0
    end_ns: int = 0
    to: str | None = None

    @property
    def span(self) -> tuple[int, int]:
        """From when to when it lasted; what has no length happened as it was written."""
        return self.arrival_ns or self.start_ns or self.intended_ns or self.mono_ns, self.end_ns or self.mono_ns


_CALLS = frozenset({"call", "attempt"})
_MET_BY = {
    "gateway": frozenset({"request"}),
    "redis": frozenset({"spend", "skip", "attempt"}),
    "toxiproxy": frozenset({"attempt"}),
    "budget": frozenset({"spend", "skip", "attempt"}),
    "backend": frozenset({"request"}),
    "metrics_server": frozenset({"metrics_answer"}),
    "collector": frozenset({"exchange"}),
    "key_service": frozenset({"exchange"}),
}
"""What meets a fault that is not a provider's: whatever of these kinds overlaps it."""


class FaultWatch:
    """
    Counts what overlapped a fault while it was in force: of a provider's its calls and attempts, else by target.

    A toxic counts from the moment it is proven (`active_ns`). That a provider says of a call that it applied the
    behaviour is a proof of its own: such calls count from the injection, for the first may be the last for long
    (Retry-After). `at_once`: the fault breaks what is under way when it is injected, so an attempt that fails then has
    met it.
    """

    def __init__(
        self,
        fault_id: str,
        provider: str,
        *,
        by_behaviour: bool,
        at_once: bool = False,
        planned_at_s: float = 0.0,
    ) -> None:
        self.fault_id = fault_id
        self.provider = provider
        self.planned_at_s = planned_at_s
        """Which occurrence of the fault this is, by its planned start."""
        self.told = False
        """Whether the journal has it that it was met."""
        self.injected_ns: int | None = None
        self.active_ns: int | None = None
        self.healed_ns: int | None = None
        self.by_behaviour = by_behaviour
        self.at_once = at_once
        self.met_calls = 0
        self.met_attempts = 0
        self.met_others: Counter[str] = Counter()

    @property
    def is_met(self) -> bool:
        """Whether the fault was in force and at least one call or attempt overlapped it."""
        return self.active_ns is not None and bool(self.met_calls or self.met_attempts or self.met_others)

    def evidence(self) -> dict[str, Any]:
        """Return the counts for the journal."""
        others = {f"{kind}s": count for kind, count in sorted(self.met_others.items())}
        return {"calls": self.met_calls, "attempts": self.met_attempts, **others}

    def see(self, line: Line) -> None:
        """Take one event, which may or may not be of a kind that can meet this fault."""
        kinds = _MET_BY.get(self.provider, _CALLS)
        if line.kind not in kinds or (kinds is _CALLS and line.provider != self.provider):
            return
        if line.kind == "exchange" and line.part != self.provider:
            return
        start_ns, end_ns = line.span
        since_ns = self.injected_ns if self.at_once and line.outcome == "failed" else self.active_ns
        if self.by_behaviour:
            # Of a fault that repeats every occurrence bears the same mark.
            before = self.injected_ns is not None and start_ns < self.injected_ns
            after = self.healed_ns is not None and start_ns > self.healed_ns
            marked = line.kind == "call" and line.behaviour == self.fault_id
            self.met_calls += marked and not before and not after
            return
        if since_ns is None or end_ns < since_ns:
            return
        if self.healed_ns is not None and start_ns > self.healed_ns:
            return
        if line.kind == "call":
            self.met_calls += 1
        elif line.kind == "attempt":
            self.met_attempts += 1
        else:
            self.met_others[line.kind] += 1


class LiveView:
    """Follow the event files of `folder`. `poll` as often as fresh figures are needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self._rest: dict[Path, bytes] = {}
        self._decoder = msgspec.json.Decoder(Line)
        self._recent: deque[tuple[int, bool]] = deque()
        self.outcomes: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.breakers: dict[str, str] = {}
        self.watches: list[FaultWatch] = []
        self.listeners: list[Callable[[bytes], None]] = []
        """Called with every line, as it was written."""

    @property
    def requests(self) -> int:
        """How many requests have ended."""
        return self.outcomes.total()

    def success_rate(self, now_ns: int, window_s: float) -> float | None:
        """Return the share of whole answers among the requests that ended in the last `window_s`; None for none."""
        since_ns = now_ns - round(window_s * 1e9)
        recent = [whole for end_ns, whole in self._recent if end_ns >= since_ns]
        return sum(recent) / len(recent) if recent else None

    def poll(self) -> None:
        """Read what was appended since the last call."""
        for path in sorted(self._folder.glob("events-*.jsonl")):
            try:
                with path.open("rb") as file:
                    file.seek(self._offsets.get(path, 0))
                    data = file.read(_READ_BYTES)
                    self._offsets[path] = file.tell()
            except OSError:
                continue
            *lines, self._rest[path] = (self._rest.get(path, b"") + data).split(b"\n")
            for raw in lines:
                self._take(raw)

    def _take(self, raw: bytes) -> None:
        for listener in self.listeners:
            listener(raw)
        try:
            line = self._decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return  # the merger counts bad lines; here they are only not seen
        self.take(line)

    def take(self, line: Line) -> None:
        """Take one event."""
        for watch in self.watches:
            watch.see(line)
        match line.kind:
            case "request":
                self.outcomes[line.outcome or "unknown"] += 1
                whole = line.outcome == "whole"
                if whole and line.provider:
                    self.served[line.provider] += 1
                self._recent.append((line.end_ns, whole))
                while self._recent and self._recent[0][0] < line.end_ns - round(_WINDOW_S * 1e9):
                    self._recent.popleft()
            case "breaker":
                self.breakers[line.provider or ""] = line.to or ""
            case _:
                pass
