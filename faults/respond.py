"""
The fault `respond`: a provider itself misbehaves, which no fault of the wire can make.

Its emulator is told so over the admin port. The ping route stays as it is, so the evidence is the admin port's own
answer: what is in force there, read back.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from faults.addresses import is_ambiguous, is_loopback
from faults.base import FaultError, Undo
from faults.registry import DEADLINE_S, register
from seawall.emulators.client import EmulatorClient, EmulatorError
from seawall.emulators.steps import Behaviour

__all__ = ["ReadBack", "RespondFault", "read_back"]


_WORDS = {
    "status": "status {}",
    "retry_after_s": "retry after {:g} s",
    "first_token_s": "first token after {:g} s",
    "hang": "hang",
    "cut_after_chunks": "cut after {} chunks",
    "dribble_s": "{:g} s between tokens",
    "no_done": "no end marker",
    "malformed": "malformed JSON",
    "truncated": "truncated JSON",
    "empty": "empty body with 200",
    "html": "HTML page with 200",
    "error_event": "error event after two tokens",
    "content_type": "content type {}",
    "wrong_usage": "wrong usage",
    "duplicate_chunks": "every token event twice",
    "content_filter": "content filter stop",
    "wrong_model": "another model's name",
}
"""How each field of a behaviour reads."""


class RespondFault(msgspec.Struct, frozen=True, kw_only=True):
    """
    `behaviour` at the provider `target` of the emulator whose admin port is `admin_url`.

    The token is never held: `token_env` names the environment variable, or `token_file` the file, that has it, so that
    neither a record on disk nor a report can show it. Raises FaultError with every violation.
    """

    id: str
    target: str
    admin_url: str
    behaviour: Behaviour
    token_env: str | None = None
    token_file: str | None = None
    allow_remote: bool = False

    def __post_init__(self) -> None:
        problems: list[str] = []
        if (self.token_env is None) == (self.token_file is None):
            problems.append("name exactly one of token_env, token_file")
        if not _set(self.behaviour).keys() - {"retry_after_s"}:
            problems.append(f"the behaviour does no harm; set one of {', '.join(_WORDS)}")
        if self.behaviour.retry_after_s is not None and self.behaviour.status is None:
            problems.append("retry_after_s goes with a status")
        try:
            _address({"admin_url": self.admin_url, "allow_remote": self.allow_remote})
        except FaultError as error:
            problems.append(str(error))
        if problems:
            raise FaultError(f"fault {self.id}: {'; '.join(problems)}")

    def describe(self) -> str:
        """Return the fault in a few words, such as `respond status 429, retry after 5 s (50% of requests)`."""
        told = self.behaviour
        words = [_WORDS[name].format(value) for name, value in _set(told).items()]
        share = f" ({told.injection_rate:.0%} of requests)" if told.injection_rate < 1 else ""
        return f"respond {', '.join(words)}{share}"

    def prepare(self) -> Undo:
        """Return how to undo it. Changes nothing."""
        return Undo(
            kind="respond",
            arguments={
                "admin_url": self.admin_url,
                "provider": self.target,
                "fault_id": self.behaviour.fault_id,
                "token_env": self.token_env,
                "token_file": self.token_file,
                "allow_remote": self.allow_remote,
            },
        )

    def inject(self) -> None:
        """Put it in force. Raises FaultError."""
        try:
            _client(self.prepare().arguments, DEADLINE_S).put_behaviour(self.target, self.behaviour)
        except EmulatorError as error:
            raise FaultError(f"fault {self.id} could not be injected: {error}") from error


def _set(behaviour: Behaviour) -> dict[str, Any]:
    """Return what the behaviour does wrong, field by field."""
    values = {name: getattr(behaviour, name) for name in _WORDS}
    return {name: value for name, value in values.items() if value is not None and value is not False}


class ReadBack(msgspec.Struct, frozen=True, kw_only=True):
    """What the emulator says is in force at `provider` under the fault's id; None when there is nothing."""

    provider: str
    fault_id: str
    in_force: bool
    behaviour: dict[str, Any] | None

    def data(self) -> dict[str, Any]:
        """Return it as plain data for the journal."""
        return {"criterion": "read_back", **msgspec.to_builtins(self)}


def read_back(fault: RespondFault, *, deadline_s: float = DEADLINE_S) -> ReadBack:
    """
    Ask the emulator what is in force: the evidence that the fault is active, or healed.

    Raises FaultError when it cannot be asked, or has the fault's id with another behaviour.
    """
    found = _found(fault.prepare().arguments, deadline_s)
    if found is not None and found != fault.behaviour:
        raise FaultError(f"fault {fault.id} is in force at {fault.target} with another behaviour: {found}")
    return ReadBack(
        provider=fault.target,
        fault_id=fault.behaviour.fault_id,
        in_force=found is not None,
        behaviour=None if found is None else msgspec.to_builtins(found),
    )


def _found(arguments: dict[str, Any], deadline_s: float) -> Behaviour | None:
    if _is_gone(arguments, deadline_s):
        return None
    try:
        behaviours = _client(arguments, deadline_s).behaviours(arguments["provider"])
    except EmulatorError as error:
        raise FaultError(f"provider {arguments['provider']}: {error}") from error
    return next((behaviour for behaviour in behaviours if behaviour.fault_id == arguments["fault_id"]), None)


def _is_gone(arguments: dict[str, Any], deadline_s: float) -> bool:
    """Whether nobody listens any more: behaviours live in the emulator's memory, and no token is needed to see that."""
    host, port = _address(arguments)
    try:
        socket.create_connection((host, port), timeout=deadline_s).close()
    except ConnectionRefusedError:
        return True
    except OSError as error:
        raise FaultError(f"the emulator at {arguments['admin_url']} cannot be reached: {error}") from error
    return False


def _client(arguments: dict[str, Any], deadline_s: float) -> EmulatorClient:
    _address(arguments)
    try:
        return EmulatorClient(arguments["admin_url"], _token(arguments), deadline_s=deadline_s)
    except ValueError as error:
        raise FaultError(f"the emulator at {arguments['admin_url']}: {error}") from error


def _address(arguments: dict[str, Any]) -> tuple[str, int]:
    url = arguments["admin_url"]
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise FaultError(f"{url!r} is no URL: {error}") from error
    if not host or not port or is_ambiguous(url):
        raise FaultError(f"{url!r} is no address of an emulator's admin port; write it as http://127.0.0.1:9000")
    if not (arguments.get("allow_remote", False) or is_loopback(host)):
        raise FaultError(f"the emulator at {url} is not on this machine; name the target on the command line to allow")
    return host, port


def _token(arguments: dict[str, Any]) -> str:
    variable, file = arguments.get("token_env"), arguments.get("token_file")
    if variable:
        token = os.environ.get(variable)
        if not token:
            raise FaultError(
                f"the emulator's admin token is not in the environment; set {variable}, or end the emulator"
            )
        return token
    try:
        return Path(file or "").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise FaultError(f"the emulator's admin token cannot be read: {error}") from error


def _undo(record: Undo, *, deadline_s: float) -> None:
    arguments = record.arguments
    if _is_gone(arguments, deadline_s):
        return
    try:
        _client(arguments, deadline_s).delete_behaviour(arguments["provider"], arguments["fault_id"])
    except EmulatorError as error:
        raise FaultError(f"provider {arguments['provider']}: {error}") from error


def _verify(record: Undo, *, deadline_s: float) -> bool:
    return _found(record.arguments, deadline_s) is None


register("respond", undo=_undo, verify=_verify)
