"""
From what was received to the record of a request: the rules that decide its outcome. Pure.

In order: `dropped` and `hung` by our own doing; `error` where no byte came, the status is an error without a proper
error body, or the stream told its failure in a proper error event; `refused` for a proper error; `cut` for what began
and did not come to its end; `disguised` for a success that is none; `whole` for what is left.
"""

from __future__ import annotations

import hashlib
import math
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Literal

import msgspec

from loadtests.reception import Reception, error_code
from seawall.answers import Judgement, answer_tokens, judge_text, last_token
from seawall.journal.events import RequestOutcome, RequestRecord

__all__ = ["Ending", "Trip", "record_of"]

_CLOSED = "the connection was closed"


class Ending(msgspec.Struct, frozen=True):
    """How the exchange ended on our side, with one line on it where it did not end well."""

    kind: Literal["answered", "failed", "deadline", "stopped"]
    """`answered`: the reception is at its end; `failed`: the connection broke or was never made."""
    detail: str = ""


class Trip(msgspec.Struct, frozen=True, kw_only=True):
    """Which request it was, and its times on CLOCK_MONOTONIC."""

    request_id: str
    stream: bool
    intended_ns: int
    sent_ns: int | None
    end_ns: int
    reused: bool


def record_of(trip: Trip, ending: Ending, reception: Reception, *, wall_s: float) -> RequestRecord:
    """Return the record of a request. `wall_s`, seconds since the epoch, dates a `retry-after` given as a date."""
    text = reception.text
    judgement = judge_text(text, trip.request_id)
    outcome, problem = _outcome(trip, ending, reception, judgement)
    providers = list(judgement.providers)
    told = reception.provider or reception.headers.get("x-seawall-provider")
    return RequestRecord(
        request_id=trip.request_id,
        stream=trip.stream,
        intended_ns=trip.intended_ns,
        sent_ns=trip.sent_ns,
        first_byte_ns=reception.first_token_ns if trip.stream else reception.first_body_ns,
        end_ns=trip.end_ns,
        outcome=outcome,
        status=reception.status,
        code=error_code(reception.error),
        chunks=reception.chunks,
        tokens=judgement.tokens,
        text_sha256=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if text else None,
        provider=told or (providers[-1] if providers else None),
        providers_in_text=providers,
        retry_after_s=_retry_after_s(reception.headers.get("retry-after"), wall_s),
        problem=problem,
        reused=trip.reused,
    )


def _outcome(
    trip: Trip, ending: Ending, reception: Reception, judgement: Judgement
) -> tuple[RequestOutcome, str | None]:
    if ending.kind == "stopped":
        return "dropped", ending.detail
    if ending.kind == "deadline":
        return "hung", f"{ending.detail}; {_so_far(reception)}"
    return (
        _failure(trip, ending, reception)
        or _broken_off(ending, reception)
        or _doubtful_text(trip, reception, judgement)
        or _bad_form(trip, reception)
        or ("whole", None)
    )


def _failure(trip: Trip, ending: Ending, reception: Reception) -> tuple[RequestOutcome, str] | None:
    """Return what was plainly told as a failure, by the transport, the status or an error event."""
    if not reception.started:
        return "error", f"{ending.detail or _CLOSED} before any byte of the answer"
    code = error_code(reception.error)
    if reception.status is not None and reception.status >= 300:
        if reception.complete and code and reception.status >= 400:
            return "refused", f"status {reception.status}, {code}"
        return "error", f"status {reception.status} without a proper error body"
    if trip.stream and reception.status == 200 and code:
        return "error", f"the stream told an error: {code}"
    return None


def _broken_off(ending: Ending, reception: Reception) -> tuple[RequestOutcome, str] | None:
    if reception.complete:
        return None
    return "cut", f"{reception.unreadable or ending.detail or _CLOSED}; {_so_far(reception)}"


def _doubtful_text(trip: Trip, reception: Reception, judgement: Judgement) -> tuple[RequestOutcome, str] | None:
    """Judge what a complete message passed as a success holds."""
    if reception.status != 200:
        return "disguised", f"status {reception.status} where 200 belongs"
    if reception.error is not None:
        return "disguised", "status 200 with an error in the body"
    problem = judgement.problem
    if problem == "foreign_text" and _ends_inside_token(reception.text, trip.request_id):
        problem = "cut"
    if problem in ("cut", "gap", "repeated"):
        return "cut", f"the text is not whole: {problem} after {judgement.tokens} tokens"
    if problem is not None:
        kind = reception.headers.get("content-type", "no content type")[:80]
        return "disguised", f"the text is no answer to this request: {reception.malformed or problem} ({kind})"
    return None


def _bad_form(trip: Trip, reception: Reception) -> tuple[RequestOutcome, str] | None:
    if trip.stream and not reception.done:
        return "cut", "the stream does not end in [DONE]"
    if reception.malformed:
        return "disguised", reception.malformed
    return None


def _ends_inside_token(text: str, request_id: str) -> bool:
    """Say whether `text` is this request's answer up to the middle of a token."""
    start = text.rfind(" ") + 1
    head, rest = text[:start], text[start:]
    last, judgement = last_token(head, request_id), judge_text(head, request_id)
    if last is None or judgement.problem != "cut":
        return False
    n, count = last
    return any(answer_tokens(name, request_id, count, n + 1)[0].startswith(rest) for name in judgement.providers)


def _so_far(reception: Reception) -> str:
    if not reception.started:
        return "no byte of the answer had arrived"
    if reception.status is None:
        return "its head was not complete"
    return f"status {reception.status} and {reception.body_bytes} bytes of body had arrived"


def _retry_after_s(value: str | None, wall_s: float) -> float | None:
    """Return the seconds of a `retry-after` header, given as seconds or as a date; None for anything else."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = max((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - wall_s, 0.0)
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
