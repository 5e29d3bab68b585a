"""
The events of the journal (version 1), one struct a kind.

A line is `{"v": 1, "kind": …, "mono_ns": …, "wall": …, "source": …, "seq": …, …fields}`. `mono_ns` and every other
`*_ns` are CLOCK_MONOTONIC nanoseconds, the same for all processes of a host (virtual time in simulation); `wall` is
seconds since the epoch. `source` is `<role>-<pid>`; `seq` counts its events from 0. None means unknown or not observed.

A merged journal ends with one line more, which is no event: of kind `seal`, with how many `lines` stand before it and
their `sha256`, by which an edit shows (`seawall.journal.seal`).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from router.events import Attempt, BreakerChange, LatencyChange, Skip, Spend

__all__ = [
    "VERSION",
    "Attempt",
    "BreakerChange",
    "CallRecord",
    "End",
    "Exchange",
    "Fault",
    "Header",
    "Hpa",
    "JournalEvent",
    "Lag",
    "LatencyChange",
    "MetricsAnswer",
    "Note",
    "PartName",
    "Pod",
    "PodUsage",
    "Process",
    "RequestRecord",
    "Skip",
    "Spend",
    "Stamped",
]

VERSION = 1

RequestOutcome = Literal["whole", "refused", "error", "disguised", "cut", "hung", "dropped", "process_died"]
PartName = Literal["collector", "key_service"]
FaultPhase = Literal["planned", "injecting", "active", "met", "healing", "healed", "undo_verified"]


class Header(msgspec.Struct, kw_only=True, tag_field="kind", tag="header", omit_defaults=True):
    """The first event: what is run, from which seed, on what."""

    run: str
    title: str
    scenario: str
    """The scenario file's text."""
    scenario_name: str
    scenario_sha256: str
    seed: int
    arena: str
    system: str
    commit: str | None
    versions: dict[str, str]
    settings: dict[str, str]
    """Settings in force, secrets masked."""
    observes: list[str]
    """Which kinds this system reports: of `request`, `call`, `attempt`, `breaker`, `spend`."""
    planned: bool = True
    """Whether the load was planned beforehand; left out where it was. Locust's users send when they please."""


class End(msgspec.Struct, kw_only=True, tag_field="kind", tag="end"):
    """The last event. A journal without it is of a run that was killed."""

    reason: Literal["finished", "interrupted", "stopped", "error"]
    detail: str | None = None
    load_start_ns: int | None = None
    load_end_ns: int | None = None
    undone: bool | None = None
    """Whether every fault's undo was verified."""


class RequestRecord(msgspec.Struct, kw_only=True, tag_field="kind", tag="request"):
    """One request as the client saw it, written when it has ended."""

    request_id: str
    stream: bool
    intended_ns: int
    sent_ns: int | None
    """After the last byte of the request had left."""
    first_byte_ns: int | None
    """First byte of the body (first token of a stream)."""
    end_ns: int
    outcome: RequestOutcome
    status: int | None
    code: str | None
    """The stable error code that the gateway told (`all_clouds_down`, …)."""
    chunks: int
    tokens: int
    text_sha256: str | None
    provider: str | None
    """Who answered, as the gateway told (`X-Seawall-Provider`), else as the text shows."""
    providers_in_text: list[str]
    retry_after_s: float | None
    problem: str | None
    """One line on what was wrong, when it was not whole."""
    reused: bool
    """Whether it went over a connection that had been used before."""


class CallRecord(msgspec.Struct, kw_only=True, tag_field="kind", tag="call"):
    """One call as the provider's emulator saw it, written when it has ended."""

    request_id: str | None
    provider: str
    model: str | None
    stream: bool
    arrival_ns: int
    first_byte_ns: int | None
    end_ns: int
    behaviour: str
    """`healthy`, or the id of the fault whose behaviour was applied."""
    status: int | None
    bytes: int
    completed: bool
    """Whether every byte of the intended answer was handed to the socket and the client was still there."""
    prompt_tokens: int
    completion_tokens: int
    """Tokens sent (for a cut answer: those that left)."""


