"""Providers that misbehave on demand: put in force, read back, and taken back, at a real emulator."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from faults import registry
from faults.base import FaultError, Undo
from faults.respond import RespondFault, read_back
from seawall.emulators.steps import Behaviour

VARIABLE = "SEAWALL_TEST_TOKEN"
THROTTLE = Behaviour(fault_id="throttle", status=429, retry_after_s=5.0, injection_rate=0.5)


def fault(admin_url: str, behaviour: Behaviour = THROTTLE, **options: Any) -> RespondFault:
    """Return a fault whose token is in the environment unless said otherwise."""
    token = options or {"token_env": VARIABLE}
    return RespondFault(id="throttle", target="gemini", admin_url=admin_url, behaviour=behaviour, **token)


@pytest.fixture
def told(emulator: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put the token into the environment and return the URL of the admin port."""
    monkeypatch.setenv(VARIABLE, emulator.token)
    return emulator.admin_url


@pytest.mark.real
def test_a_behaviour_is_put_read_back_and_taken_back(told: str) -> None:
    """The emulator says it is in force after inject, and not after undo; both undo and its repetition are fine."""
    ours = fault(told)
    record = ours.prepare()
    registry.undo(record)  # valid though it was never injected
    assert not read_back(ours).in_force
    ours.inject()
    found = read_back(ours)
    assert found.in_force
    assert found.data()["criterion"] == "read_back"
    assert found.data()["behaviour"]["status"] == 429
    assert not registry.verify(record)
    registry.undo(record)
    registry.undo(record)
    assert registry.verify(record)
    assert not read_back(ours).in_force


@pytest.mark.real
def test_undo_leaves_another_behaviour_of_the_provider(told: str) -> None:
    """Only the fault's own id is taken out."""
    ours = fault(told)
    other = fault(told, Behaviour(fault_id="other", hang=True))
    ours.inject()
    other.inject()
    registry.undo(ours.prepare())
    assert registry.verify(ours.prepare())
    assert read_back(other).in_force
    registry.undo(other.prepare())


@pytest.mark.real
def test_another_behaviour_under_our_id_is_no_evidence(told: str) -> None:
    """A read-back that differs from what was asked raises."""
    fault(told, Behaviour(fault_id="throttle", status=500)).inject()
    with pytest.raises(FaultError, match="another behaviour"):
        read_back(fault(told))
    registry.undo(fault(told).prepare())


@pytest.mark.real
def test_a_token_can_come_from_a_file(emulator: Any, tmp_path: Path) -> None:
    """The file's path is what is recorded, never its content."""
    file = tmp_path / "token"
    file.write_text(f"{emulator.token}\n")
    ours = fault(emulator.admin_url, token_file=str(file))
    ours.inject()
    assert read_back(ours).in_force
    assert emulator.token.encode() not in msgspec.json.encode(ours.prepare())
    assert emulator.token not in repr(ours)
    registry.undo(ours.prepare())


@pytest.mark.real
def test_a_wrong_token_is_not_taken_for_clean(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator that refuses us may still misbehave: undo and verify raise, and no error shows the token."""
    ours = fault(told)
    monkeypatch.setenv(VARIABLE, "wrong-token-31415")
    for call in (registry.undo, registry.verify):
        with pytest.raises(FaultError, match="401") as caught:
            call(ours.prepare())
        assert "31415" not in str(caught.value)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(FaultError, match=f"set {VARIABLE}"):
        registry.undo(ours.prepare())


def test_an_emulator_that_is_gone_is_clean_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behaviours live in the emulator's memory: where nobody listens nothing is left, whoever asks."""
    monkeypatch.delenv(VARIABLE, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    record = fault(url).prepare()
    registry.undo(record)
    assert registry.verify(record)


def test_a_silent_emulator_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An admin port that never answers costs one deadline and a FaultError."""
    monkeypatch.setenv(VARIABLE, "some-token")
    with (
        socket.create_server(("127.0.0.1", 0), backlog=16) as listener,
        pytest.raises(FaultError, match="no answer within"),
    ):
        registry.undo(fault(f"http://127.0.0.1:{listener.getsockname()[1]}").prepare(), deadline_s=0.3)


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("http://127.0.0.1:1", {"token_env": "A", "token_file": "b"}, "exactly one"),
        ("http://192.0.2.1:1", {"token_env": "A"}, "not on this machine"),
        ("http://127.0.0.1", {"token_env": "A"}, "no address"),
        ("nonsense", {"token_env": "A"}, "no address"),
    ],
)
def test_bad_options_are_refused(url: str, options: dict[str, Any], words: str) -> None:
    """Exactly one source of the token, and an admin port on this machine."""
    with pytest.raises(FaultError, match=words):
        fault(url, **options)


def test_a_record_cannot_lead_elsewhere() -> None:
    """A record that names another host without leave is refused."""
    arguments = {"admin_url": "http://192.0.2.1:1", "provider": "gemini", "fault_id": "x", "token_env": "A"}
    with pytest.raises(FaultError, match="not on this machine"):
        registry.undo(Undo(kind="respond", arguments=arguments))


def test_a_fault_says_what_it_does() -> None:
    """The description has what is wrong, with units, and the share of requests."""
    assert fault("http://127.0.0.1:1").describe() == "respond status 429, retry after 5 s (50% of requests)"
    hang = fault("http://127.0.0.1:1", Behaviour(fault_id="x", hang=True))
    assert hang.describe() == "respond hang"
    dribble = fault("http://127.0.0.1:1", Behaviour(fault_id="x", dribble_s=0.25, injection_rate=0.1))
    assert dribble.describe() == "respond 0.25 s between tokens (10% of requests)"


def test_every_behaviour_can_be_told() -> None:
    """No field of a behaviour is left out of the description, or taken for no harm."""
    samples: dict[str, Any] = {"status": 500, "cut_after_chunks": 0, "content_type": "a/b"}
    for field in msgspec.structs.fields(Behaviour):
        if field.name in ("fault_id", "injection_rate", "retry_after_s"):
            continue
        value = samples.get(field.name, 0.0 if field.name.endswith("_s") else True)
        told = fault("http://127.0.0.1:1", Behaviour(fault_id="x", **{field.name: value})).describe()
        assert len(told) > len("respond ")


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (Behaviour(fault_id="x"), "does no harm"),
        (Behaviour(fault_id="x", retry_after_s=5.0), "retry_after_s goes with a status"),
    ],
)
def test_harmless_behaviour_is_refused(behaviour: Behaviour, words: str) -> None:
    """A fault that does nothing would be read back as in force, and prove nothing."""
    with pytest.raises(FaultError, match=words):
        fault("http://127.0.0.1:1", behaviour)
