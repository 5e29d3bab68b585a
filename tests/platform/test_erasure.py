"""Erasure: what is forgotten stays forgotten in every copy, whatever wraps the keys and wherever a crash strikes."""

from __future__ import annotations

import base64
import itertools
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from archive_parts import MASTER, new_kms_key, opened, put, texts
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from seawall.erasure import KeyStoreDown, forget
from seawall.erasure.sealing import SealBroken, new_key, seal, unseal


def test_a_seal_holds_for_its_subject_its_record_and_its_key_only() -> None:
    """Another subject, record or key, or one changed bit anywhere, opens nothing; no two seals are the same."""
    key, record_id = new_key(), b"r" * 16
    sealed = seal(key, b"hello", subject="alice", record_id=record_id)
    assert unseal(key, sealed, subject="alice", record_id=record_id) == b"hello"
    assert seal(key, b"hello", subject="alice", record_id=record_id)[:12] != sealed[:12]
    wrong: list[tuple[bytes, bytes, str, bytes]] = [
        (key, sealed, "bob", record_id),
        (key, sealed, "alic", b"e" + record_id),
        (key, sealed, "alice", b"s" * 16),
        (new_key(), sealed, "alice", record_id),
        (key, b"", "alice", record_id),
        *(
            (key, bytes([*sealed[:at], sealed[at] ^ 1, *sealed[at + 1 :]]), "alice", record_id)
            for at in range(len(sealed))
        ),
    ]
    for a_key, data, subject, an_id in wrong:
        with pytest.raises(SealBroken):
            unseal(a_key, data, subject=subject, record_id=an_id)


def test_every_key_store_keeps_finds_forgets_and_begins_anew(settings: dict[str, str]) -> None:
    """What is kept can be read, by another process too; forgotten it is gone, twice is once, and a return is new."""
    with opened(settings) as archive, opened(settings) as other:
        put(archive, "alice", "one")
        put(other, "alice", "two")
        put(other, "bob", "three")
        assert texts(other, "alice") == texts(archive, "alice") == ["one", "two"]
        assert texts(archive, "nobody") == []
        old = archive.keys.get("alice")
        done = forget(archive, "alice")
        assert (done.had_key, done.records) == (True, 2)
        assert other.keys.find("alice") is None
        again = forget(other, "alice")
        assert (again.had_key, again.records, again.reference) == (False, 0, done.reference)
        put(other, "alice", "four")
        assert archive.keys.get("alice") != old
        assert texts(archive, "alice") == ["four"]
    with opened(settings) as archive:
        assert texts(archive, "bob") == ["three"]


def test_every_key_store_wraps_anew(settings: dict[str, str], request: pytest.FixtureRequest) -> None:
    """After a rotation everything reads as before, and copies from before open with what is current no more."""
    path = Path(settings["TRANSCRIPTS_KEY_STORE"])
    with opened(settings) as archive:
        for n in range(5):
            put(archive, f"subject-{n}", f"text {n}")
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    if settings.get("TRANSCRIPTS_KEYS") == "kms":
        settings["TRANSCRIPTS_KMS_KEY"] = new_kms_key()
    elif "TRANSCRIPTS_KEYS" not in settings:
        settings["TRANSCRIPTS_MASTER_KEY"] = f"{base64.b64encode(b'n' * 32).decode()},{MASTER}"
    with opened(settings) as archive:
        assert archive.keys.rotate() == 5
    if "TRANSCRIPTS_KEYS" not in settings:
        settings["TRANSCRIPTS_MASTER_KEY"] = base64.b64encode(b"n" * 32).decode()
    with opened(settings) as archive:
        assert [texts(archive, f"subject-{n}") for n in range(5)] == [[f"text {n}"] for n in range(5)]
        put(archive, "new", "text")
    if settings.get("TRANSCRIPTS_KEYS") != "kms":  # a KMS key is its owner's to disable
        with pytest.raises(KeyStoreDown), opened(settings | {"TRANSCRIPTS_KEY_STORE": str(copy)}) as archive:
            archive.keys.get("subject-1")


