"""From the settings to the two stores: `open_archive`."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from router.errors import ConfigurationError
from seawall.erasure.errors import TranscriptsDown
from seawall.erasure.key_store import DataKey, KeyStore
from seawall.erasure.sealing import SealBroken, seal, unseal
from seawall.erasure.transcripts import SealedRecord, TranscriptStore
from seawall.erasure.wrapping import MasterKey, MasterKeyFile, Wrapper, keys_in
from seawall.gateway.config import GatewaySettings

__all__ = ["Archive", "open_archive"]


class Archive:
    """The transcripts and the keys that open them. Close it, or enter it."""

    def __init__(self, keys: KeyStore, transcripts: TranscriptStore, audit: Path) -> None:
        self.keys = keys
        self.transcripts = transcripts
        self.audit = audit

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close both stores."""
        self.transcripts.close()
        self.keys.close()

    def sealed(self, subject: str, data_key: DataKey, record: Any) -> SealedRecord:
        """Return a record, whatever JSON can say, sealed with its subject's key."""
        record_id = os.urandom(16)
        plain = msgspec.json.encode(record)
        return SealedRecord(data_key.id, record_id, seal(data_key.key, plain, subject=subject, record_id=record_id))

    def read(self, subject: str) -> Iterator[Any]:
        """Yield what is kept of a subject, oldest first. Raises TranscriptsDown, also for a broken seal."""
        data_key = self.keys.find(subject)
        if data_key is None:
            return
        for record in self.transcripts.of(data_key.id):
            try:
                plain = unseal(data_key.key, record.sealed, subject=subject, record_id=record.record_id)
            except SealBroken as error:
                raise TranscriptsDown(f"{error}: the file of the transcripts was changed") from None
            yield msgspec.json.decode(plain)


def open_archive(settings: GatewaySettings, *, allowed: Collection[str] | None = None) -> Archive:
    """
    Open the stores that TRANSCRIPTS and its like name. Blocks. Raises ConfigurationError.

    With an air gap, `allowed` are the entries of AIRGAP_ALLOW (None: no air gap).
    """
    if not settings.transcripts:
        raise ConfigurationError("TRANSCRIPTS is not set: no transcripts are kept")
    if not settings.transcripts_key_store:
        raise ConfigurationError(
            "TRANSCRIPTS needs TRANSCRIPTS_KEY_STORE, a file in another folder: no backup may hold it"
        )
    transcripts, keys = Path(settings.transcripts).absolute(), Path(settings.transcripts_key_store).absolute()
    secrets = {"TRANSCRIPTS_KEY_STORE": keys}
    if settings.transcripts_master_key_file:
        secrets["TRANSCRIPTS_MASTER_KEY_FILE"] = Path(settings.transcripts_master_key_file).absolute()
    for name, path in secrets.items():
        if path.resolve().is_relative_to(transcripts.resolve().parent):
            raise ConfigurationError(
                f"{name} {path} lies in the folder of TRANSCRIPTS: a backup of one would hold the other, and nothing "
                f"in it could be forgotten; put it elsewhere"
            )
    key_store = KeyStore(keys, wrapper_of(settings, allowed=allowed))
    try:
        store = TranscriptStore(transcripts)
    except ConfigurationError:
        key_store.close()
        raise
    return Archive(key_store, store, transcripts.with_name(f"{transcripts.name}.audit.jsonl"))


def wrapper_of(settings: GatewaySettings, *, allowed: Collection[str] | None = None) -> Wrapper:
    """Return what TRANSCRIPTS_KEYS names. Raises ConfigurationError."""
    if settings.transcripts_keys == "kms":
        from seawall.erasure.kms import KmsKey  # noqa: PLC0415 - one of three

        return KmsKey(settings.transcripts_kms_key, allowed=allowed)
    if settings.transcripts_keys == "vault":
        from seawall.erasure.vault import VaultKeys  # noqa: PLC0415 - one of three

        return VaultKeys(settings.transcripts_vault_mount, allowed=allowed)
    said, file = settings.transcripts_master_key, settings.transcripts_master_key_file
    if bool(said) == bool(file):
        raise ConfigurationError(
            "TRANSCRIPTS_KEYS=local needs TRANSCRIPTS_MASTER_KEY_FILE (`seawall keys init` makes it) or "
            "TRANSCRIPTS_MASTER_KEY, and not both"
        )
    if file:
        return MasterKey(MasterKeyFile(Path(file)).read)
    return MasterKey(lambda: keys_in(said.reveal(), "TRANSCRIPTS_MASTER_KEY"))
