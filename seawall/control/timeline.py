"""
What happened in a run so far, for who watches it: figures by the second, and marks (faults, breakers, notes) in order.

Fed with the raw lines of the journal's parts as these grow. The verdict never comes from here.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import msgspec

__all__ = ["Timeline"]

_LATE_S = 1.0
"""How long a second stays open for the lines of other processes."""
_ENTRIES_MAX = 200_000
_RECENT = 100


class _Line(msgspec.Struct):
    """The fields that matter here, of any event."""

    kind: str
    mono_ns: int
    id: str = ""
    phase: str = ""
    target: str = ""
    description: str = ""
    planned_at_s: float = 0.0
    duration_s: float = 0.0
    error: str | None = None
    provider: str | None = None
    outcome: str = ""
    stream: bool = False
    intended_ns: int = 0
    sent_ns: int | None = None
    first_byte_ns: int | None = None
    start_ns: int = 0
    end_ns: int = 0
    tokens: int = 0
    action: str = ""
    micro_usd: int = 0
    total_micro_usd: int = 0
    limit_micro_usd: int = 0
    to: str = ""
    cause: str = ""
    worker: str = ""
    text: str = ""
    level: str = ""
    name: str = ""
    code: int | None = None


class _Second:
    """One second of the load: what ended in it."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.latencies_ms: list[float] = []
        self.first_ms: list[float] = []

    def entry(self, second: int) -> dict[str, Any]:
        """Return it as plain data."""
        self.latencies_ms.sort()
        self.first_ms.sort()
        failed = self.outcomes.total() - self.outcomes["whole"] - self.outcomes["refused"]
        return {
            "kind": "second",
            "at_s": second,
            "whole": self.outcomes["whole"],
            "refused": self.outcomes["refused"],
            "failed": failed,
            "served": dict(self.served),
            "p50_ms": _quantile(self.latencies_ms, 0.5),
            "p95_ms": _quantile(self.latencies_ms, 0.95),
            "first_token_ms": _quantile(self.first_ms, 0.5),
        }


class _Provider:
    """What is known of one provider so far."""

    def __init__(self) -> None:
        self.attempts = 0
        self.failed = 0
        self.served = 0
        self.micro_usd = 0
        self.breakers: dict[str, str] = {}
        self.recent_ms: deque[float] = deque(maxlen=_RECENT)

    def row(self, name: str) -> dict[str, Any]:
        """Return it as plain data. The breaker shown is the least closed of all workers'."""
        states = set(self.breakers.values())
        worst = next((state for state in ("open", "half_open") if state in states), "closed")
        return {
            "provider": name,
            "breaker": worst,
            "served": self.served,
            "attempts": self.attempts,
            "failed": self.failed,
            "p50_ms": _quantile(sorted(self.recent_ms), 0.5),
            "spend_usd": self.micro_usd / 1e6,
        }


class Timeline:
    """`take` the lines of a run, `settle` now and then, ask `since` for what is new."""

    def __init__(self, providers: tuple[str, ...]) -> None:
        self.t0_ns: int | None = None
        self.entries: list[dict[str, Any]] = []
        self.spend_usd = 0.0
        self.limit_usd: float | None = None
        self.tokens = 0
        self.cut = 0
        self.streams = 0
        self.healing_s: dict[str, float] = {}
        """When each fault began to be healed, by id."""
        self._providers = {name: _Provider() for name in providers}
        self._seconds: dict[int, _Second] = {}
        self._settled = -1
        self._decode = msgspec.json.Decoder(_Line).decode

    def take(self, raw: bytes) -> None:
        """Take one line of the journal; what cannot be read is passed over, the merger counts it."""
        try:
            line = self._decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        match line.kind:
            case "request":
                self._request(line)
            case "attempt":
                self._attempt(line)
            case "spend":
                self._spend(line)
            case "breaker" if line.provider:
                self._provider(line.provider).breakers[line.worker] = line.to
                self._mark(line, {"provider": line.provider, "to": line.to, "cause": line.cause[:200]})
            case "fault":
                self._fault(line)
            case "note":
                self._mark(line, {"text": line.text[:500], "level": line.level})
            case "process" if line.action in ("ready", "exit"):
                self._mark(line, {"name": line.name, "action": line.action, "code": line.code})
            case _:
                pass

    def settle(self, now_ns: int) -> None:
        """Close the seconds that are over, each as one entry; those without a request too, as a gap is news."""
        if self.t0_ns is None:
            return
        last = int((now_ns - self.t0_ns) / 1e9 - _LATE_S) - 1
        while self._settled < last:
            self._settled += 1
            self._append(self._seconds.pop(self._settled, _Second()).entry(self._settled))

    def since(self, number: int) -> dict[str, Any]:
        """Return the entries from `number` on (the first is 0) and the number of the `next`."""
        first = max(0, number)
        return {"entries": self.entries[first:], "next": len(self.entries)}

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a provider."""
        return [provider.row(name) for name, provider in self._providers.items()]

    def _request(self, line: _Line) -> None:
        self.tokens += line.tokens
        self.cut += line.outcome == "cut"
        self.streams += line.stream
        if line.outcome == "whole" and line.provider:
            self._provider(line.provider).served += 1
        if self.t0_ns is None:
            return
        # What comes too late for its own second is counted in the next that is open.
        number = max(int((line.end_ns - self.t0_ns) / 1e9), self._settled + 1)
        second = self._seconds.setdefault(number, _Second())
        second.outcomes[line.outcome] += 1
        second.latencies_ms.append((line.end_ns - line.intended_ns) / 1e6)
        if line.outcome == "whole" and line.provider:
            second.served[line.provider] += 1
        if line.stream and line.first_byte_ns is not None and line.sent_ns is not None:
            second.first_ms.append((line.first_byte_ns - line.sent_ns) / 1e6)

    def _attempt(self, line: _Line) -> None:
        provider = self._provider(line.provider or "?")
        provider.attempts += 1
        provider.failed += line.outcome == "failed"
        if line.outcome == "ok":
            provider.recent_ms.append((line.end_ns - line.start_ns) / 1e6)

    def _spend(self, line: _Line) -> None:
        self.limit_usd = line.limit_micro_usd / 1e6
        self.spend_usd = line.total_micro_usd / 1e6
        if line.action == "settle" and line.provider:
            self._provider(line.provider).micro_usd += line.micro_usd

    def _fault(self, line: _Line) -> None:
        fields = {
            "id": line.id,
            "phase": line.phase,
            "target": line.target,
            "description": line.description,
            "planned_at_s": line.planned_at_s,
            "duration_s": line.duration_s,
            "error": line.error,
        }
        self._mark(line, fields)
        if line.phase == "healing" and self.t0_ns is not None:
            self.healing_s[line.id] = (line.mono_ns - self.t0_ns) / 1e9

    def _mark(self, line: _Line, fields: dict[str, Any]) -> None:
        at_s = None if self.t0_ns is None else round((line.mono_ns - self.t0_ns) / 1e9, 3)
        self._append({"kind": line.kind, "at_s": at_s, **fields})

    def _append(self, entry: dict[str, Any]) -> None:
        if len(self.entries) < _ENTRIES_MAX:
            self.entries.append(entry)

    def _provider(self, name: str) -> _Provider:
        return self._providers.setdefault(name, _Provider())


def _quantile(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 1) if ordered else None