class Fault(msgspec.Struct, kw_only=True, tag_field="kind", tag="fault"):
    """One step in the life of a fault. `evidence` holds what showed it, in plain data."""

    id: str
    phase: FaultPhase
    target: str
    description: str
    planned_at_s: float
    duration_s: float
    evidence: dict[str, Any] = {}
    error: str | None = None


class Process(msgspec.Struct, kw_only=True, tag_field="kind", tag="process"):
    """A process of the arena started, became ready, was told to stop, or ended."""

    name: str
    action: Literal["start", "ready", "stop", "exit"]
    pid: int | None
    code: int | None = None
    version: str | None = None
    detail: str | None = None


class Pod(msgspec.Struct, kw_only=True, tag_field="kind", tag="pod"):
    """Something happened to a pod, told by its kubelet. `code` is of `exit`: negative for a signal."""

    namespace: str
    name: str
    uid: str
    action: Literal["start", "ready", "unready", "stop", "exit", "gone"]
    """`start` and `exit` are of a container's process, `stop` is the beginning of the pod's end, `gone` its end."""
    node: str
    address: str | None = None
    """Where its process listens."""
    container: str | None = None
    pid: int | None = None
    code: int | None = None
    restarts: int | None = None
    grace_s: float | None = None
    detail: str | None = None


class PodUsage(msgspec.Struct, kw_only=True):
    """A pod in a metrics answer. The window ends at `end_wall_s`, seconds since the epoch."""

    namespace: str
    name: str
    cpu_milli: int
    memory_bytes: int
    end_wall_s: float
    window_s: float


class MetricsAnswer(msgspec.Struct, kw_only=True, tag_field="kind", tag="metrics_answer"):
    """What the metrics server told somebody: the HPA's controller, `kubectl top`, …"""

    asked_by: str
    """The user that the API server says it is."""
    path: str
    selector: str | None
    status: int
    pods: list[PodUsage] = []


class Hpa(msgspec.Struct, kw_only=True, tag_field="kind", tag="hpa"):
    """The state of a HorizontalPodAutoscaler, whenever it has changed."""

    namespace: str
    name: str
    current: int
    """Replicas that it saw."""
    desired: int
    """Replicas that it wants."""
    utilization: int | None = None
    """The CPU that it saw, in per cent of what the pods request."""
    min_replicas: int | None = None
    max_replicas: int | None = None
    target_utilization: int | None = None
    stabilization_s: float | None = None
    """How long it waits before it takes pods away; None where the controller's own time counts."""
    detail: str | None = None
    """What its conditions say, where they say that it cannot scale."""


class Exchange(msgspec.Struct, kw_only=True, tag_field="kind", tag="exchange"):
    """The gateway asked a part that is no provider, written by the gateway when it has ended."""

    part: PartName
    """The traces' collector, which was sent a batch of spans, or the service that keeps the transcripts' keys."""
    start_ns: int
    end_ns: int
    outcome: Literal["ok", "failed"]


class Lag(msgspec.Struct, kw_only=True, tag_field="kind", tag="lag"):
    """How late the load generator sent what was due since its last `lag` event, and how busy it was."""

    requests: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_share: float
    """Share of one core, 0 to 1."""


class Note(msgspec.Struct, kw_only=True, tag_field="kind", tag="note"):
    """A remark in plain words. `level`: `info`, `warning` or `error`."""

    text: str
    level: Literal["info", "warning", "error"] = "info"


JournalEvent = (
    Header
    | End
    | RequestRecord
    | CallRecord
    | Attempt
    | Skip
    | BreakerChange
    | LatencyChange
    | Spend
    | Fault
    | Process
    | Pod
    | MetricsAnswer
    | Exchange
    | Hpa
    | Lag
    | Note
)


class Stamped(msgspec.Struct, frozen=True, kw_only=True):
    """An event with its place in the journal."""

    mono_ns: int
    wall: float
    source: str
    seq: int
    event: JournalEvent
