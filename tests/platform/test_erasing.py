"""The commands and the settings of erasure, a change of the master key that is cut off, and services that are away."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from archive_parts import MASTER, opened, put, settings_in, texts

from router.errors import ConfigurationError
from seawall.cli import main
from seawall.erasure import KeyStoreDown, TranscriptsDown, forget, open_archive
from seawall.gateway.config import GatewaySettings


@pytest.mark.parametrize("cut", ["add", "rotate", "drop_former"])
def test_a_change_of_the_master_key_survives_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut off at any step, everything still opens, for a process from before too; repeated, the former key is gone."""
    from seawall.erasure.key_store import KeyStore
    from seawall.erasure.wrapping import MasterKeyFile

    file = tmp_path / "master" / "key"
    settings = settings_in(tmp_path, TRANSCRIPTS_MASTER_KEY_FILE=str(file))
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    assert main(["keys", "init"]) == 0
    assert main(["keys", "init"]) == 2
    before = file.read_text().strip()
    with opened(settings) as running:
        put(running, "alice", "one")
        put(running, "bob", "two")
        owner = KeyStore if cut == "rotate" else MasterKeyFile
        real = getattr(owner, cut)

        def crash(self: Any) -> None:
            if cut == "add":
                real(self)
            if cut == "rotate":
                self._wrapper.refresh()
                with self._writing() as db:
                    db.execute(
                        "UPDATE meta SET value = ? WHERE name = 'generation'", (self._wrapper.generation().encode(),)
                    )
            raise SystemExit

        with monkeypatch.context() as patch:
            patch.setattr(owner, cut, crash)
            with pytest.raises(SystemExit):
                main(["keys", "rotate"])
        assert len(file.read_text().split()) == 2
        put(running, "carol", "three")
        with opened(settings) as archive:
            assert [texts(archive, name) for name in ("alice", "bob", "carol")] == [["one"], ["two"], ["three"]]
        assert main(["keys", "rotate"]) == 0
        assert before not in file.read_text()
        assert len(file.read_text().split()) == 1
        put(running, "dave", "four")
        assert texts(running, "alice") == ["one"]
    with opened(settings) as archive:
        assert [texts(archive, name) for name in ("bob", "carol", "dave")] == [["two"], ["three"], ["four"]]
    assert before not in "".join(capsys.readouterr())


def test_forget_asks_first_and_says_how_it_went(
    local: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Unconfirmed it does nothing (1); done or not known is 0; bad settings are 2; no secret and no name is printed."""
    monkeypatch.chdir(tmp_path)
    for name, value in local.items():
        monkeypatch.setenv(name, value)
    with opened(local) as archive:
        put(archive, "alice", "a text")
    assert main(["forget", "alice"]) == 1
    assert main(["transcripts", "alice"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == "a text"
    assert main(["forget", "alice", "--yes"]) == 0
    assert main(["forget", "alice", "--yes"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("forgotten; records deleted: 1")
    assert "nothing was known" in said
    assert "alice" not in said
    assert main(["transcripts", "alice"]) == 0
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("TRANSCRIPTS_MASTER_KEY", base64.b64encode(b"x" * 32).decode())
    assert main(["forget", "alice", "--yes"]) == 3
    assert "another master key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"TRANSCRIPTS": ""}, "TRANSCRIPTS is not set"),
        ({"TRANSCRIPTS_KEY_STORE": ""}, "needs TRANSCRIPTS_KEY_STORE"),
        ({"TRANSCRIPTS_KEY_STORE": "data/keys.db"}, "a backup of one would hold the other"),
        ({"TRANSCRIPTS_KEY_STORE": "data/deep/keys.db"}, "a backup of one would hold the other"),
        ({"TRANSCRIPTS_MASTER_KEY": ""}, "seawall keys init"),
        ({"TRANSCRIPTS_MASTER_KEY": "c2hvcnQ="}, "must hold 32 bytes"),
        ({"TRANSCRIPTS_MASTER_KEY_FILE": "elsewhere/key"}, "not both"),
        ({"TRANSCRIPTS_MASTER_KEY": "", "TRANSCRIPTS_MASTER_KEY_FILE": "elsewhere/key"}, "cannot be read"),
        ({"TRANSCRIPTS_KEYS": "kms"}, "needs TRANSCRIPTS_KMS_KEY"),
        ({"TRANSCRIPTS_KEYS": "vault"}, "needs VAULT_ADDR"),
        ({"TRANSCRIPTS_KEYS": "paper"}, "one of local, kms, vault"),
        ({"TRANSCRIPTS_DOWN": "ajar"}, "one of closed, open"),
    ],
)
def test_settings_that_cannot_be_are_told(
    local: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], words: str
) -> None:
    """Each is one error that names the setting and the remedy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAULT_ADDR", raising=False)
    with pytest.raises(ConfigurationError, match=words) as caught:
        opened(local | change)
    assert MASTER not in str(caught.value)


def test_services_outside_the_air_gap_are_refused(vault: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With AIRGAP_MODE a Vault elsewhere is refused unless its host is listed."""
    monkeypatch.setenv("VAULT_ADDR", "http://vault.example.com:8200")
    settings = GatewaySettings.load(None, vault, dotenv=None)
    with pytest.raises(ConfigurationError, match="AIRGAP_ALLOW"):
        open_archive(settings, allowed=())
    open_archive(settings, allowed=("vault.example.com",)).close()


def test_a_service_that_is_away_is_told_and_nothing_is_written(
    vault: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Vault away a new subject gets no key, a forgetting says to repeat it, and no record is lost or added."""
    with opened(vault) as archive:
        put(archive, "alice", "text")
        count = len(archive.keys.ids())
        monkeypatch.setattr(archive.keys._wrapper, "_mount", "sealed-or-away")
        with pytest.raises(KeyStoreDown, match="Vault"):
            archive.keys.get("bob")
        with pytest.raises(TranscriptsDown, match="Vault"):
            forget(archive, "alice")
        assert len(archive.keys.ids()) == count
        monkeypatch.setattr(archive.keys._wrapper, "_mount", "transit")
        assert texts(archive, "alice") == ["text"]
        assert forget(archive, "alice").had_key
    assert os.environ["VAULT_TOKEN"]
