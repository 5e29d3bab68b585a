"""Forgetting a subject: its key first, what is left of its records next, and lines in an audit log that name nobody."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from seawall.erasure.errors import TranscriptsDown
from seawall.erasure.opening import Archive

__all__ = ["Forgotten", "forget"]


class Forgotten(NamedTuple):
    """What a forgetting came to: whether there was a key, how many records went, and how the audit log calls it."""

    had_key: bool
    records: int
    reference: str


def forget(archive: Archive, subject: str) -> Forgotten:
    """
    Delete a subject's key, for good, and then its records. Blocks. Idempotent; raises TranscriptsDown.

    Killed at any instant it leaves either the key and all as it was, or no key; what is left of the records then is
    noise, and the next forgetting, of anybody, deletes it. The audit log has a line before and a line after.
    """
    reference = archive.keys.tag(subject, b"audit").hex()[:32]
    _note(archive.audit, reference, "begun")
    had_key = archive.keys.forget(subject) is not None
    # In this order: a key that is made meanwhile is older than its first record.
    sealed_with = archive.transcripts.key_ids()
    records = archive.transcripts.erase(sealed_with - archive.keys.ids())
    _note(archive.audit, reference, "done", had_key=had_key, records=records)
    return Forgotten(had_key, records, reference)


def _note(path: Path, reference: str, step: str, **more: object) -> None:
    """Append one line, durably. `subject` is a hash with the key store's own secret."""
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    line = msgspec.json.encode({"at": at, "action": "forget", "step": step, "subject": reference, **more}) + b"\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise TranscriptsDown(f"the audit log {path} cannot be written: {error.strerror}") from None
