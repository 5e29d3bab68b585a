"""The kubelet's side of the Kubernetes API: what `Client` does, and creating, patching, deleting and watching."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, cast

import httpx
import msgspec

from seawall.cluster.client import ApiError, Client
from seawall.cluster.kubelet.manifest import Object, parts

__all__ = ["Api", "Informer"]

_STRATEGIC = "application/strategic-merge-patch+json"
_WATCH_S = 240
_RETRY_S = (0.05, 2.0)
_GONE = 410


class Api(Client):
    """A client that also writes and watches. Every method raises ApiError."""

    async def create(self, path: str, body: Mapping[str, Any]) -> Object:
        """POST an object to a collection and return it."""
        return cast("Object", json.loads(await self._send("POST", path, json.dumps(body).encode())))

    async def patch(self, path: str, body: Mapping[str, Any], *, kind: str = _STRATEGIC) -> Object:
        """PATCH an object and return it; lists with a merge key are merged, not replaced."""
        return cast("Object", json.loads(await self._send("PATCH", path, json.dumps(body).encode(), kind)))

    async def remove(self, path: str, options: Mapping[str, Any]) -> None:
        """DELETE an object, with options. Raises ApiError for one that is gone, too."""
        await self._send("DELETE", path, json.dumps(options).encode())

    async def watch(self, path: str, version: str) -> AsyncGenerator[tuple[str, Object]]:
        """Yield (type, object) from `version` on, until the server ends the watch."""
        query = f"watch=1&resourceVersion={version}&allowWatchBookmarks=true&timeoutSeconds={_WATCH_S}"
        # No answer for a while is what a quiet cluster looks like: the server's own end comes after _WATCH_S.
        timeout = httpx.Timeout(15.0, read=_WATCH_S + 30.0)
        try:
            async with self._http.stream("GET", f"{path}?{query}", timeout=timeout) as answer:
                if not answer.is_success:
                    raise ApiError(f"watch {path}", answer.status_code, "", "refused")
                async for line in answer.aiter_lines():
                    event = msgspec.json.decode(line, type=dict[str, Any])
                    yield event["type"], event["object"]
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            raise ApiError(f"watch {path}", 0, "", f"broke off: {error or type(error).__name__}") from error


class Informer:
    """
    Every object of a collection, kept up to date by list and watch, by uid.

    `changed` is called with each object that is new or has changed, `gone` with each that is no more, both in the
    event loop and never at the same time. A watch that breaks off is taken up where it was; one whose version is too
    old (410) begins with a new list.
    """

    def __init__(
        self, api: Api, path: str, *, changed: Callable[[Object], None], gone: Callable[[Object], None]
    ) -> None:
        self.objects: dict[str, Object] = {}
        self.listed = asyncio.Event()
        """Set when the first list is in."""
        self._api = api
        self._path = path
        self._changed = changed
        self._gone = gone

    async def run(self) -> None:
        """Follow the collection until cancelled."""
        version, pause = "", _RETRY_S[0]
        while True:
            try:
                if not version:
                    version = await self.list()
                    pause = _RETRY_S[0]
                # A break ends here too; what was seen by then is not lost.
                async with contextlib.aclosing(self._api.watch(self._path, version)) as events:
                    async for kind, thing in events:
                        _check(kind, thing, self._path)
                        version = thing["metadata"]["resourceVersion"]
                        pause = _RETRY_S[0]
                        self._take(kind, thing)
            except ApiError as error:
                if error.status_code == _GONE:
                    version = ""
                    continue
                await asyncio.sleep(pause)
                pause = min(2 * pause, _RETRY_S[1])
                # Not to be reached at all may mean another server by now: the versions of the former say nothing.
                version = version if error.status_code == 0 and pause < _RETRY_S[1] else ""

    async def list(self) -> str:
        """Compare with a fresh list, tell what differs, and return the list's version."""
        said = await self._api.get(self._path)
        fresh = {each["metadata"]["uid"]: each for each in parts(said, "items")}
        for uid in [uid for uid in self.objects if uid not in fresh]:
            self._take("DELETED", self.objects[uid])
        for uid, thing in fresh.items():
            known = self.objects.get(uid)
            if known is None or _is_newer(thing, known):
                self._take("MODIFIED", thing)
        self.listed.set()
        return str(said["metadata"]["resourceVersion"])

    def _take(self, kind: str, thing: Object) -> None:
        if kind == "BOOKMARK":
            return
        uid = thing["metadata"]["uid"]
        if kind == "DELETED":
            self.objects.pop(uid, None)
            self._gone(thing)
        else:
            self.objects[uid] = thing
            self._changed(thing)


def _check(kind: str, thing: Object, path: str) -> None:
    """Raise ApiError for an event that is the watch's own failure."""
    if kind == "ERROR":
        raise ApiError(
            f"watch {path}", int(thing.get("code") or 0), str(thing.get("reason")), str(thing.get("message"))
        )


def _is_newer(one: Object, other: Object) -> bool:
    """Whether `one` is a later state. Versions are to be compared for equality only, so any other one counts."""
    return one["metadata"]["resourceVersion"] != other["metadata"]["resourceVersion"]
