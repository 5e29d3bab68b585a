"""Settings of the gateway itself; the router's are in `router.settings`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from router.errors import ConfigurationError
from router.settings import Secret, environment_with, parse_seconds
from seawall.config_file import read_config
from seawall.gateway.clients import ClientLimits
from seawall.gateway.values import header_name, one_of, secret, text, words
from seawall.transports import NAMES as TRANSPORTS

__all__ = ["NAMES", "GatewaySettings"]

_DOWN = ("closed", "open")
_KEYS = ("local", "kms", "vault")
_LEVELS = ("debug", "info", "warning", "error", "off")
_FORMATS = ("text", "json")
_REQUESTS = ("all", "errors", "none")
_TIME = "a time from 0.1 to 3600 s, such as 60 or 500ms"


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the gateway takes requests."""

    api_key_sha256: tuple[str, ...] = ()
    """SHA-256 of every accepted API key, in hex; none: no key is asked for."""
    metrics_key_sha256: tuple[str, ...] = ()
    """SHA-256 of the key that opens `/metrics` and nothing else."""
    body_bytes_max: int = 4 * 1024 * 1024
    """The longest request body."""
    bodies_bytes_max: int = 512 * 1024 * 1024
    """Bytes of request bodies that are held at one time; beyond them requests get 503."""
    head_bytes_max: int = 64 * 1024
    """The longest head of a request."""
    connections_max: int = 8192
    """Connections of clients at one time; for one more, that which has waited longest for a request is closed."""
    client_idle_s: float = 60.0
    """How long a client's connection may wait for its first or next request."""
    client_send_s: float = 60.0
    """How long a client may take to send a request."""
    client_read_s: float = 60.0
    """How long a client may read nothing of an answer that waits for it."""
    drain_delay_s: float = 0.2
    """How long a stopping gateway goes on listening while `/readyz` says 503 already."""
    drain_timeout_s: float = 30.0
    """How long a stopping gateway waits for answers under way, after the delay."""
    transport: str = "auto"
    """What calls the providers: `httptools`, `pyreqwest`, `httpx`, or `auto`, the first of these that is installed."""
    tls_cert: str = ""
    """The gateway's certificate, a PEM file with its chain; with TLS_KEY the gateway speaks TLS. See `tls.py`."""
    tls_key: str = ""
    """The key of TLS_CERT, a PEM file."""
    tls_client_ca: str = ""
    """CA certificates, a PEM file; clients must then show a certificate of one of them."""
    tls_crl: str = ""
    """The list of revoked client certificates, a PEM file."""
    tls_client_names: tuple[str, ...] = ()
    """Which names (CN or SAN) of client certificates may call; none: every client of the CA."""
    transcripts: str = ""
    """The SQLite file that keeps sealed transcripts; empty: none are kept. See `seawall.erasure`."""
    transcripts_header: str = "x-seawall-subject"
    """The header that says whose conversation a request is part of; without it the request's `user` does."""
    transcripts_down: str = "closed"
    """When a transcript cannot be sealed and kept: `closed` fails the request, `open` answers it unrecorded."""
    transcripts_keys: str = "local"
    """What wraps the subjects' data keys: `local` (a master key of ours), `kms` or `vault`."""
    transcripts_key_store: str = ""
    """The SQLite file of the wrapped data keys, in another folder than TRANSCRIPTS; no backup may hold it."""
    transcripts_master_key: Secret = Secret("")
    """Of `local`: the master key, 32 bytes in base64; while it is being changed: the new one, a comma, the old one."""
    transcripts_master_key_file: str = ""
    """Of `local`: a file with the master key, in place of TRANSCRIPTS_MASTER_KEY; `seawall keys init` makes it."""
    transcripts_kms_key: str = ""
    """Of `kms`: the id, ARN or alias of the AWS KMS key; AWS's own variables say where and who."""
    transcripts_vault_mount: str = "transit"
    """Of `vault`: where the transit engine is mounted; VAULT_ADDR and VAULT_TOKEN say where and who."""

    log_level: str = "warning"
    """The least that is logged of events: `debug`, `info`, `warning`, `error`, or `off`. See `logs.py`."""
    log_format: str = "text"
    """Lines of `text`, or of `json`."""
    log_requests: str = "errors"
    """Which requests have a line at their end: `all`, `errors` or `none`."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> GatewaySettings:
        """Return the settings of the environment (default: the process's, with `.env` and SEAWALL_CONFIG)."""
        return cls.load(None, environment, dotenv=Path(".env") if environment is None else None)

    def clients(self) -> ClientLimits:
        """Return what clients may take."""
        return ClientLimits(
            head_bytes_max=self.head_bytes_max,
            bodies_bytes_max=self.bodies_bytes_max,
            connections_max=self.connections_max,
            idle_s=self.client_idle_s,
            send_s=self.client_send_s,
            read_s=self.client_read_s,
        )

    @classmethod
    def load(
        cls,
        path: Path | None,
        environment: Mapping[str, str] | None = None,
        *,
        dotenv: Path | None = Path(".env"),
    ) -> GatewaySettings:
        """
        Return the settings of a YAML file's section `gateway` (None: of the file that SEAWALL_CONFIG names), `.env` and
        the environment, by the names in NAMES.

        The environment wins over `.env`, and that over the file. Raises ConfigurationError with every violation.
        """
        values: dict[str, object] = {}
        said = environment_with(environment, dotenv)
        file = path or (Path(said["SEAWALL_CONFIG"]) if said.get("SEAWALL_CONFIG") else None)
        problems: list[str] = []
        section: Mapping[str, object] = read_config(file).gateway if file is not None else {}
        for name, value in ((str(key), value) for key, value in section.items()):
            if name.upper() not in NAMES:
                problems.append(f"{file}: gateway.{name} is not a setting; known are {', '.join(NAMES).lower()}")
            values[name.upper()] = value
        values.update({name: said[name] for name in NAMES if name in said})
        fields: dict[str, Any] = {}
        for name, value in values.items():
            if name not in NAMES:
                continue
            field, parse, wanted = _PARSERS[name]
            try:
                fields[field] = parse(value)
            except (ValueError, TypeError):
                problems.append(f"{name} is {value!r}; it must be {wanted}")
        if problems:
            raise ConfigurationError(*problems)
        return cls(**fields)


def _hashes(value: object) -> tuple[str, ...]:
    """Return the hashes of keys that are written with commas between, or as a list."""
    keys = [str(key) for key in cast("list[object]", value)] if isinstance(value, list) else str(value or "").split(",")
    return tuple(hashlib.sha256(key.strip().encode()).hexdigest() for key in keys if key.strip())


def _size(value: object) -> int:
    if not 1024 <= (size := int(str(value))) <= 2**30:
        raise ValueError
    return size


def _seconds(value: object) -> float:
    if not 0 <= (seconds := parse_seconds(value)) <= 3600:
        raise ValueError
    return seconds


def _wait(value: object) -> float:
    if not 0.1 <= (seconds := parse_seconds(value)) <= 3600:
        raise ValueError
    return seconds


def _connections(value: object) -> int:
    if not 1 <= (number := int(str(value))) <= 1_000_000:
        raise ValueError
    return number


def _transport(value: object) -> str:
    if value not in TRANSPORTS:
        raise ValueError
    return str(value)


# Variable → the field, how its value is read (raises ValueError), and what it must be.
_PARSERS: dict[str, tuple[str, Callable[[object], object], str]] = {
    "SEAWALL_API_KEYS": ("api_key_sha256", _hashes, "keys with commas between"),
    "METRICS_API_KEY": ("metrics_key_sha256", _hashes, "a key"),
    "BODY_BYTES_MAX": ("body_bytes_max", _size, f"a number from 1024 to {2**30}"),
    "BODIES_BYTES_MAX": ("bodies_bytes_max", _size, f"a number from 1024 to {2**30}"),
    "HEAD_BYTES_MAX": ("head_bytes_max", _size, f"a number from 1024 to {2**30}"),
    "CONNECTIONS_MAX": ("connections_max", _connections, "a number from 1 to 1000000"),
    "CLIENT_IDLE_TIMEOUT": ("client_idle_s", _wait, _TIME),
    "CLIENT_SEND_TIMEOUT": ("client_send_s", _wait, _TIME),
    "CLIENT_READ_TIMEOUT": ("client_read_s", _wait, _TIME),
    "DRAIN_DELAY": ("drain_delay_s", _seconds, "a time from 0 to 3600 s, such as 30 or 200ms"),
    "DRAIN_TIMEOUT": ("drain_timeout_s", _seconds, "a time from 0 to 3600 s, such as 30 or 200ms"),
    "TRANSPORT": ("transport", _transport, f"one of {', '.join(TRANSPORTS)}"),
    "TLS_CERT": ("tls_cert", text, "a file"),
    "TLS_KEY": ("tls_key", text, "a file"),
    "TLS_CLIENT_CA": ("tls_client_ca", text, "a file"),
    "TLS_CRL": ("tls_crl", text, "a file"),
    "TLS_CLIENT_NAMES": ("tls_client_names", words, "names with commas between"),
    "TRANSCRIPTS": ("transcripts", text, "a file"),
    "TRANSCRIPTS_HEADER": ("transcripts_header", header_name, "the name of a header"),
    "TRANSCRIPTS_DOWN": ("transcripts_down", one_of(_DOWN), f"one of {', '.join(_DOWN)}"),
    "TRANSCRIPTS_KEYS": ("transcripts_keys", one_of(_KEYS), f"one of {', '.join(_KEYS)}"),
    "TRANSCRIPTS_KEY_STORE": ("transcripts_key_store", text, "a file"),
    "TRANSCRIPTS_MASTER_KEY": ("transcripts_master_key", secret, "32 bytes in base64"),
    "TRANSCRIPTS_MASTER_KEY_FILE": ("transcripts_master_key_file", text, "a file"),
    "TRANSCRIPTS_KMS_KEY": ("transcripts_kms_key", text, "the id of a KMS key"),
    "LOG_LEVEL": ("log_level", one_of(_LEVELS), f"one of {', '.join(_LEVELS)}"),
    "LOG_FORMAT": ("log_format", one_of(_FORMATS), f"one of {', '.join(_FORMATS)}"),
    "LOG_REQUESTS": ("log_requests", one_of(_REQUESTS), f"one of {', '.join(_REQUESTS)}"),
    "TRANSCRIPTS_VAULT_MOUNT": ("transcripts_vault_mount", text, "a path"),
}
NAMES = tuple(_PARSERS)
"""The environment variables; in the section `gateway` of a file they stand in lower case."""
