"""
The admin side of an emulator process, for whoever makes its providers misbehave.

Blocking calls with a deadline of their own; needs neither the server's code nor an event loop.
"""

from __future__ import annotations

import socket
import time
from typing import TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from seawall.emulators.pings import PingRecord
from seawall.emulators.steps import Behaviour

__all__ = ["EmulatorClient", "EmulatorError"]

_DEADLINE_S = 3.0
_ANSWER_LIMIT = 4 * 1024 * 1024
_T = TypeVar("_T")


class EmulatorError(Exception):
    """The emulator cannot be reached, does not answer within the deadline, or refuses what was asked."""


class _Problem(msgspec.Struct):
    error: str = "no reason given"


class EmulatorClient:
    """
    Talks to the admin port at `admin_url`, such as `http://127.0.0.1:9000`.

    Every call ends within `deadline_s` and raises EmulatorError when it does not succeed. The token shows up neither
    in the representation nor in an error. Raises ValueError for a URL that is not `http://host:port`.
    """

    def __init__(self, admin_url: str, token: str, *, deadline_s: float = _DEADLINE_S) -> None:
        parts = urlsplit(admin_url)
        if parts.scheme != "http" or not parts.hostname or parts.port is None:
            raise ValueError("the admin URL of an emulator is http://host:port")
        if not token.isascii() or not token.isprintable():
            raise ValueError("the token has a character that no header can carry")
        self._address = (parts.hostname, parts.port)
        self._token = token
        self._deadline_s = deadline_s

    def __repr__(self) -> str:
        return f"EmulatorClient({self._where})"

    @property
    def _where(self) -> str:
        return f"http://{self._address[0]}:{self._address[1]}"

    def ping(self) -> None:
        """Make sure that the emulator is there and takes the token."""
        self._call("GET", "/ping")

    def put_behaviour(self, provider: str, behaviour: Behaviour) -> None:
        """Install a behaviour, or replace the one with the same fault id in its place. Idempotent."""
        path = f"/behaviours/{quote(provider, safe='')}/{quote(behaviour.fault_id, safe='')}"
        self._call("PUT", path, msgspec.json.encode(behaviour))

    def delete_behaviour(self, provider: str, fault_id: str) -> None:
        """Take a behaviour out. That it is not there, or was taken out before, is fine."""
        self._call("DELETE", f"/behaviours/{quote(provider, safe='')}/{quote(fault_id, safe='')}", missing_ok=True)

    def behaviours(self, provider: str) -> list[Behaviour]:
        """Return the behaviours in force, in order of installation."""
        body = self._call("GET", f"/behaviours/{quote(provider, safe='')}")
        return self._decode(body, list[Behaviour])

    def pings(self, provider: str) -> list[PingRecord]:
        """Return the last pings that a provider got, in order of arrival, each with the end of its connection."""
        return self._decode(self._call("GET", f"/pings/{quote(provider, safe='')}"), list[PingRecord])

    def _call(self, method: str, path: str, body: bytes = b"", *, missing_ok: bool = False) -> bytes:
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: {self._address[0]}:{self._address[1]}\r\n"
            f"authorization: Bearer {self._token}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        what = f"{method} {path} at {self._where}"
        try:
            received = self._exchange(head.encode() + body)
        except TimeoutError:
            raise EmulatorError(f"{what}: no answer within {self._deadline_s:g} s") from None
        except OSError as error:
            raise EmulatorError(f"{what}: {error.strerror or error}") from None
        answer_head, end, answer = received.partition(b"\r\n\r\n")
        lines = answer_head.decode("latin-1").lower().split("\r\n")
        status = lines[0][9:12]
        if not end or not status.isdecimal() or f"content-length: {len(answer)}" not in lines:
            raise EmulatorError(f"{what}: the answer is incomplete or no HTTP")
        if status == "200" or (status == "404" and missing_ok):
            return answer
        raise EmulatorError(f"{what}: refused with {status}: {self._decode(answer, _Problem).error}")

    def _exchange(self, request: bytes) -> bytes:
        """Send `request` and return all that comes back. The deadline is for the whole of it, not for each read."""
        ends_s = time.monotonic() + self._deadline_s
        received = bytearray()
        with socket.create_connection(self._address, timeout=self._deadline_s) as wire:
            wire.settimeout(_left_s(ends_s))
            wire.sendall(request)
            while len(received) <= _ANSWER_LIMIT:
                wire.settimeout(_left_s(ends_s))
                data = wire.recv(65_536)
                if not data:
                    break
                received += data
        return bytes(received)

    def _decode(self, body: bytes, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise EmulatorError(f"{self._where}: the answer makes no sense: {error}") from None


def _left_s(ends_s: float) -> float:
    left_s = ends_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
