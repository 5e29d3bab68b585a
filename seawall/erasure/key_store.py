"""
The key store: each subject's data key, wrapped, in a SQLite file of its own that no backup may hold.

Who has this file and what wraps its keys can open what the records of the living hold; and of the forgotten too, where
the file was copied before. That is why it lies apart from the transcripts, and why a changed master key (or KMS key)
makes noise of such copies as well.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from router.errors import ConfigurationError
from seawall.erasure.errors import KeyGone, KeyStoreDown
from seawall.erasure.sealing import new_key
from seawall.erasure.wrapping import Wrapper

__all__ = ["DataKey", "KeyStore"]

_WAIT_S = 5.0
_CACHED_MAX = 1000
_CACHED_S = 300.0
_INDEX = b"index"
# A wrapped key lies in a slot, where it is overwritten. To delete its row would not do: a B-tree moves rows between its
# pages, and leaves copies in the gaps that `secure_delete` does not see. Slots are only ever added at the end.
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS slots (n INTEGER PRIMARY KEY, wrapped BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS keys (tag BLOB PRIMARY KEY, key_id BLOB NOT NULL UNIQUE, slot INTEGER NOT NULL);
"""
_ALL = "SELECT tag, wrapped, slot FROM keys JOIN slots ON n = slot"


class DataKey(NamedTuple):
    """A subject's data key; `id` is random and stands with each record."""

    id: bytes
    key: bytes


