"""
Pods with no process: their readiness and CPU follow a script, so that an HPA's controller meets a history we chose.

    annotations:
      seawall.dev/scripted: '{"start_s": 0.2, "ready_s": 1, "cpu_milli": [[0, 50], [30, 200]]}'

Times are in seconds after the pod was started, or, with `origin_s`, after that moment (seconds since the epoch), so
that many pods follow one history whenever they were made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec

from seawall.cluster.kubelet.addresses import PodAddress
from seawall.cluster.kubelet.manifest import Object, annotation
from seawall.cluster.kubelet.pod import Worker
from seawall.cluster.kubelet.recorder import timestamp
from seawall.cluster.kubelet.runtime import Runtime
from seawall.cluster.kubelet.status import ContainerView, state_running, state_terminated, state_waiting
from seawall.cluster.kubelet.usage import Usage

__all__ = ["SCRIPTED", "Script", "ScriptedPod", "script_of"]

SCRIPTED = "seawall.dev/scripted"
"""The annotation that holds a pod's script."""

Span = tuple[float, float]


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a pod does. All times in seconds after its start, or after `origin_s` where that is given."""

    start_s: float = 0.0
    """From being bound to Running; always from the pod's own start."""
    ready_s: float = 0.0
    """From Running to its first being ready; always from the pod's own start."""
    unready: tuple[Span, ...] = ()
    """Spans in which it is not ready."""
    origin_s: float | None = None
    """Seconds since the epoch."""
    cpu_milli: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    """From each time on, what it uses; before the first the first."""
    missing: tuple[Span, ...] = ()
    """Spans in which the metrics server has nothing for it."""
    memory_mib: float = 32.0
    window_s: float = 1.0
    """The window that its metrics claim."""
    exit_code: int = 0
    """What its containers end with on deletion."""

    def cpu_at(self, seconds: float) -> float:
        """Return what it uses at a time."""
        return next((milli for since, milli in reversed(self.cpu_milli) if since <= seconds), self.cpu_milli[0][1])


def script_of(pod: Object) -> Script | None:
    """Return the pod's script; None for a pod of processes. Raises ValueError for one that is no script."""
    text = annotation(pod, SCRIPTED)
    if text is None:
        return None
    try:
        script = msgspec.json.decode(text, type=Script)
    except msgspec.DecodeError as error:
        raise ValueError(f"the annotation {SCRIPTED} is no script: {error}") from error
    if not script.cpu_milli or list(script.cpu_milli) != sorted(script.cpu_milli):
        raise ValueError(f"the annotation {SCRIPTED}: cpu_milli must be pairs of time and milli, in the order of time")
    return script


class ScriptedPod(Worker):
    """A pod that follows a script."""

    def __init__(self, pod: Object, address: PodAddress, runtime: Runtime, script: Script) -> None:
        super().__init__(pod, address, runtime)
        self._script = script
        self._origin_s = time.time() if script.origin_s is None else script.origin_s
        self._running_since: str | None = None
        self._ready = False
        self._ended: str | None = None

    def views(self) -> tuple[list[ContainerView], list[ContainerView]]:
        """See Worker."""
        return [self._view(each["name"], str(each.get("image") or "")) for each in self.pod["spec"]["containers"]], []

    async def live(self) -> None:
        """See Worker."""
        await asyncio.sleep(self._script.start_s)
        self._running_since = timestamp()
        self.changed()
        await asyncio.sleep(self._script.ready_s)
        while not self.is_ending:
            at = time.time() - self._origin_s
            ready = not _within(at, self._script.unready)
            if ready is not self._ready:
                self._ready = ready
                self.changed()
            edges = [edge for span in self._script.unready for edge in span if edge > at]
            await asyncio.sleep(min(edges) - at if edges else 3600.0)

    async def end(self, grace_s: float) -> None:
        """See Worker."""
        self._ready = False
        self._ended = self._ended or timestamp()

    async def _end(self, living: asyncio.Task[None]) -> None:
        living.cancel()
        await super()._end(living)

    def usages(self) -> dict[str, Usage]:
        """See Worker; all of it is the first container's."""
        now = time.time()
        at = now - self._origin_s
        if self._running_since is None or _within(at, self._script.missing):
            return {}
        memory = int(self._script.memory_mib * 2**20)
        first, *others = (str(each["name"]) for each in self.pod["spec"]["containers"])
        nothing = Usage(0.0, 0, now, self._script.window_s)
        return {first: Usage(self._script.cpu_at(at), memory, now, self._script.window_s)} | dict.fromkeys(
            others, nothing
        )

    def _view(self, name: str, image: str) -> ContainerView:
        began = self._running_since
        if self._ended is not None:
            code = self._script.exit_code
            state = state_terminated(code, started_at=began or self._ended, finished_at=self._ended, id="scripted")
        else:
            state = state_waiting("ContainerCreating") if began is None else state_running(began)
        return ContainerView(
            name=name, image=image, state=state, ready=self._ready, started=began is not None, id="scripted"
        )


def _within(seconds: float, spans: Sequence[Span]) -> bool:
    return any(start <= seconds < end for start, end in spans)