def test_forgetting_the_half_leaves_noise_in_every_copy(local: dict[str, str], tmp_path: Path) -> None:
    """Of 1,000 subjects 500 are forgotten: no copy, before or after, nor all with every key left opens one record."""
    subjects = [f"person-{n:04d}@example.com" for n in range(1000)]
    said = {subject: f"the secret of {subject}" for subject in subjects}
    data = Path(local["TRANSCRIPTS"]).parent
    copies = itertools.count()

    def back_up() -> None:
        shutil.copytree(data, tmp_path / "backup" / str(next(copies)))

    with opened(local) as archive:
        for db in (archive.keys._db, archive.transcripts._db):
            db.execute("PRAGMA synchronous=OFF")  # what a crash leaves is another test's
        for at, subject in enumerate(subjects):
            put(archive, subject, said[subject])
            if at == 500:
                back_up()  # with a log that is full
        back_up()
        gone, living = subjects[::2], subjects[1::2]
        old = {subject: archive.keys.get(subject) for subject in gone}
        query = "SELECT key_id, wrapped FROM keys JOIN slots ON n = slot"
        wrapped = dict(archive.keys._db.execute(query).fetchall())
        for at, subject in enumerate(gone):
            assert forget(archive, subject).had_key
            if at == 250:
                back_up()
        back_up()
        assert [texts(archive, subject) for subject in living] == [[said[subject]] for subject in living]
        assert not any(texts(archive, subject) for subject in gone)
        keys_left = {archive.keys.get(subject).key for subject in living} | {base64.b64decode(MASTER)}
    everything = [path for path in (tmp_path / "backup").rglob("*") if path.is_file()] + list(data.iterdir())
    assert len({path.name for path in everything}) >= 3  # the database, its log, the audit log
    for path in everything:
        content = path.read_bytes()
        assert b"secret" not in content
        assert b"example.com" not in content
        assert not any(key.key in content for key in old.values())
    key_store = b"".join(path.read_bytes() for path in Path(local["TRANSCRIPTS_KEY_STORE"]).parent.iterdir())
    assert sum(each in key_store for each in wrapped.values()) == 500
    assert not any(wrapped[key.id] in key_store for key in old.values())
    opened_at_last = 0
    for backup in sorted((tmp_path / "backup").iterdir()):
        with sqlite3.connect(backup / "transcripts.db") as db:
            rows = db.execute("SELECT key_id, record_id, sealed FROM records").fetchall()
        db.close()
        assert len(rows) >= 500
        by_id = {key.id: subject for subject, key in old.items()}
        for key_id, record_id, sealed in rows:
            subject = by_id.get(key_id)
            if subject is None or backup.name != "1":
                continue
            # Even with the subject known, and every key that is left anywhere tried.
            whose = len(subject).to_bytes(4, "big") + subject.encode()
            for key in random.Random(record_id).sample(sorted(keys_left), 20):
                with pytest.raises(InvalidTag):
                    AESGCM(key).decrypt(sealed[:12], sealed[12:], whose + record_id)
            assert unseal(old[subject].key, sealed, subject=subject, record_id=record_id)  # the key was all it took
            opened_at_last += 1
    assert opened_at_last == 500