class KeyStore:
    """
    The data keys in the file `path`, wrapped by `wrapper`. Any number of processes may use it; safe among threads.

    Every method may raise KeyStoreDown. `clock` is monotonic, in seconds. A data key that was unwrapped is remembered
    for at most five minutes, but only used while the file still has it: what any process forgets is forgotten in all.
    """

    def __init__(self, path: Path, wrapper: Wrapper, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._wrapper = wrapper
        self._clock = clock
        self._lock = threading.RLock()
        self._opened: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._index: bytes | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
            # A rollback journal, cut to nothing and synced at each commit: no deleted key stays behind in a file.
            self._db.execute("PRAGMA journal_mode=TRUNCATE")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA secure_delete=ON")
            self._db.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(f"TRANSCRIPTS_KEY_STORE {path} cannot be opened: {error}") from None

    def close(self) -> None:
        """Close the file, and forget every key that is in memory."""
        with self._lock:
            self._opened.clear()
            self._db.close()
            self._wrapper.close()

    def get(self, subject: str) -> DataKey:
        """Return a subject's data key, a new one for a new subject."""
        for _ in range(3):  # another process may forget, or change the master key, in between
            found = self.find(subject)
            if found is not None:
                return found
            self._create(subject)
        raise KeyStoreDown("the key store changes too quickly; try again")

    def find(self, subject: str) -> DataKey | None:
        """Return a subject's data key, None where there is none."""
        tag = self.tag(subject)
        with self._reading() as db:
            row = db.execute("SELECT key_id, wrapped FROM keys JOIN slots ON n = slot WHERE tag = ?", (tag,)).fetchone()
        if row is None:
            return None
        key_id, wrapped = bytes(row[0]), bytes(row[1])
        key = self._remembered(key_id)
        if key is None:
            try:
                key = self._wrapper.unwrap(wrapped, tag)
            except KeyGone:  # a forgetting was cut off after its first step: end it
                self.forget(subject)
                return None
            self._remember(key_id, key)
        return DataKey(key_id, key)

    def forget(self, subject: str) -> bytes | None:
        """
        Delete a subject's data key, durably; return its id, None where there was none. Idempotent.

        What a service holds for the subject alone goes first, so that a crash leaves either the key or no key.
        """
        tag = self.tag(subject)
        with self._reading() as db:
            row = db.execute("SELECT key_id, slot FROM keys WHERE tag = ?", (tag,)).fetchone()
        self._wrapper.destroy(tag)
        if row is None:
            return None
        with self._writing() as db:
            db.execute("UPDATE slots SET wrapped = zeroblob(length(wrapped)) WHERE n = ?", (row[1],))
            db.execute("DELETE FROM keys WHERE tag = ?", (tag,))
        with self._lock:
            self._opened.pop(bytes(row[0]), None)
        return bytes(row[0])

    def tag(self, subject: str, purpose: bytes = b"key") -> bytes:
        """Return a keyed hash of a subject: the same always, and nothing without this store's own secret."""
        return hmac.digest(self._index_key(), purpose + b"\0" + subject.encode(), hashlib.sha256)

    def ids(self) -> set[bytes]:
        """Return the ids of all data keys."""
        with self._reading() as db:
            return {bytes(row[0]) for row in db.execute("SELECT key_id FROM keys")}

    def rotate(self) -> int:
        """Wrap every data key by what is current; return how many changed. It can be cut off, and repeated."""
        self._wrapper.refresh()
        self._index_key()
        with self._writing() as db:  # first of all: from here on nobody wraps a new key by the former one
            _put(db, "generation", self._wrapper.generation().encode())
        with self._reading() as db:
            rows = [(bytes(tag), bytes(old), n) for tag, old, n in db.execute(_ALL)]
            rows.append((_INDEX, _meta(db, "index") or b"", 0))
        changed = 0
        for tag, wrapped, slot in rows:
            try:
                anew = self._wrapper.rewrap(wrapped, tag)
            except KeyGone:
                continue
            if anew == wrapped:
                continue
            with self._writing() as db:
                if tag == _INDEX:
                    _put(db, "index", anew)
                else:
                    db.execute("UPDATE slots SET wrapped = ? WHERE n = ? AND wrapped = ?", (anew, slot, wrapped))
            self._wrapper.retire(tag)
            changed += tag != _INDEX
        with self._reading() as db:
            db.execute("VACUUM")  # what is wrapped anew may be longer, and have left its former place
        return changed

    def _create(self, subject: str) -> None:
        tag, key_id, key = self.tag(subject), os.urandom(16), new_key()
        wrapped = self._wrapper.wrap(key, tag)
        with self._writing() as db:
            if _meta(db, "generation") != self._wrapper.generation().encode():
                try:
                    self._wrapper.refresh()
                except ConfigurationError as error:
                    raise KeyStoreDown(str(error)) from None
                if _meta(db, "generation") != self._wrapper.generation().encode():
                    raise KeyStoreDown("the master key was changed by another process; restart with the new one")
                return
            if db.execute("SELECT 1 FROM keys WHERE tag = ?", (tag,)).fetchone() is None:
                slot = db.execute("INSERT INTO slots (wrapped) VALUES (?)", (wrapped,)).lastrowid
                db.execute("INSERT INTO keys VALUES (?, ?, ?)", (tag, key_id, slot))

    def _index_key(self) -> bytes:
        """Return this store's own secret, made when the store is new."""
        with self._lock:
            if self._index is None:
                with self._reading() as db:
                    wrapped = _meta(db, "index")
                if wrapped is None:
                    made = self._wrapper.wrap(new_key(), _INDEX)
                    with self._writing() as db:
                        for name, value in (("index", made), ("generation", self._wrapper.generation().encode())):
                            db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
                        wrapped = _meta(db, "index")
                try:
                    self._index = self._wrapper.unwrap(bytes(wrapped or b""), _INDEX)
                except KeyGone:
                    raise KeyStoreDown("what the key store's own secret was wrapped by is gone") from None
            return self._index

    def _remembered(self, key_id: bytes) -> bytes | None:
        with self._lock:
            since_s, key = self._opened.get(key_id, (0.0, None))
            if key is None or self._clock() - since_s > _CACHED_S:
                self._opened.pop(key_id, None)
                return None
            self._opened.move_to_end(key_id)
            return key

    def _remember(self, key_id: bytes, key: bytes) -> None:
        with self._lock:
            self._opened[key_id] = (self._clock(), key)
            while len(self._opened) > _CACHED_MAX:
                self._opened.popitem(last=False)

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise KeyStoreDown(f"the key store cannot be read: {error}") from None

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        """Hold a transaction that is durable at the end of the block."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise KeyStoreDown(f"the key store cannot be written: {error}") from None


def _meta(db: sqlite3.Connection, name: str) -> bytes | None:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else bytes(row[0])


def _put(db: sqlite3.Connection, name: str, value: bytes) -> None:
    db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value))
