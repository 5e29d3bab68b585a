"""
The figures of `/metrics`: plain whole numbers, counted as things happen and rendered when somebody asks.

Every label's values are known beforehand (providers, error codes, states), so a figure is a slot at a fixed place in a
row of 64-bit numbers. Such a row is a `Board`. A lone worker keeps it in memory; of several, each keeps its own in a
file of a common folder, where whichever is asked adds them up, and where the figures of a worker that was killed
stay: a counter never falls. What is counted costs well under a microsecond; no lock, no lookup of a metric by name.
"""

from __future__ import annotations

import hashlib
import itertools
import mmap
import os
import struct
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, get_args, get_type_hints

import msgspec

from router import errors
from router.breaker import BreakerState
from router.events import Attempt, BreakerChange, Event, Skip, Spend
from router.models import FAILOVER_CHAIN, Usage
from seawall.telemetry.tally import SPANS

__all__ = ["BUCKETS_S", "UNRECORDED", "Board", "Metrics"]

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper bounds of the histograms' buckets, in seconds; above the last there is one more."""

_SUM = len(BUCKETS_S) + 1
_bucket_of = partial(bisect_left, BUCKETS_S)
_MICRO = 1e-6
_OTHER = "other"
_PROVIDERS = (*(str(provider) for provider in FAILOVER_CHAIN), _OTHER)
_SERVERS = (*_PROVIDERS, "none")
_MODES = ("json", "stream")
_CODES = tuple(
    sorted({getattr(errors, name).code for name in errors.__all__} | {"cancelled", "transcripts_down", _OTHER})
)
_OUTCOMES = ("ok", "invalid_api_key", "shutting_down", *_CODES)
_REASONS = (*sorted(get_args(get_type_hints(Skip)["reason"])), _OTHER)
_STATES = tuple(str(state) for state in BreakerState)


UNRECORDED = ("key_store", "transcript_store", "queue_full", _OTHER)
"""Why an answer goes unrecorded."""


class _Family(msgspec.Struct, frozen=True):
    """One metric: its labels' names, and every combination of values that it can have."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ((),)
    scale: float = 1.0
    shows_zero: bool = True

    @property
    def width(self) -> int:
        """How many slots a row takes: a histogram's are its buckets and its sum in microseconds."""
        return len(BUCKETS_S) + 2 if self.kind == "histogram" else 1


