"""
A stand-in for Vault's transit engine, over HTTP: the few routes that `seawall.erasure.vault` calls, with its own words.

It is ours and no Vault: OpenBao cannot be had from the Go module proxy. What it answers is written after Vault's API
documentation of the transit engine, and hvac, Vault's own client, speaks with it.
"""

from __future__ import annotations

import base64
import json
import os
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "the-token-of-this-test"
_ROUTE = re.compile(r"/v1/transit/(keys|encrypt|decrypt|rewrap)/([\w-]+)(?:/(config|rotate))?")


class TransitKey:
    """A named key with its versions."""

    def __init__(self) -> None:
        self.versions = [AESGCM.generate_key(256)]
        self.min_decryption_version = 1
        self.deletion_allowed = False

    def encrypt(self, plain: bytes) -> str:
        """Return `vault:v<version>:<base64>` of the latest version."""
        nonce = os.urandom(12)
        sealed = nonce + AESGCM(self.versions[-1]).encrypt(nonce, plain, None)
        return f"vault:v{len(self.versions)}:{base64.b64encode(sealed).decode()}"

    def decrypt(self, text: str) -> bytes:
        """Return what was encrypted. Raises ValueError with Vault's words."""
        _, version, blob = text.split(":")
        if int(version[1:]) < self.min_decryption_version:
            raise ValueError("ciphertext or signature version is disallowed by policy (too old)")
        sealed = base64.b64decode(blob)
        try:
            return AESGCM(self.versions[int(version[1:]) - 1]).decrypt(sealed[:12], sealed[12:], None)
        except InvalidTag:
            raise ValueError("cipher: message authentication failed") from None


class Handler(BaseHTTPRequestHandler):
    """One request."""

    keys: ClassVar[dict[str, TransitKey]] = {}
    sealed = False
    """Whether it answers everybody as a sealed Vault does."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Write; hvac says PUT or POST."""
        size = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(size) or b"{}")
        self._answer(lambda kind, name, more: self._write(kind, name, more, body))

    do_PUT = do_POST  # noqa: N815 - its base calls it so

    def do_GET(self) -> None:
        """Read a key."""
        self._answer(lambda kind, name, more: {"latest_version": len(self._key(name).versions)})

    def do_DELETE(self) -> None:
        """Delete a key."""

        def delete(_kind: str, name: str, _more: str | None) -> None:
            if name not in self.keys:
                raise ValueError(f"error deleting policy {name}: could not delete key; not found")
            if not self.keys[name].deletion_allowed:
                raise ValueError(f"error deleting policy {name}: deletion is not allowed for this key")
            del self.keys[name]

        self._answer(delete)

    def _write(self, kind: str, name: str, more: str | None, body: dict[str, Any]) -> dict[str, Any] | None:
        if kind == "keys" and more is None:
            self.keys.setdefault(name, TransitKey())
            return None
        key = self._key(name)
        if more == "config":
            key.deletion_allowed = body.get("deletion_allowed", key.deletion_allowed)
            key.min_decryption_version = body.get("min_decryption_version", key.min_decryption_version)
        elif more == "rotate":
            key.versions.append(AESGCM.generate_key(256))
        elif kind == "encrypt":
            return {"ciphertext": key.encrypt(base64.b64decode(body["plaintext"]))}
        elif kind == "decrypt":
            return {"plaintext": base64.b64encode(key.decrypt(body["ciphertext"])).decode()}
        elif kind == "rewrap":
            return {"ciphertext": key.encrypt(key.decrypt(body["ciphertext"]))}
        return None

    def _key(self, name: str) -> TransitKey:
        if name not in self.keys:
            raise ValueError("encryption key not found")
        return self.keys[name]

    def _answer(self, work: Any) -> None:
        found = _ROUTE.fullmatch(self.path)
        status, said = 200, None
        if Handler.sealed:
            status, said = 503, {"errors": ["Vault is sealed"]}
        elif self.headers.get("X-Vault-Token") != TOKEN:
            status, said = 403, {"errors": ["permission denied"]}
        elif found is None:
            status, said = 404, {"errors": ["no handler for route"]}
        else:
            try:
                data = work(found[1], found[2], found[3])
                said = None if data is None else {"data": data}
                status = 200 if said else 204
            except ValueError as error:
                status, said = 400, {"errors": [str(error)]}
        body = json.dumps(said).encode() if said is not None else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def server() -> ThreadingHTTPServer:
    """Return a server on a free loopback port, with no keys."""
    handler = type("Fresh", (Handler,), {"keys": {}})
    return ThreadingHTTPServer(("127.0.0.1", 0), handler)
