"""
What a kubelet tells: Kubernetes Events for people (`kubectl describe pod`), and the run's journal.

Events are sent behind the work and counted where they repeat. One that cannot be sent is dropped: they are told as a
courtesy, also by a real kubelet.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

from seawall.cluster.client import ApiError
from seawall.cluster.kubelet.api import Api
from seawall.cluster.kubelet.manifest import Object
from seawall.journal.events import JournalEvent
from seawall.journal.writer import EVENTS_VARIABLE, EventWriter

__all__ = ["Journal", "Recorder", "timestamp"]

_WAITING_MAX = 1000
_KNOWN_MAX = 500
_ROLE = "kubelet"


def timestamp(wall_s: float | None = None) -> str:
    """Return a moment (default: now) as the API writes it: whole seconds, UTC."""
    now = (
        datetime.datetime.now(datetime.UTC) if wall_s is None else datetime.datetime.fromtimestamp(wall_s, datetime.UTC)
    )
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


class Journal:
    """The journal of the run that is going on, if any; `folder` may change from run to run."""

    def __init__(self) -> None:
        self._writer: EventWriter | None = None
        self._folder: str | None = None

    def follow(self, folder: str | None) -> None:
        """Write into `folder` from now on, or into the one of the environment; a folder that is gone is none."""
        folder = folder or os.environ.get(EVENTS_VARIABLE)
        if folder == self._folder:
            return
        self.close()
        self._folder = folder
        if folder:
            with contextlib.suppress(OSError):
                self._writer = EventWriter(Path(folder), _ROLE)

    def write(self, event: JournalEvent) -> None:
        """Append an event. A full disk must not stop pods from being looked after."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.write(event)

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _Told(NamedTuple):
    pod: Object
    node: str
    reason: str
    message: str
    warning: bool
    container: str | None


class Recorder:
    """Sends the Events of pods."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._waiting: asyncio.Queue[_Told] = asyncio.Queue(_WAITING_MAX)
        # (uid, reason, message) → the name of the Event and how often it was told.
        self._known: OrderedDict[tuple[str, str, str], tuple[str, int]] = OrderedDict()

    def tell(
        self, pod: Object, node: str, reason: str, message: str, *, warning: bool = False, container: str | None = None
    ) -> None:
        """Queue an Event about a pod, or about one of its containers."""
        with contextlib.suppress(asyncio.QueueFull):
            self._waiting.put_nowait(_Told(pod, node, reason, message, warning, container))

    async def run(self) -> None:
        """Send what is queued until cancelled."""
        while True:
            told = await self._waiting.get()
            with contextlib.suppress(ApiError):
                await self._send(told)

    async def _send(self, told: _Told) -> None:
        metadata = told.pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/events"
        key = (str(metadata["uid"]), told.reason, told.message)
        known = self._known.get(key)
        if known is not None:
            name, count = known[0], known[1] + 1
            self._known[key] = (name, count)
            self._known.move_to_end(key)
            await self._api.patch(f"{path}/{name}", {"count": count, "lastTimestamp": timestamp()})
            return
        made = await self._api.create(path, _event(told))
        self._known[key] = (str(made["metadata"]["name"]), 1)
        while len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)


def _event(told: _Told) -> dict[str, Any]:
    metadata, now = told.pod["metadata"], timestamp()
    about = {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    if told.container:
        about["fieldPath"] = f"spec.containers{{{told.container}}}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
        "involvedObject": about,
        "reason": told.reason,
        "message": told.message[:1024],
        "type": "Warning" if told.warning else "Normal",
        "source": {"component": "kubelet", "host": told.node},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
