"""The transcript store: sealed records in a SQLite file. It knows no subject, only the random ids of their keys."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from router.errors import ConfigurationError
from seawall.erasure.errors import TranscriptsDown

__all__ = ["SealedRecord", "TranscriptStore"]

_WAIT_S = 5.0
_TABLE = """
CREATE TABLE IF NOT EXISTS records
    (n INTEGER PRIMARY KEY, key_id BLOB NOT NULL, record_id BLOB NOT NULL, sealed BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS records_of ON records (key_id);
"""


class SealedRecord(NamedTuple):
    """One record as it is kept."""

    key_id: bytes
    record_id: bytes
    sealed: bytes


class TranscriptStore:
    """
    The records in the file `path`. Any number of processes may use it; safe among threads.

    Every method may raise TranscriptsDown; what `add` returned from is on disk.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA secure_delete=ON")
            self._db.executescript(_TABLE)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(f"TRANSCRIPTS {path} cannot be opened: {error}") from None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def add(self, records: Iterable[SealedRecord]) -> None:
        """Keep records, all or none."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    self._db.executemany("INSERT INTO records (key_id, record_id, sealed) VALUES (?, ?, ?)", records)
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise TranscriptsDown(f"the transcript cannot be kept: {error}") from None

    def of(self, key_id: bytes) -> list[SealedRecord]:
        """Return the records that were sealed with a key, oldest first."""
        query = "SELECT key_id, record_id, sealed FROM records WHERE key_id = ? ORDER BY n"
        with self._lock:
            try:
                return [SealedRecord(*map(bytes, row)) for row in self._db.execute(query, (key_id,))]
            except sqlite3.Error as error:
                raise TranscriptsDown(f"the transcripts cannot be read: {error}") from None

    def key_ids(self) -> set[bytes]:
        """Return the ids of the keys that records were sealed with."""
        with self._lock:
            try:
                return {bytes(row[0]) for row in self._db.execute("SELECT DISTINCT key_id FROM records")}
            except sqlite3.Error as error:
                raise TranscriptsDown(f"the transcripts cannot be read: {error}") from None

    def erase(self, key_ids: Collection[bytes]) -> int:
        """Delete the records that were sealed with these keys, from the log too; return how many there were."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    count = sum(
                        self._db.execute("DELETE FROM records WHERE key_id = ?", (key_id,)).rowcount
                        for key_id in key_ids
                    )
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
                if count:  # a reader may hold it back: what then stays in the log is noise all the same
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                raise TranscriptsDown(f"the transcripts cannot be deleted: {error}") from None
        return count