def test_the_audit_log_tells_what_was_done_and_names_nobody(local: dict[str, str]) -> None:
    """A line before and one after, one reference for each subject, another in another archive; for the owner only."""
    with opened(local) as archive:
        put(archive, "alice", "text")
        first, second, other = (forget(archive, name) for name in ("alice", "alice", "bob"))
        lines = [json.loads(line) for line in archive.audit.read_text().splitlines()]
        assert [line["step"] for line in lines] == ["begun", "done"] * 3
        assert (lines[1]["had_key"], lines[3]["had_key"]) == (True, False)
        assert first.reference == second.reference != other.reference
        assert "alice" not in archive.audit.read_text()
        for path in (archive.audit, Path(local["TRANSCRIPTS"]), Path(local["TRANSCRIPTS_KEY_STORE"])):
            assert path.stat().st_mode & 0o077 == 0
    elsewhere = local | {"TRANSCRIPTS_KEY_STORE": local["TRANSCRIPTS_KEY_STORE"] + "2"}
    with opened(elsewhere) as archive:
        assert forget(archive, "alice").reference != first.reference


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import json
from seawall.erasure import forget, open_archive
from seawall.gateway.config import GatewaySettings
settings = GatewaySettings.load(None, json.loads(sys.argv[2]), dotenv=None)
archive = open_archive(settings)
print("ready", flush=True)
for n in range(int(sys.stdin.readline()), 1000):
    forget(archive, f"subject-{n}")
    print(n, flush=True)
"""


@pytest.mark.real
def test_killed_at_any_instant_it_leaves_the_key_or_no_key(local: dict[str, str]) -> None:
    """After SIGKILL at random instants: who was told forgotten is, nobody is half so, the others are whole."""
    draw = random.Random(7)
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parents[2]), json.dumps(local)]
    forgotten = 0
    with opened(local) as archive:
        for db in (archive.keys._db, archive.transcripts._db):
            db.execute("PRAGMA synchronous=OFF")
        for n in range(1000):
            archive.keys.get(f"subject-{n}")
        for n in range(0, 1000, 10):
            put(archive, f"subject-{n}", f"text {n}")
    for _ in range(8):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdin is not None
            assert child.stdout.readline() == "ready\n"
            child.stdin.write(f"{forgotten}\n")
            child.stdin.flush()
            child.stdout.readline()
            time.sleep(draw.uniform(0, 0.15))
            child.send_signal(signal.SIGKILL)
            told = [int(line) for line in child.stdout.read().splitlines() if line.isdigit()]
        forgotten = max([forgotten, *told])
        with opened(local) as archive:
            alive = [archive.keys.find(f"subject-{n}") is not None for n in range(1000)]
            assert not any(alive[: forgotten + 1])
            assert all(alive[forgotten + 2 :])  # one may have been forgotten and not told yet
            kept = [n for n in range(0, 1000, 10) if texts(archive, f"subject-{n}")]
            assert kept == [n for n in range(0, 1000, 10) if alive[n]]
    assert 1 <= forgotten < 999


@pytest.mark.parametrize("step", ["begun", "destroyed", "deleted", "erased"])
def test_what_a_crash_cut_off_the_next_forgetting_ends(
    vault: dict[str, str], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Wherever it ends: before the first step all is there, after it nothing opens, and repeated it is done."""
    from seawall.erasure import forgetting
    from seawall.erasure.key_store import KeyStore
    from seawall.erasure.transcripts import TranscriptStore
    from seawall.erasure.vault import VaultKeys

    places: dict[str, tuple[Any, str, bool]] = {
        "begun": (VaultKeys, "destroy", False),
        "destroyed": (VaultKeys, "destroy", True),
        "deleted": (KeyStore, "forget", True),
        "erased": (TranscriptStore, "erase", True),
    }
    owner, name, after = places[step]
    real = getattr(owner, name)

    def crash(self: Any, *arguments: Any) -> Any:
        if after:
            real(self, *arguments)
        raise SystemExit

    with opened(vault) as archive:
        put(archive, "alice", "text")
        put(archive, "bob", "text")
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, crash)
            with pytest.raises(SystemExit):
                forgetting.forget(archive, "alice")
    with opened(vault) as archive:
        assert texts(archive, "alice") == (["text"] if step == "begun" else [])
        forget(archive, "alice")
        assert texts(archive, "alice") == []
        assert len(archive.transcripts.key_ids()) == 1
        assert texts(archive, "bob") == ["text"]
