"""What an answer looks like when its provider gets it wrong. Pure: bytes and answers in, bytes and answers out."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from seawall.draws import unit
from seawall.emulators.steps import Behaviour, Body
from seawall.emulators.wire import Answer, Reply, Vendor

__all__ = ["can_take", "ending", "events", "headers", "instead_of", "told_model", "told_usage", "whole"]

_ERROR_AFTER = 2
"""How many tokens come before an error event."""
_ABSURD = 10**12
_PAGE = b"""<!DOCTYPE html>
<html>
<head><title>We'll be right back</title></head>
<body><h1>We'll be right back</h1><p>The service is being maintained. Please try again in a moment.</p></body>
</html>
"""


def can_take(behaviour: Behaviour, *, stream: bool, include_usage: bool) -> bool:
    """Return whether such a call shows anything of `behaviour`: what does no harm must not count as met."""
    if behaviour.no_done or behaviour.duplicate_chunks:
        return stream
    return include_usage or not (behaviour.wrong_usage and stream)


def told_model(vendor: Vendor, asked: str, wrong: Behaviour) -> str:
    """Return the model that the answer names."""
    return vendor.OTHER_MODEL if wrong.wrong_model else asked


def told_usage(used: tuple[int, int], wrong: Behaviour, seed: int, answer_id: str) -> tuple[int, int] | None:
    """Return the tokens of prompt and answer that the answer tells; None for none at all."""
    if not wrong.wrong_usage:
        return used
    prompt, completion = used
    kinds = ((0, 0), (-prompt, -completion), (_ABSURD, _ABSURD), None)
    return kinds[int(unit(seed, wrong.fault_id, answer_id, "usage") * len(kinds))]


def headers(found: tuple[tuple[str, str], ...], wrong: Behaviour) -> tuple[tuple[str, str], ...]:
    """Return the headers of the answer, of another content type where that is what is wrong."""
    if wrong.content_type is None:
        return found
    return tuple((name, wrong.content_type if name == "content-type" else value) for name, value in found)


def instead_of(vendor: Vendor, answer: Answer, wrong: Behaviour) -> Reply | None:
    """Return what comes in place of the answer, all of it known at once; None when the answer itself comes."""
    if wrong.html:
        return Reply(status=200, body=_PAGE, headers=(("content-type", "text/html; charset=utf-8"),))
    if wrong.empty and not answer.call.stream:
        return Reply(status=200, body=b"", headers=vendor.headers(answer))
    if wrong.error_event and not answer.call.stream:
        return msgspec.structs.replace(vendor.error(500), status=200)
    return None


def whole(vendor: Vendor, answer: Answer, wrong: Behaviour) -> Body:
    """Return the body of the JSON answer."""
    data, tokens = vendor.whole(answer), len(answer.tokens)
    if wrong.malformed:
        data = _unreadable(data)
    if wrong.truncated:
        data, tokens = _half(data), tokens // 2
    return Body(data=data, tokens=tokens)


def events(vendor: Vendor, answer: Answer, wrong: Behaviour) -> Iterator[tuple[Body, ...]]:
    """Yield what is sent when each token of a stream is due; a stream that breaks off has fewer."""
    if wrong.empty:
        return
    last = len(answer.tokens) - 1
    for n, token in enumerate(answer.tokens):
        if wrong.error_event and n == _ERROR_AFTER:
            return
        event = Body(data=vendor.event(answer, token), tokens=1)
        if wrong.malformed and n == len(answer.tokens) // 2:
            event = msgspec.structs.replace(event, data=_unreadable(event.data))
        if wrong.truncated and n == last:
            event = Body(data=_half(event.data))
        # Its token is counted once: the second time it is the same one.
        yield (event, Body(data=event.data)) if wrong.duplicate_chunks else (event,)


def ending(vendor: Vendor, answer: Answer, wrong: Behaviour) -> bytes:
    """Return what a stream ends with, after its token events; may be empty."""
    if wrong.error_event:
        return vendor.failure()
    if wrong.no_done or wrong.empty:
        return b""
    # An answer that was only to be continued may have no token left: then its end takes the damage.
    if wrong.truncated:
        return b"" if answer.tokens else _half(vendor.epilogue(answer))
    if wrong.malformed and not answer.tokens:
        return _unreadable(vendor.epilogue(answer))
    return vendor.epilogue(answer)


def _unreadable(data: bytes) -> bytes:
    """Return `data` with its first JSON object broken where no parser, however lenient, can overlook it."""
    return data.replace(b"{", b"{,", 1)


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]
