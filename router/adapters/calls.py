"""Calls of tools, as vendors ask for them in their answers and want them back in a conversation. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from router.errors import InvalidAnswer, RequestError
from router.models import Message, StopReason, ToolCall, ToolCallDelta

if TYPE_CHECKING:
    from router.adapters.base import Piece

__all__ = ["SAYING", "CallNumbers", "arguments_of", "tool_names", "whole_calls"]

SAYING: tuple[StopReason, ...] = ("stop", "tool_calls")
"""What ends an answer that must have said something."""


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """Return a call's arguments as the object that vendors other than OpenAI want. Raises RequestError."""
    try:
        return msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError):
        raise RequestError(f"the arguments of tool call {call.id!r} are no JSON object") from None


def tool_names(messages: Sequence[Message]) -> dict[str, str]:
    """Return the name of each tool by the id of its call: some vendors know a result by the name."""
    return {call.id: call.name for message in messages for call in message.tool_calls}


def whole_calls(found: Iterable[tuple[str | None, str | None, msgspec.Raw]], data: bytes) -> tuple[ToolCallDelta, ...]:
    """Return calls that came whole, out of (id, name, arguments); where a vendor gives no id, the bytes make one."""
    return tuple(
        ToolCallDelta(index=None, id=id_ or _invented_id(data, n), name=name, arguments=bytes(arguments).decode())
        for n, (id_, name, arguments) in enumerate(found)
    )


def _invented_id(data: bytes, n: int) -> str:
    return f"call_{blake2b(data, digest_size=12).hexdigest()}{n}"


class CallNumbers:
    """Numbers the tool calls of one answer from 0, whatever its vendor counts, and makes each a whole one."""

    def __init__(self) -> None:
        self.count = 0
        self._numbers: dict[int, int] = {}
        self._empty: set[int] = set()
        """The calls whose arguments have not come."""

    def number(self, piece: Piece) -> Piece:
        """Return `piece` with our numbers. Raises InvalidAnswer for a piece of a call that was never begun."""
        deltas = [self._numbered(delta) for delta in piece.tool_calls]
        stop = piece.stop_reason
        if stop in SAYING and self.count:
            stop = "tool_calls"  # Google and Ollama say `stop` here too
            # Of a function without parameters some vendors send no arguments at all; callers read JSON.
            deltas += [ToolCallDelta(index=n, arguments="{}") for n in sorted(self._empty)]
            self._empty.clear()
        if stop is not None and len(deltas) > 1:
            deltas = _joined(deltas)
        return msgspec.structs.replace(piece, tool_calls=tuple(deltas), stop_reason=stop)

    def _numbered(self, delta: ToolCallDelta) -> ToolCallDelta:
        known = self._numbers.get(delta.index) if delta.index is not None else None
        if known is None and (delta.index is not None or delta.name):
            if not delta.name:
                raise InvalidAnswer("a tool call of the answer has no name")
            known = self.count
            self.count += 1
            self._empty.add(known)
            if delta.index is not None:
                self._numbers[delta.index] = known
            delta = msgspec.structs.replace(delta, id=delta.id or f"call_{known}")
        elif known is None:
            known = self.count - 1  # without a number it goes on with the last one
            if known < 0:
                raise InvalidAnswer("a tool call of the answer has no name")
        if delta.arguments:
            self._empty.discard(known)
        return msgspec.structs.replace(delta, index=known)


def _joined(deltas: list[ToolCallDelta]) -> list[ToolCallDelta]:
    """Return the deltas of one piece, those of the same call as one."""
    found: dict[int | None, ToolCallDelta] = {}
    for delta in deltas:
        before = found.get(delta.index)
        found[delta.index] = (
            delta if before is None else msgspec.structs.replace(before, arguments=before.arguments + delta.arguments)
        )
    return list(found.values())
