"""Archives of transcripts for a test: their settings, and the few things that every test does with them."""

from __future__ import annotations

import base64
from pathlib import Path

from seawall.erasure import Archive, open_archive
from seawall.gateway.config import GatewaySettings

MASTER = base64.b64encode(bytes(range(32))).decode()


def settings_in(folder: Path, **more: str) -> dict[str, str]:
    """Return the settings of an archive whose keys lie apart from its transcripts."""
    return {
        "TRANSCRIPTS": str(folder / "data" / "transcripts.db"),
        "TRANSCRIPTS_KEY_STORE": str(folder / "keys" / "keys.db"),
        **({} if "TRANSCRIPTS_MASTER_KEY_FILE" in more else {"TRANSCRIPTS_MASTER_KEY": MASTER}),
        **more,
    }


def opened(settings: dict[str, str]) -> Archive:
    """Open the archive of some settings."""
    return open_archive(GatewaySettings.load(None, settings, dotenv=None))


def put(archive: Archive, subject: str, text: str) -> None:
    """Keep a record."""
    archive.transcripts.add([archive.sealed(subject, archive.keys.get(subject), {"answer": text})])


def texts(archive: Archive, subject: str) -> list[str]:
    """Return what is kept of a subject."""
    return [record["answer"] for record in archive.read(subject)]


def new_kms_key() -> str:
    """Make a key in KMS."""
    import boto3

    client = boto3.client("kms")
    try:
        return str(client.create_key()["KeyMetadata"]["KeyId"])
    finally:
        client.close()