def _product(*values: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(itertools.product(*values))


_ATTEMPT_ROWS = (
    *_product(_PROVIDERS, ("ok",), ("",)),
    *_product(_PROVIDERS, ("failed", "cancelled"), _CODES),
)
_FAMILIES = (
    _Family(
        "seawall_requests_total",
        "counter",
        "Requests answered, by outcome (ok, or the error's code), by who answered, and by mode.",
        ("outcome", "provider", "mode"),
        _product(_OUTCOMES, _SERVERS, _MODES),
        shows_zero=False,
    ),
    _Family("seawall_requests_in_flight", "gauge", "Requests being answered."),
    _Family(
        "seawall_request_duration_seconds",
        "histogram",
        "From a request's arrival to the last byte of a whole answer.",
        ("provider", "mode"),
        _product(_PROVIDERS, _MODES),
        shows_zero=False,
    ),
    _Family(
        "seawall_time_to_first_token_seconds",
        "histogram",
        "From a streamed request's arrival to the first piece of its answer.",
        ("provider",),
        _product(_PROVIDERS),
        shows_zero=False,
    ),
    _Family(
        "seawall_attempts_total",
        "counter",
        "Calls to providers, by outcome and the error's code.",
        ("provider", "outcome", "error"),
        _ATTEMPT_ROWS,
        shows_zero=False,
    ),
    _Family(
        "seawall_attempt_duration_seconds",
        "histogram",
        "Length of the calls to providers, however they ended.",
        ("provider",),
        _product(_PROVIDERS),
        shows_zero=False,
    ),
    _Family(
        "seawall_skips_total",
        "counter",
        "Times that a provider was passed over, by reason.",
        ("provider", "reason"),
        _product(_PROVIDERS, _REASONS),
        shows_zero=False,
    ),
    _Family(
        "seawall_breakers",
        "gauge",
        "Breakers in this state; each worker has one a provider, or one a deployment where these are listed.",
        ("provider", "state"),
        _product(_PROVIDERS, _STATES),
    ),
    _Family(
        "seawall_breaker_transitions_total",
        "counter",
        "Transitions of a provider's breaker, by the state that it went to.",
        ("provider", "to"),
        _product(_PROVIDERS, _STATES),
    ),
    _Family(
        "seawall_slow",
        "gauge",
        "Providers, or deployments, that workers try last because their answers are slow.",
        ("provider",),
        _product(_PROVIDERS),
    ),
    _Family(
        "seawall_cost_usd_total",
        "counter",
        "Settled cost of the calls to a provider, in US dollars.",
        ("provider",),
        _product(_PROVIDERS),
        scale=_MICRO,
    ),
    _Family(
        "seawall_tokens_total",
        "counter",
        "Tokens of whole answers, by who finished the answer.",
        ("provider", "kind"),
        _product(_PROVIDERS, ("prompt", "completion")),
    ),
    _Family("seawall_workers", "gauge", "Workers that serve."),
    _Family("seawall_worker_starts_total", "counter", "Workers started, the first ones included."),
    _Family(
        "seawall_trace_spans_total",
        "counter",
        "Spans of traces, by whether a collector took them; dropped ones cost no request anything.",
        ("outcome",),
        (("exported",), ("dropped",)),
    ),
    _Family(
        "seawall_transcripts_unrecorded_total",
        "counter",
        "Answers of which no transcript is kept, by what failed: the store of keys, the transcripts', or no room left.",
        ("reason",),
        _product(UNRECORDED),
    ),
)


def _places() -> dict[str, int]:
    """Return where the slots of each family begin, and under the empty name where all of them end."""
    places: dict[str, int] = {}
    at = 0
    for family in _FAMILIES:
        places[family.name] = at
        at += family.width * len(family.rows)
    return places | {"": at}


_PLACES = _places()
_SIZE = _PLACES[""]
# A file of another version has other slots: it is passed over.
_MAGIC = struct.pack("<q", int.from_bytes(hashlib.sha256(repr((BUCKETS_S, _FAMILIES)).encode()).digest()[:7], "big"))


class Board:
    """A row of numbers: in memory, or in the file `path`, whose counters go on where a former worker left them."""

    SUFFIX = ".board"

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        size = len(_MAGIC) + 8 * _SIZE
        if path is None:
            room: bytearray | mmap.mmap = bytearray(size)
        else:
            with path.open("a+b") as file:
                if os.fstat(file.fileno()).st_size != size:
                    file.truncate(0)
                    file.truncate(size)
                room = mmap.mmap(file.fileno(), size)
        if bytes(room[: len(_MAGIC)]) != _MAGIC:
            room[:] = _MAGIC + bytes(size - len(_MAGIC))
        self.slots = memoryview(room)[len(_MAGIC) :].cast("q")

    def clear_gauges(self) -> None:
        """Set to zero what was true of a worker that is no more."""
        for family in _FAMILIES:
            if family.kind == "gauge":
                for slot in range(_PLACES[family.name], _PLACES[family.name] + len(family.rows)):
                    self.slots[slot] = 0

    def total(self) -> list[int]:
        """Return the sum over this board and, where it is a file, those beside it."""
        rows = [self.slots.tolist()]
        for path in () if self.path is None else self.path.parent.glob(f"*{self.SUFFIX}"):
            data = path.read_bytes() if path != self.path else b""
            if data.startswith(_MAGIC) and len(data) == len(_MAGIC) + 8 * _SIZE:
                rows.append(memoryview(data)[len(_MAGIC) :].cast("q").tolist())
        return [sum(column) for column in zip(*rows, strict=True)]


class Metrics:
    """
    What one worker counts on its `board`.

    `breakers` says how many a provider has where it is not one: it has one a deployment.
    """

    def __init__(self, board: Board | None = None, breakers: Mapping[str, int] | None = None) -> None:
        self._board = board or Board()
        self._board.clear_gauges()
        self._slots = self._board.slots
        self._requests = _index("seawall_requests_total")
        self._durations = _index("seawall_request_duration_seconds")
        self._first_tokens = _index("seawall_time_to_first_token_seconds")
        self._attempts = _index("seawall_attempts_total")
        self._attempt_durations = _index("seawall_attempt_duration_seconds")
        self._skips = _index("seawall_skips_total")
        self._states = _index("seawall_breakers")
        self._transitions = _index("seawall_breaker_transitions_total")
        self._slow = _index("seawall_slow")
        self._costs = _index("seawall_cost_usd_total")
        self._tokens = _index("seawall_tokens_total")
        self._unrecorded = _index("seawall_transcripts_unrecorded_total")
        self._in_flight = _PLACES["seawall_requests_in_flight"]
        for provider in _PROVIDERS[:-1]:
            self._slots[self._states[provider, str(BreakerState.CLOSED)]] = (breakers or {}).get(provider, 1)
        self._slots[_PLACES["seawall_workers"]] = 1
        self._slots[_PLACES["seawall_worker_starts_total"]] += 1
        SPANS.count_in(self._slots, _PLACES["seawall_trace_spans_total"])

    def begun(self) -> None:
        """Count a request that has arrived."""
        self._slots[self._in_flight] += 1

    def ended(
        self,
        outcome: str,
        *,
        stream: bool,
        begun_s: float,
        provider: str = "none",
        first_s: float | None = None,
        usage: Usage | None = None,
    ) -> None:
        """
        Count the end of a request that had `begun`: `ok` or an error's code. Times are those of `time.monotonic`.

        `provider` is who finished the answer, `first_s` when the first piece of a stream went out.
        """
        slots, mode = self._slots, "stream" if stream else "json"
        slots[self._in_flight] -= 1
        slots[self._requests[outcome, provider, mode]] += 1
        if first_s is not None:
            self._time(self._first_tokens[(provider,)], first_s - begun_s)
        if outcome == "ok":
            self._time(self._durations[provider, mode], time.monotonic() - begun_s)
        if usage is not None:
            slots[self._tokens[provider, "prompt"]] += usage.prompt_tokens
            slots[self._tokens[provider, "completion"]] += usage.completion_tokens

    def take(self, event: Event) -> None:
        """Count what the router reports."""
        slots = self._slots
        if isinstance(event, Spend):
            if event.micro_usd and event.action == "settle":
                slots[self._costs[(event.provider,)]] += event.micro_usd
        elif isinstance(event, Attempt):
            provider = event.provider
            slots[self._attempts[provider, event.outcome, event.error or ""]] += 1
            self._time(self._attempt_durations[(provider,)], (event.end_ns - event.start_ns) * 1e-9)
        elif isinstance(event, Skip):
            slots[self._skips[event.provider, event.reason]] += 1
        elif isinstance(event, BreakerChange):
            slots[self._states[event.provider, str(event.from_state)]] -= 1
            slots[self._states[event.provider, str(event.to)]] += 1
            slots[self._transitions[event.provider, str(event.to)]] += 1
        else:
            slots[self._slow[(event.provider,)]] += 1 if event.to == "slow" else -1

    def unrecorded(self, reason: str) -> None:
        """Count an answer that went unrecorded, by one of UNRECORDED."""
        self._slots[self._unrecorded[(reason,)]] += 1

    def render(self, extra: Iterable[tuple[str, str, float]] = ()) -> bytes:
        """
        Return all figures, of all workers, in Prometheus's text format, version 0.0.4.

        `extra` are gauges that others know: name, help, value.
        """
        total = self._board.total()
        lines: list[str] = []
        for family in _FAMILIES:
            lines += (f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}")
            lines += _samples(family, total)
        for name, words, value in extra:
            lines += (f"# HELP {name} {words}", f"# TYPE {name} gauge", f"{name} {value:.10g}")
        return "\n".join([*lines, ""]).encode()

    def _time(self, slot: int, seconds: float) -> None:
        slots = self._slots
        slots[slot + _bucket_of(seconds)] += 1
        slots[slot + _SUM] += int(seconds * 1_000_000)


class _Index(dict[tuple[str, ...], int]):
    """The slot of each row of a family; a value that nobody knew beforehand counts as `other`."""

    def __missing__(self, row: tuple[str, ...]) -> int:
        for n in range(1, 2 ** len(row)):
            masked = tuple(_OTHER if n >> place & 1 else value for place, value in enumerate(row))
            if masked in self:
                return self[masked]
        raise KeyError(row)


def _index(name: str) -> _Index:
    family = next(each for each in _FAMILIES if each.name == name)
    return _Index({row: _PLACES[name] + n * family.width for n, row in enumerate(family.rows)})


def _samples(family: _Family, total: Sequence[int]) -> Iterator[str]:
    for n, row in enumerate(family.rows):
        at = _PLACES[family.name] + n * family.width
        labels = [f'{name}="{value}"' for name, value in zip(family.labels, row, strict=True)]
        if family.kind != "histogram":
            if total[at] or family.shows_zero:
                yield f"{family.name}{_braces(labels)} {total[at] * family.scale:.15g}"
            continue
        buckets, sum_us = total[at : at + len(BUCKETS_S) + 1], total[at + len(BUCKETS_S) + 1]
        if not any(buckets):
            continue
        for bound, count in zip((*map(repr, BUCKETS_S), "+Inf"), itertools.accumulate(buckets), strict=True):
            within = f'le="{bound}"'
            yield f"{family.name}_bucket{_braces([*labels, within])} {count}"
        yield f"{family.name}_sum{_braces(labels)} {sum_us * _MICRO:.15g}"
        yield f"{family.name}_count{_braces(labels)} {sum(buckets)}"


def _braces(labels: Sequence[str]) -> str:
    return f"{{{','.join(labels)}}}" if labels else ""
