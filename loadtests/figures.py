"""
What Locust does not measure of answers that come token by token, as rows of its own tables.

The rows stand beside the requests, and are not counted among them. Locust's columns say ms; where the figure is not a
time, the row's name says what it is.
"""

from __future__ import annotations

from locust.env import Environment

from loadtests.reception import Reception
from seawall.journal.events import RequestRecord

__all__ = ["KIND", "show"]

KIND = "SSE"
_FIRST = "time to first token"
_GAP = "longest gap between tokens"
_SPEED = "tokens a second (a number, no ms)"
_CUT = "cut streams (a count: requests; failures are cut)"
_LEAST_S = 0.01  # what came in one piece has no speed


def show(environment: Environment, record: RequestRecord, reception: Reception) -> None:
    """Show one request in Locust's statistics, timed from when it was due, and a stream's own figures."""
    environment.events.request.fire(
        request_type="POST",
        name="stream" if record.stream else "json",
        response_time=(record.end_ns - record.intended_ns) / 1e6,
        response_length=reception.body_bytes,
        exception=None if record.outcome == "whole" else f"{record.outcome}: {record.problem}",
    )
    if not record.stream or record.sent_ns is None or record.first_byte_ns is None:
        return
    entries = environment.stats
    size = reception.body_bytes
    entries.get(_FIRST, KIND).log(round((record.first_byte_ns - record.sent_ns) / 1e6), size)
    entries.get(_GAP, KIND).log(round(reception.longest_gap_ns / 1e6), size)
    seconds = (record.end_ns - record.first_byte_ns) / 1e9
    if record.tokens > 1 and seconds >= _LEAST_S:
        entries.get(_SPEED, KIND).log(round((record.tokens - 1) / seconds), size)
    cuts = entries.get(_CUT, KIND)
    cuts.log(0, size)
    if record.outcome == "cut":
        cuts.log_error(record.problem)
