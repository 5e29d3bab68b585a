"""
A Toxiproxy server's API, spoken through `toxiproxy-python` with its defects mended.

That library keeps host and port on a class, gives no call a timeout, raises for three statuses only, cannot update a
toxic, and hands everything to `requests`, which reads proxy variables and follows redirects. Toxiproxy in turn accepts
`latncy: 5` with 200 and does nothing. Here every server is an instance, every call has a deadline, everything but a
2xx raises with the server's words, and what was set is read back.

    FaultError
    └── ToxiproxyError     the server refused, did not answer in time (`timed_out`), or is no more (`gone`)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
import requests
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from faults.addresses import is_ambiguous, is_loopback
from faults.base import FaultError, Undo

__all__ = ["CALL_DEADLINE_S", "ProxyInfo", "Removal", "Stream", "ToxicInfo", "Toxiproxy", "ToxiproxyError"]

CALL_DEADLINE_S = 3.0
"""How long one call may take, in seconds, connecting included."""

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
_LIBRARY_STATUS = {ProxyExists: 409, NotFound: 404, InvalidToxic: 400}
# `requests` would otherwise send loopback calls to whatever http_proxy names.
_NO_PROXIES = {"http": None, "https": None, "all": None}

Stream = Literal["downstream", "upstream"]
Removal = Literal["removed", "absent"]
"""What a deletion came to."""


class ToxiproxyError(FaultError):
    """
    A call to Toxiproxy failed. `status` is the HTTP status or None, `words` what the server said.

    `gone`: the connection was refused, so no server is there (and with it all proxies and toxics, which live in its
    memory). `timed_out`: it did not answer within the deadline and may yet carry the call out.
    """

    def __init__(
        self, message: str, *, status: int | None = None, words: str = "", gone: bool = False, timed_out: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.words = words
        self.gone = gone
        self.timed_out = timed_out


class ToxicInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A toxic as the server has it. Attributes by Toxiproxy's own names."""

    name: str
    type: str
    stream: Stream
    toxicity: float
    attributes: dict[str, Any]


class ProxyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy as the server has it. `listen` and `upstream` are `host:port`."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: tuple[ToxicInfo, ...] = ()

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect, as (host, port)."""
        return _address(self.listen)

    @property
    def upstream_address(self) -> tuple[str, int]:
        """Where it leads to, as (host, port)."""
        return _address(self.upstream)


class Toxiproxy:
    """
    One Toxiproxy server, by the URL of its API. Calls block, each at most `deadline_s` seconds.

    Raises FaultError for a URL that is not plain http, or not loopback unless `allow_remote` is set. Every method
    raises ToxiproxyError; threads may share an instance.
    """

    def __init__(self, url: str, *, deadline_s: float = CALL_DEADLINE_S, allow_remote: bool = False) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 8474
        except ValueError as error:
            raise FaultError(f"{url!r} is no URL: {error}") from error
        if parts.scheme != "http" or not host or is_ambiguous(url) or parts.path not in {"", "/"}:
            raise FaultError(f"{url!r} is no address of a Toxiproxy API; write it as http://127.0.0.1:8474")
        if not allow_remote and not is_loopback(host):
            raise FaultError(f"Toxiproxy at {url} is not on this machine; name the target on the command line to allow")
        self.url = url.rstrip("/")
        self.deadline_s = deadline_s
        self.allow_remote = allow_remote
        connect_s = min(1.0, deadline_s / 3)
        self._timeout = (connect_s, deadline_s - connect_s)
        # The library reads host and port from the class: so each instance gets a class of its own.
        place = {"host": f"[{host}]" if ":" in host else host, "port": port}
        self._consumer: Any = type("Consumer", (APIConsumer,), place)

    @classmethod
    def of(cls, record: Undo, *, deadline_s: float) -> Toxiproxy:
        """Return the server that an undo record names (`url`, and `allow_remote` where that was granted)."""
        return cls(
            record.arguments["url"], deadline_s=deadline_s, allow_remote=record.arguments.get("allow_remote", False)
        )

    def version(self) -> str:
        """Return the server's version, such as `2.12.0`."""
        return self._decode(self._call("version", self._consumer.get, "/version"), dict[str, str]).get(
            "version", "unknown"
        )

    def proxies(self) -> dict[str, ProxyInfo]:
        """Return all proxies of the server by name, with their toxics; somebody else's too."""
        return self._decode(self._call("list of proxies", self._consumer.get, "/proxies"), dict[str, ProxyInfo])

    def proxy(self, name: str) -> ProxyInfo | None:
        """Return one proxy with its toxics, or None when there is none of that name."""
        try:
            answer = self._call(f"proxy {name}", self._consumer.get, f"/proxies/{_checked(name)}")
        except ToxiproxyError as error:
            if error.status == 404:
                return None
            raise
        return self._decode(answer, ProxyInfo)

    def create_proxy(self, name: str, upstream: str, listen: str = "127.0.0.1:0") -> ProxyInfo:
        """Create an enabled proxy to `upstream` (`host:port`); port 0 in `listen` lets the server choose."""
        body = {"name": _checked(name), "upstream": upstream, "listen": listen, "enabled": True}
        answer = self._call(f"creation of proxy {name}", self._consumer.post, "/proxies", json=body)
        made = self._decode(answer, ProxyInfo)
        # Traffic goes where it says that it listens: it must not lead it to another machine.
        asked_host, asked_port = _address(listen)
        moved = made.address[0] != asked_host or asked_port not in (0, made.address[1])
        if not made.enabled or made.upstream != upstream or moved:
            raise ToxiproxyError(f"Toxiproxy at {self.url} made proxy {name} otherwise than asked: {made}")
        return made

    def set_enabled(self, name: str, enabled: bool) -> ProxyInfo:
        """Let the proxy listen, or drop its connections and refuse new ones. Read back."""
        what = f"{'enabling' if enabled else 'disabling'} of proxy {name}"
        # POST is the old word for PATCH; every version 2 takes it.
        answer = self._call(what, self._consumer.post, f"/proxies/{_checked(name)}", json={"enabled": enabled})
        made = self._decode(answer, ProxyInfo)
        if made.enabled is not enabled:
            raise ToxiproxyError(f"Toxiproxy at {self.url} ignored the {what}", words=str(answer))
        return made

    def require_upstream(self, name: str, upstream: str) -> None:
        """Raise ToxiproxyError unless the proxy leads to `upstream`: one that does not is somebody else's."""
        found = self.proxy(name)
        if found is None or found.upstream != upstream:
            leads = "is not there" if found is None else f"leads to {found.upstream}, not to {upstream}"
            raise ToxiproxyError(f"proxy {name} at {self.url} {leads}; it is not ours, and nothing is done to it")

    def delete_proxy(self, name: str) -> Removal:
        """Delete a proxy; that there is none is fine."""
        try:
            self._call(f"deletion of proxy {name}", self._consumer.delete, f"/proxies/{_checked(name)}")
        except ToxiproxyError as error:
            if error.status == 404:
                return "absent"
            raise
        return "removed"

    def add_toxic(
        self,
        proxy: str,
        name: str,
        type: str,  # noqa: A002 - Toxiproxy's own word
        stream: Stream = "downstream",
        toxicity: float = 1.0,
        attributes: Mapping[str, int] | None = None,
    ) -> ToxicInfo:
        """
        Add a toxic and read it back.

        Takes it off again and raises when the server ignored or changed anything, a misspelt attribute above all.
        """
        wanted = dict(attributes or {})
        if not 0 < toxicity <= 1:
            raise ToxiproxyError(f"toxicity of toxic {name} is {toxicity}; it is a share above 0, at most 1")
        body = {"name": _checked(name), "type": type, "stream": stream, "toxicity": toxicity, "attributes": wanted}
        path = f"/proxies/{_checked(proxy)}/toxics"
        self._call(f"toxic {name} on proxy {proxy}", self._consumer.post, path, json=body)
        asked = ToxicInfo(name=name, type=type, stream=stream, toxicity=toxicity, attributes=wanted)
        try:
            return self._read_back(proxy, asked)
        except ToxiproxyError:
            self.delete_toxic(proxy, name)
            raise

    def update_toxic(
        self, proxy: str, name: str, *, toxicity: float | None = None, attributes: Mapping[str, int] | None = None
    ) -> ToxicInfo:
        """Change toxicity or some attributes of a toxic in force and read it back; what is not named stays."""
        before = self.toxic(proxy, name)
        if before is None:
            raise ToxiproxyError(f"proxy {proxy} has no toxic {name} to update", status=404)
        asked = msgspec.structs.replace(
            before,
            toxicity=before.toxicity if toxicity is None else toxicity,
            attributes={**before.attributes, **(attributes or {})},
        )
        if not 0 < asked.toxicity <= 1:
            raise ToxiproxyError(f"toxicity of toxic {name} is {toxicity}; it is a share above 0, at most 1")
        body = {"toxicity": asked.toxicity, "attributes": asked.attributes}
        path = f"/proxies/{_checked(proxy)}/toxics/{_checked(name)}"
        self._call(f"update of toxic {name} on proxy {proxy}", self._consumer.post, path, json=body)
        return self._read_back(proxy, asked)

    def toxic(self, proxy: str, name: str) -> ToxicInfo | None:
        """Return one toxic as the server has it, or None when it or its proxy is not there."""
        try:
            path = f"/proxies/{_checked(proxy)}/toxics/{_checked(name)}"
            answer = self._call(f"toxic {name} of proxy {proxy}", self._consumer.get, path)
        except ToxiproxyError as error:
            if error.status == 404:
                return None
            raise
        return self._decode(answer, ToxicInfo)

    def delete_toxic(self, proxy: str, name: str) -> Removal:
        """Delete a toxic; that there is none is fine. A call that hangs is for `faults.hung` to deal with."""
        path = f"/proxies/{_checked(proxy)}/toxics/{_checked(name)}"
        try:
            self._call(f"deletion of toxic {name} on proxy {proxy}", self._consumer.delete, path)
        except ToxiproxyError as error:
            if error.status == 404:
                return "absent"
            raise
        return "removed"

    def _read_back(self, proxy: str, asked: ToxicInfo) -> ToxicInfo:
        found = self.toxic(proxy, asked.name)
        if found is None:
            raise ToxiproxyError(f"Toxiproxy at {self.url} took toxic {asked.name} on proxy {proxy} but has it not")
        wrong = [
            f"attribute {key} ignored (it has {', '.join(sorted(found.attributes)) or 'none'})"
            if key not in found.attributes
            else f"attribute {key} is {found.attributes[key]}, not {value}"
            for key, value in sorted(asked.attributes.items())
            if found.attributes.get(key) != value
        ]
        wrong += [
            f"{field} is {getattr(found, field)}, not {getattr(asked, field)}"
            for field in ("type", "stream")
            if getattr(found, field) != getattr(asked, field)
        ]
        if abs(found.toxicity - asked.toxicity) > 1e-6:  # the server keeps 32 bits of it
            wrong.append(f"toxicity is {found.toxicity}, not {asked.toxicity}")
        if wrong:
            raise ToxiproxyError(f"toxic {asked.name} ({asked.type}) on proxy {proxy}: {'; '.join(wrong)}")
        return found

    def _decode(self, values: Any, kind: Any) -> Any:
        try:
            return msgspec.convert(values, kind)
        except msgspec.ValidationError as error:
            raise ToxiproxyError(f"{self.url} does not answer like a Toxiproxy: {error}") from error

    def _call(self, what: str, verb: Callable[..., Any], path: str, **arguments: Any) -> Any:
        where = f"Toxiproxy at {self.url}: {what}"
        try:
            answer = verb(path, timeout=self._timeout, proxies=_NO_PROXIES, allow_redirects=False, **arguments)
            status, words = answer.status_code, answer.text.strip()
        except (ProxyExists, NotFound, InvalidToxic) as error:
            content = error.args[0] if error.args else b""
            words = content.decode(errors="replace").strip() if isinstance(content, bytes) else str(content)
            status = _LIBRARY_STATUS[type(error)]
            raise ToxiproxyError(f"{where} answered {status}: {words}", status=status, words=words) from error
        except requests.RequestException as error:
            if any(isinstance(link, ConnectionRefusedError) for link in _chain(error)):
                raise ToxiproxyError(f"{where}: nobody listens there", gone=True) from error
            if isinstance(error, requests.Timeout) or any(isinstance(link, TimeoutError) for link in _chain(error)):
                message = f"{where}: no answer within {self.deadline_s:g} s"
                raise ToxiproxyError(message, timed_out=True) from error
            raise ToxiproxyError(f"{where}: {error}") from error
        if status == 503 and "Timeout" in words:  # the server's own patience, 30 s, has ended
            raise ToxiproxyError(f"{where}: the server itself gave up waiting", status=status, timed_out=True)
        if not 200 <= status < 300:
            raise ToxiproxyError(f"{where} answered {status}: {words[:300]}", status=status, words=words)
        try:
            return msgspec.json.decode(words) if words else {}
        except msgspec.DecodeError as error:
            message = f"{where}: the answer is no JSON, so no Toxiproxy is there: {words[:80]!r}"
            raise ToxiproxyError(message, status=status, words=words) from error


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _checked(name: str) -> str:
    # Toxiproxy takes a name with a slash and can then never delete it: its router does not find the path.
    if not _NAME.match(name):
        raise ToxiproxyError(f"{name!r} is no name for a proxy or toxic; letters, digits, dot, dash, underscore")
    return name


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__
