"""Asking a server that the user names for its version, in a few bytes and without a client library."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

__all__ = ["ProbeFailed", "redis_version", "toxiproxy_version"]

_TIMEOUT_S = 3.0
_ANSWER_LIMIT = 64 * 1024
_REDIS_VERSION = re.compile(rb"\$7\r\nversion\r\n\$\d+\r\n(\d+\.\d+(?:\.\d+)*)[^\r]*\r\n")


class ProbeFailed(Exception):
    """The server is not reachable, or is not what it should be. The message holds no secret."""


def toxiproxy_version(url: str) -> str:
    """Return the version of the Toxiproxy server at `http://host:port`. Raises ProbeFailed."""
    parts = _split(url, ("http", "https"))
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/version", headers={"User-Agent": "seawall"})
        answer = connection.getresponse()
        body = answer.read(_ANSWER_LIMIT)
    except (OSError, http.client.HTTPException) as error:
        raise ProbeFailed(f"cannot be reached: {error}") from error
    finally:
        connection.close()
    try:
        told: Any = json.loads(body)
        version = str(told["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ProbeFailed(f"does not answer like Toxiproxy (GET /version: HTTP {answer.status})") from error
    found = re.search(r"\d+\.\d+(?:\.\d+)*", version)
    if found is None:
        raise ProbeFailed(f"tells no version that we know: {version[:40]!r}")
    return found[0]


def redis_version(url: str) -> str:
    """Return the version of the server at `redis://` or `rediss://[user:password@]host:port`. Raises ProbeFailed."""
    parts = _split(url, ("redis", "rediss"))
    words = ["HELLO", "2"]
    if parts.password is not None:
        words += ["AUTH", unquote(parts.username or "default"), unquote(parts.password)]
    host = parts.hostname or ""
    answer = b""
    try:
        with socket.create_connection((host, parts.port or 6379), timeout=_TIMEOUT_S) as plain:
            stream = plain
            if parts.scheme == "rediss":
                stream = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
            stream.sendall(b"*%d\r\n" % len(words) + b"".join(_bulk(word) for word in words))
            while len(answer) < _ANSWER_LIMIT and not answer.startswith(b"-"):
                if found := _REDIS_VERSION.search(answer):
                    return found[1].decode()
                received = stream.recv(4096)
                if not received:
                    break
                answer += received
    except OSError as error:
        raise ProbeFailed(f"cannot be reached: {error}") from error
    said = answer.split(b"\r\n", 1)[0].decode("utf-8", "replace")
    raise ProbeFailed(f"does not answer like Redis 6 or newer: {said[:80]!r}")


def _bulk(word: str) -> bytes:
    data = word.encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)


def _split(url: str, schemes: tuple[str, ...]) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # What it quotes may be a piece of a password.
        raise ProbeFailed("cannot be read: a password in it must be percent-encoded, a port a number") from None
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise ProbeFailed(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)} and name a host")
    return parts
