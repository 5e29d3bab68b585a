"""
Stand-ins for what a gateway talks to beside the providers: a collector of traces, and a service that keeps keys.

Each is a port of the emulators' process, with the ping route that proves a fault of the wire.
"""

from __future__ import annotations

import base64
import os
import re
from typing import Any

import msgspec

from seawall.emulators.connection import Connection
from seawall.emulators.pings import PingLog
from seawall.emulators.station import answer_ping
from seawall.emulators.wire import HttpRequest, Reply, reply_json

__all__ = ["PARTS", "PartStation"]

_ROUTE = re.compile(r"/v1/transit/(keys|encrypt|decrypt)/([\w-]+)(/config)?")
_NONCE_BYTES = 12


class PartStation:
    """Serves one part, by its name in PARTS. Its `pings` are the last ones."""

    def __init__(self, name: str) -> None:
        self.pings = PingLog()
        self._reply = PARTS[name]()

    async def handle(self, request: HttpRequest, connection: Connection) -> None:
        """Answer one request."""
        if not await answer_ping(self.pings, request, connection):
            await connection.reply(self._reply(request))


class _Collector:
    """Takes every batch of spans by OTLP over HTTP, and keeps none."""

    def __call__(self, request: HttpRequest) -> Reply:
        if (request.method, request.path) != ("POST", "/v1/traces"):
            return Reply(status=404, body=b"", headers=())
        return Reply(status=200, body=b"", headers=(("content-type", "application/x-protobuf"),))


class _KeyService:
    """
    As much of Vault's transit engine as a gateway needs to seal and to read: keys, encrypt, decrypt.

    It takes any token; the keys are gone with the process.
    """

    def __init__(self) -> None:
        self._keys: dict[str, Any] = {}

    def __call__(self, request: HttpRequest) -> Reply:
        found = _ROUTE.fullmatch(request.path)
        if found is None or request.method not in ("POST", "PUT"):
            return reply_json(404, {"errors": ["no handler for route"]})
        kind, name, of_key = found.groups()
        try:
            if kind == "keys":
                self._key(name, makes=of_key is None)
                return Reply(status=204, body=b"", headers=())
            told = msgspec.json.decode(request.body, type=dict[str, Any])
            if kind == "encrypt":
                nonce = os.urandom(_NONCE_BYTES)
                sealed = nonce + self._key(name).encrypt(nonce, base64.b64decode(told["plaintext"]), None)
                return reply_json(200, {"data": {"ciphertext": f"vault:v1:{base64.b64encode(sealed).decode()}"}})
            sealed = base64.b64decode(told["ciphertext"].removeprefix("vault:v1:"))
            plain = self._key(name).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
            return reply_json(200, {"data": {"plaintext": base64.b64encode(plain).decode()}})
        except LookupError:
            return reply_json(400, {"errors": ["encryption key not found"]})
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it is the caller's
            return reply_json(400, {"errors": ["the request cannot be read, or was not sealed here"]})

    def _key(self, name: str, *, makes: bool = False) -> Any:
        if makes and name not in self._keys:
            # Only runs with transcripts need the package.
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

            self._keys[name] = AESGCM(AESGCM.generate_key(256))
        return self._keys[name]


PARTS: dict[str, Any] = {"collector": _Collector, "key_service": _KeyService}
"""What can be stood in for, by the word that faults are aimed with."""
