"""Taking secrets out of what is logged: those that are configured, wherever they stand, and what looks like one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlsplit

import msgspec

from router.settings import Secret, environment_with
from seawall.config_file import read_config

__all__ = ["Redaction", "redaction_for", "secrets_in", "secrets_of"]

HIDDEN = "***"
_SHORTEST = 5
"""A shorter secret is no secret, and hiding it would garble every other word."""
_NAMES = re.compile(r"(?i)authorization|api[-_]?key|token$|secret|passw|cookie|master_key$|^[A-Z0-9_]*_HEADERS$")
_SETTINGS = re.compile(r"(?:_KEY|_KEYS|_TOKEN|_SECRET|_PASSWORD|_HEADERS)$")
_PATTERNS = (
    (re.compile(r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?)(?:[a-z]+\s+)?[^\s\"',;]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',;]+"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s\"']*@"), rf"\1{HIDDEN}@"),
    (re.compile(r"(?i)([?&](?:key|token|api_key|access_token)=)[^&\s\"']+"), rf"\1{HIDDEN}"),
)


class Redaction:
    """
    A processor of structlog that takes `secrets` out of every value, at any depth, and whole values by their name.

    What looks like a secret goes too: what follows `Authorization`, `Bearer` or `Basic`, and user info in URLs.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets for form in (secret, quote(secret, safe="")) if len(secret) >= _SHORTEST}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        """Return the event without secrets."""
        del logger, method
        return {key: self._value(value, key) for key, value in event.items()}

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text

    def _value(self, value: Any, key: str = "") -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if _NAMES.search(key):
            return HIDDEN
        if isinstance(value, Mapping):
            pairs = cast("Mapping[Any, Any]", value).items()
            return {self.text(str(name)): self._value(each, str(name)) for name, each in pairs}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value(each) for each in cast("Iterable[Any]", value)]
        if isinstance(value, bytes | bytearray):
            return self.text(value.decode("utf-8", "replace"))
        return self.text(str(value))


def redaction_for(config: Path | None, *settings: Any) -> Redaction:
    """Return what takes out the secrets of settings, of the environment, of `.env` and of the configuration file."""
    said = environment_with(None, Path(".env"))
    file = config or (Path(said["SEAWALL_CONFIG"]) if said.get("SEAWALL_CONFIG") else None)
    found = secrets_of(list(settings)) | secrets_in(said)
    return Redaction(found if file is None else found | secrets_in(read_config(file).gateway))


def secrets_of(value: Any) -> set[str]:
    """Return what every Secret in some settings says, at any depth, and the passwords of URLs."""
    if isinstance(value, Secret):
        return {value.reveal()} if value else set()
    if isinstance(value, str):
        return _password(value)
    if isinstance(value, msgspec.Struct):
        value = [getattr(value, name) for name in value.__struct_fields__]
    elif isinstance(value, Mapping):
        value = list(cast("Mapping[Any, Any]", value).values())
    if isinstance(value, list | tuple | set | frozenset):
        return set[str]().union(*map(secrets_of, cast("Iterable[Any]", value)))
    return set()


def secrets_in(variables: Mapping[str, Any]) -> set[str]:
    """Return the secrets among environment variables: by the variables' names, and the passwords of URLs."""
    found: set[str] = set()
    for name, value in variables.items():
        if not _SETTINGS.search(name.upper()) or name.upper() in ("TLS_KEY", "SSL_KEY"):
            found |= _password(value) if isinstance(value, str) else set()
            continue
        words = cast("list[Any]", value) if isinstance(value, list) else str(value or "").split(",")
        found |= {str(word).strip() for word in words}
        if name.upper().endswith("_HEADERS"):
            found |= {str(word).partition("=")[2].strip() for word in words}
    return {secret for secret in found if len(secret) >= _SHORTEST}


def _password(url: str) -> set[str]:
    try:
        told = urlsplit(url).password if "://" in url else None
    except ValueError:
        return set()
    return {told} if told else set()
