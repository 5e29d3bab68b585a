"""
A small client of the Kubernetes API: enough to put objects in, look at them, and wait for what they become.

    async with Client(access) as client:
        await client.apply(objects)
        await client.get("/api/v1/namespaces/default/pods")

Objects are plain dicts, as in a manifest. The official client is used where it is needed; this one is a start.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, cast

import httpx

from seawall.cluster.access import Access
from seawall.cluster.errors import ClusterError

__all__ = ["ApiError", "Client", "wait_until"]

Object = Mapping[str, Any]

MANAGER = "seawall"
"""The field manager of what is applied."""
_TIMEOUT_S = 15.0
_POLL_S = 0.05
_BODY_LIMIT = 2000


class ApiError(ClusterError):
    """The API server refused. `status` is the HTTP status, 0 when it was not reached; `reason` is Kubernetes' own."""

    code = "cluster_api"

    def __init__(self, doing: str, status: int, reason: str, message: str) -> None:
        self.status_code = status
        self.reason = reason
        super().__init__(f"{doing}: {message}" if not status else f"{doing}: HTTP {status} {reason}: {message}")


class Client:
    """A client with the administrator's token. Every method raises ApiError."""

    def __init__(self, access: Access, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._http = httpx.AsyncClient(
            base_url=access.api_url,
            verify=ssl.create_default_context(cafile=str(access.ca_path)),
            headers={"Authorization": f"Bearer {access.token}", "User-Agent": "seawall"},
            timeout=timeout_s,
            trust_env=False,
        )
        self._resources: dict[str, dict[str, tuple[str, bool]]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def get(self, path: str) -> dict[str, Any]:
        """Return the object or list at `path`."""
        return cast("dict[str, Any]", json.loads(await self._send("GET", path)))

    async def text(self, path: str) -> str:
        """Return what is at `path` as text: `/readyz?verbose`, a log."""
        return (await self._send("GET", path)).decode("utf-8", "replace")

    async def register(self, path: str, manifest: bytes) -> None:
        """Create an object from its JSON in the list at `path`; one that exists is left as it is."""
        try:
            await self._send("POST", path, manifest)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    async def apply(
        self, objects: Iterable[Object], *, dry_run: bool = False, strict: bool = False
    ) -> list[dict[str, Any]]:
        """
        Apply each object (server-side, ours wins over other managers) and return them as the server sees them.

        With `dry_run` the server checks everything, webhooks too, and keeps nothing. With `strict` a field that it does
        not know is an error.
        """
        made: list[dict[str, Any]] = []
        for each in objects:
            path = await self.path_of(each)
            options = f"fieldManager={MANAGER}&force=true" + ("&dryRun=All" if dry_run else "")
            options += "&fieldValidation=Strict" if strict else ""
            body = json.dumps(each).encode()
            made.append(
                json.loads(await self._send("PATCH", f"{path}?{options}", body, "application/apply-patch+yaml"))
            )
        return made

    async def delete(self, each: Object, *, grace_s: int | None = None) -> None:
        """Delete the object, in the background with all that it owns; one that is gone is no error."""
        options: dict[str, Any] = {"propagationPolicy": "Background"}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            await self._send("DELETE", await self.path_of(each), json.dumps(options).encode(), "application/json")
        except ApiError as error:
            if error.status_code != 404:
                raise

    async def path_of(self, each: Object) -> str:
        """Return the object's path. Raises ApiError where the server knows no such kind."""
        version, kind, metadata = str(each["apiVersion"]), str(each["kind"]), each["metadata"]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if kind not in self._resources.get(version, {}):
            said = await self.get(base)
            self._resources[version] = {
                entry["kind"]: (entry["name"], entry["namespaced"])
                for entry in said["resources"]
                if "/" not in entry["name"]
            }
        if kind not in self._resources[version]:
            raise ApiError(f"{kind} {metadata['name']}", 404, "NotFound", f"{version} has no such kind on this cluster")
        name, namespaced = self._resources[version][kind]
        middle = f"/namespaces/{metadata.get('namespace', 'default')}" if namespaced else ""
        return f"{base}{middle}/{name}/{metadata['name']}"

    async def _send(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        doing = f"{method} {path.partition('?')[0]}"
        headers = {} if body is None else {"Content-Type": kind}
        try:
            answer = await self._http.request(method, path, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise ApiError(
                doing, 0, "", f"the API server cannot be reached: {error or type(error).__name__}"
            ) from error
        if answer.is_success:
            return answer.content
        try:
            status = cast("dict[str, Any]", answer.json())
            reason, message = str(status.get("reason", "")), str(status.get("message", ""))
        except (ValueError, AttributeError):
            reason, message = "", answer.text[:_BODY_LIMIT]
        raise ApiError(doing, answer.status_code, reason, message)


async def wait_until(check: Callable[[], Awaitable[bool]], *, what: str, deadline_s: float) -> None:
    """
    Ask `check` until it says True; an ApiError means not yet.

    Raises ClusterError at the deadline, with the last ApiError.
    """
    limit = time.monotonic() + deadline_s
    last: ApiError | None = None
    while True:
        try:
            if await check():
                return
        except ApiError as error:
            last = error
        if time.monotonic() >= limit:
            why = f": {last}" if last is not None else ""
            raise ClusterError(f"{what} was not there after {deadline_s:g} s{why}")
        await asyncio.sleep(_POLL_S)
