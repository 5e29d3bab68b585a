"""The gateway with transcripts: sealed on disk, read back, forgotten; and what happens without the key service."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import vault_stand_in
from platform_parts import Running

from seawall.erasure import forget, open_archive
from seawall.gateway.config import GatewaySettings

pytestmark = pytest.mark.real

CHAT = "/v1/chat/completions"
MASTER = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
SECRET = "my secret is the blue door"


class Vault:
    """A stand-in of Vault in this process, which can be sealed and unsealed."""

    def __init__(self) -> None:
        self._server = vault_stand_in.server()
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def away(self, *, away: bool) -> None:
        """Have it refuse everybody, or serve again."""
        vault_stand_in.Handler.sealed = away

    def close(self) -> None:
        """End it."""
        vault_stand_in.Handler.sealed = False
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def vault() -> Iterator[Vault]:
    """A Vault that serves."""
    made = Vault()
    try:
        yield made
    finally:
        made.close()


def settings_in(folder: Path, **more: str) -> dict[str, str]:
    """Return the settings of a gateway that keeps transcripts."""
    return {
        "TRANSCRIPTS": str(folder / "data" / "transcripts.db"),
        "TRANSCRIPTS_KEY_STORE": str(folder / "keys" / "keys.db"),
        **({} if "TRANSCRIPTS_KEYS" in more else {"TRANSCRIPTS_MASTER_KEY": MASTER}),
        **more,
    }


def asked(gateway: Running, body: dict[str, Any], subject: str | None) -> httpx.Response:
    """Return the answer to a request of a subject."""
    headers = {} if subject is None else {"X-Seawall-Subject": subject}
    return httpx.post(f"http://127.0.0.1:{gateway.port}{CHAT}", json=body, headers=headers, timeout=20, trust_env=False)


def kept(settings: dict[str, str], subject: str, count: int) -> list[dict[str, Any]]:
    """Return the records of a subject, once there are `count`."""
    end = time.monotonic() + 10
    with open_archive(GatewaySettings.load(None, settings, dotenv=None)) as archive:
        while len(records := list(archive.read(subject))) < count and time.monotonic() < end:
            time.sleep(0.05)
    assert len(records) == count
    return records


@pytest.mark.parametrize("down", ["closed", "open"])
def test_what_is_said_is_kept_sealed_and_can_be_forgotten(
    start_gateway: Callable[..., Any], tmp_path: Path, question: Any, down: str
) -> None:
    """Whole answers and streams of named subjects are kept, of others not; nothing readable is on disk."""
    settings = settings_in(tmp_path, TRANSCRIPTS_DOWN=down)
    with start_gateway(**settings) as gateway:
        whole = asked(gateway, question(SECRET), "alice@example.com").json()["choices"][0]["message"]["content"]
        stream = asked(gateway, question(SECRET, stream=True), "alice@example.com")
        assert stream.text.rstrip().endswith("data: [DONE]")
        assert asked(gateway, question(SECRET, user="bob"), None).status_code == 200
        assert asked(gateway, question(SECRET), None).status_code == 200
        first, second = kept(settings, "alice@example.com", 2)
        assert first["answer"] == whole
        assert SECRET in first["messages"][0]["content"]
        events = [json.loads(line[6:]) for line in stream.text.splitlines() if line.startswith("data: {")]
        assert second["answer"] == "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
        assert (second["outcome"], len(kept(settings, "bob", 1))) == ("whole", 1)
        with open_archive(GatewaySettings.load(None, settings, dotenv=None)) as archive:
            assert forget(archive, "alice@example.com").records == 2
        # The running gateway must not go on with the key that it remembers.
        assert asked(gateway, question("hello again"), "alice@example.com").status_code == 200
        assert "hello again" in kept(settings, "alice@example.com", 1)[0]["messages"][0]["content"]
        readable = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert b"blue door" not in readable
        assert b"alice" not in readable
    with sqlite3.connect(settings["TRANSCRIPTS"]) as db:
        assert db.execute("SELECT count(*) FROM records").fetchone() == (2,)
    db.close()


def test_closed_refuses_while_the_key_service_is_away(
    start_gateway: Callable[..., Any], tmp_path: Path, question: Any, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with a code of its own, quickly, no provider is asked, nothing readable is on disk; and it recovers."""
    service = {"VAULT_ADDR": f"http://127.0.0.1:{vault.port}", "VAULT_TOKEN": vault_stand_in.TOKEN}
    for name, value in service.items():
        monkeypatch.setenv(name, value)
    settings = settings_in(tmp_path, TRANSCRIPTS_KEYS="vault", TRANSCRIPTS_DOWN="closed")
    with start_gateway(**settings, **service) as gateway:
        assert asked(gateway, question(SECRET), "alice").status_code == 200
        vault.away(away=True)
        for stream in (False, True):
            began = time.monotonic()
            refused = asked(gateway, question(SECRET, stream=stream), "bob")
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "transcripts_down")
            assert time.monotonic() - began < 5
            assert "bob" not in refused.text
        assert asked(gateway, question(SECRET), None).status_code == 200  # nobody's conversation
        assert "transcripts: Vault" in gateway.says
        assert SECRET not in gateway.says
        readable = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert b"blue door" not in readable
        vault.away(away=False)
        end = time.monotonic() + 10
        while asked(gateway, question(SECRET), "bob").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.2)
        assert len(kept(settings, "bob", 1)) == 1


def test_open_answers_unrecorded_while_the_key_service_is_away(
    start_gateway: Callable[..., Any], tmp_path: Path, question: Any, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests are answered as ever, nothing of them is on disk, and the log says that they went unrecorded."""
    service = {"VAULT_ADDR": f"http://127.0.0.1:{vault.port}", "VAULT_TOKEN": vault_stand_in.TOKEN}
    for name, value in service.items():
        monkeypatch.setenv(name, value)
    settings = settings_in(tmp_path, TRANSCRIPTS_KEYS="vault", TRANSCRIPTS_DOWN="open")
    with start_gateway(**settings, **service) as gateway:
        assert asked(gateway, question(SECRET), "alice").status_code == 200
        kept(settings, "alice", 1)
        vault.away(away=True)
        for _ in range(3):
            assert asked(gateway, question(SECRET), "bob").status_code == 200
        end = time.monotonic() + 10
        while "transcripts: Vault" not in gateway.says:
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(2)  # what was offered is given up, and nobody waits for Vault any more
        vault.away(away=False)
        assert asked(gateway, question("once more"), "bob").status_code == 200
        (record,) = kept(settings, "bob", 1)
        assert "once more" in record["messages"][0]["content"]
        readable = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert b"blue door" not in readable
