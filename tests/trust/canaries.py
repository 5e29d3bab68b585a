"""Marked secrets, and the search for them in whatever was written, in every form that they may have taken."""

from __future__ import annotations

import base64
import gzip
import json
import os
import secrets
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

__all__ = ["Canaries", "forms_of"]

_PIECE = 12
"""A piece of a secret in base64 is found by at least so many characters."""


class Canaries:
    """One unique secret a kind. What is a `control` is none: it must be found, or the search proves nothing."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.searched_bytes = 0
        self.control = f"control-{secrets.token_hex(8)}"
        self._common = f"sk-{secrets.token_hex(8)}"
        # Every key begins alike: so a few looks tell whether one of them can be there, in whatever form.
        self._signs = {forms_of(self._common)[name] for name in ("clear", "hex", "UTF-16")}
        self._signs |= {forms_of(self._common)[f"{name} +{n}"] for name in ("base64", "base64url") for n in range(3)}

    def new(self, kind: str) -> str:
        """Return a key that has everything which another form spells otherwise."""
        return self.keep(kind, f"{self._common}{secrets.token_hex(4)}/+~={secrets.token_hex(4)}")

    def keep(self, kind: str, secret: str) -> str:
        """Return a secret that is looked for from now on."""
        self.secrets[kind if kind not in self.secrets else f"{kind} {len(self.secrets)}"] = secret
        return secret

    def environment(self) -> dict[str, str]:
        """Return a secret for every variable that may hold one."""
        names = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "SEAWALL_API_KEYS", "METRICS_API_KEY")
        names += ("VAULT_TOKEN", "AWS_SECRET_ACCESS_KEY", "GRAFANA_TOKEN")
        made = {name: self.new(name) for name in names}
        master = os.urandom(32)
        made["TRANSCRIPTS_MASTER_KEY"] = self.keep("TRANSCRIPTS_MASTER_KEY", base64.b64encode(master).decode())
        made["OTEL_EXPORTER_OTLP_HEADERS"] = f"x-auth={quote(self.new('OTEL_EXPORTER_OTLP_HEADERS'), safe='')}"
        made["REDIS_URL"] = f"redis://us:{quote(self.new('REDIS_URL'), safe='')}@127.0.0.1:9/0"
        return made

    def found_in(self, data: bytes) -> list[str]:
        """Return which secrets are in some bytes, as `kind (form)`."""
        self.searched_bytes += len(data)
        found: list[str] = []
        for text in unpacked(data):
            is_possible = any(sign in text for sign in self._signs)
            for kind, secret in self.secrets.items():
                if is_possible or not secret.startswith(self._common):
                    found += [f"{kind} ({form})" for form, spelled in forms_of(secret).items() if spelled in text]
        return found

    def found_below(self, folder: Path, *, besides: Collection[Path] = ()) -> dict[str, list[str]]:
        """Return what is found by file, in files' names too; `besides` are the files of the secrets themselves."""
        told: dict[str, list[str]] = {}
        for path in sorted(folder.rglob("*")):
            found = self.found_in(str(path).encode("utf-8", "surrogateescape"))
            if path.is_file() and not path.is_symlink() and path not in besides:
                found += self.found_in(path.read_bytes())
            if found:
                told[str(path.relative_to(folder))] = found
        return told

    def holds_control(self, data: bytes) -> bool:
        """Say whether what must be there is."""
        return any(self.control.encode() in text for text in unpacked(data))


def unpacked(data: bytes) -> Iterator[bytes]:
    """Yield some bytes as they are, and unpacked where they were packed."""
    yield data
    if data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    elif data[:1] == b"\x78":
        with suppress(zlib.error):
            yield zlib.decompress(data)


def forms_of(secret: str) -> dict[str, bytes]:
    """Return how a secret may be spelled: in the clear, in URLs, in JSON, in HTML, in hexadecimal, in base64."""
    raw = secret.encode()
    forms = {
        "clear": raw,
        "URL": quote(secret, safe="").encode(),
        "URL, / left": quote(secret).encode(),
        "form": quote_plus(secret).encode(),
        "JSON": json.dumps(secret)[1:-1].replace("/", "\\/").encode(),
        "JSON in JSON": json.dumps(secret.replace("/", "\\/"))[1:-1].encode(),
        "HTML": secret.replace("+", "&#43;").replace("=", "&#61;").encode(),
        "hex": raw.hex().encode(),
        "UTF-16": secret.encode("utf-16-le"),
    }
    for shift in range(3):
        # Whatever stands before it: only the characters that depend on the secret alone.
        for name, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
            piece = encode(b"\0" * shift + raw).rstrip(b"=")[4 if shift else 0 : -2]
            assert len(piece) >= _PIECE
            forms[f"{name} +{shift}"] = piece
    return forms
