"""
The Kubernetes API as faults and the cluster arena use it: the official client, and plain dicts as in a manifest.

The client is imported when it is first needed: its models take a second, and most runs have no cluster.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from faults.base import FaultError

__all__ = ["KubernetesApi", "KubernetesError"]

MANAGER = "seawall"
"""The field manager of what is applied."""
_TIMEOUT_S = 10.0
_TYPES = {
    "apply": "application/apply-patch+yaml",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}

Object = dict[str, Any]


class KubernetesError(FaultError):
    """The API server refused. `status` is the HTTP status, 0 when it was not reached; `reason` Kubernetes' own word."""

    def __init__(self, doing: str, status: int, reason: str, message: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"{doing}: {message}" if not status else f"{doing}: HTTP {status} {reason}: {message}")


class KubernetesApi(msgspec.Struct, frozen=True, kw_only=True):
    """
    A cluster: a kubeconfig and a context in it. Calls block and raise KubernetesError; threads may share it.

    `is_local`: it is a cluster of ours that ends with its processes, so one that cannot be reached is gone.
    """

    kubeconfig: str
    context: str
    is_local: bool = False

    def get(self, path: str) -> Object:
        """Return the object or list at `path`."""
        return self._send("GET", path)

    def find(self, path: str) -> Object | None:
        """Return the object at `path`, None where there is none."""
        try:
            return self._send("GET", path)
        except KubernetesError as error:
            if error.status == 404:
                return None
            raise

    def apply(self, each: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """Apply an object on the server's side; with `dry_run` everything is checked and nothing kept."""
        query = [("fieldManager", MANAGER), ("force", "true"), ("fieldValidation", "Strict")]
        query += [("dryRun", "All")] if dry_run else []
        return self._send("PATCH", self.path_of(each), dict(each), query=query, kind="apply")

    def patch(self, path: str, change: Mapping[str, Any], *, strategic: bool = False) -> Object:
        """Change an object by a merge patch."""
        return self._send("PATCH", path, dict(change), kind="strategic" if strategic else "merge")

    def delete(self, path: str) -> None:
        """Delete an object with all that it owns, in the background; one that is gone is no error."""
        try:
            self._send("DELETE", path, {"propagationPolicy": "Background"})
        except KubernetesError as error:
            if error.status != 404:
                raise

    def path_of(self, each: Mapping[str, Any]) -> str:
        """Return the path of an object. Raises KubernetesError where the server knows no such kind."""
        version, kind, metadata = str(each["apiVersion"]), str(each["kind"]), each["metadata"]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        known = _kinds(self, base)
        if kind not in known:
            message = f"{version} has no such kind on this cluster"
            raise KubernetesError(f"{kind} {metadata['name']}", 404, "NotFound", message)
        plural, is_namespaced = known[kind]
        middle = f"/namespaces/{metadata.get('namespace', 'default')}" if is_namespaced else ""
        return f"{base}{middle}/{plural}/{metadata['name']}"

    def _send(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: list[tuple[str, str]] | None = None,
        kind: str | None = None,
    ) -> Object:
        from kubernetes.client.exceptions import ApiException  # noqa: PLC0415 - see above
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        client = _client(self.kubeconfig, self.context)
        headers = {"Accept": "application/json", "User-Agent": "seawall"}
        headers["Content-Type"] = _TYPES[kind] if kind is not None else "application/json"
        path, _, more = path.partition("?")
        found = [("", "")] if not more else [cast("tuple[str, str]", tuple(p.split("=", 1))) for p in more.split("&")]
        asked = [*(pair for pair in found if pair[0]), *(query or [])]
        doing = f"{method} {path}"
        try:
            answer = client.call_api(
                path,
                method,
                query_params=asked,
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=_TIMEOUT_S,
            )
            return cast("Object", json.loads(answer.data or b"{}"))
        except ApiException as error:
            said = _said(error.body)
            status = int(error.status or 0)
            message = str(said.get("message") or error.reason or "no answer")
            raise KubernetesError(doing, status, str(said.get("reason", "")), message) from error
        except (HTTPError, OSError, ValueError) as error:
            raise KubernetesError(doing, 0, "", f"the API server cannot be reached: {error}") from error


@functools.lru_cache(maxsize=8)
def _client(kubeconfig: str, context: str) -> Any:
    from kubernetes import config  # noqa: PLC0415 - see above
    from kubernetes.client import Configuration  # noqa: PLC0415
    from kubernetes.config.config_exception import ConfigException  # noqa: PLC0415

    settings: Any = Configuration()
    settings.retries = False
    try:
        return config.new_client_from_config(
            config_file=kubeconfig, context=context, persist_config=False, client_configuration=settings
        )
    except (ConfigException, OSError, TypeError, ValueError) as error:
        raise KubernetesError(f"kubeconfig {kubeconfig}, context {context}", 0, "", str(error)) from error


@functools.lru_cache(maxsize=64)
def _kinds(api: KubernetesApi, base: str) -> dict[str, tuple[str, bool]]:
    """Return the kinds of an API version: plural, and whether they are in namespaces."""
    said = api.get(base)
    return {
        entry["kind"]: (entry["name"], bool(entry["namespaced"]))
        for entry in said["resources"]
        if "/" not in entry["name"]
    }


def _said(body: Any) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
