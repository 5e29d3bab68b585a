"""
Invariant: no secret in any output. Pure.

Everything that the parts of a run say of themselves comes together in the journal: errors, problems, causes, notes,
settings. A key that got into a message would be found there, and in every report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from seawall.verdicts.case import Case
from seawall.verdicts.checks import invariant
from seawall.verdicts.model import Check, Evidence

__all__ = ["nothing_is_told"]

_SECRETS = re.compile(
    rb"(?i:\bbearer\s+)[\w.~+/-]"  # an Authorization header
    rb"|\bsk-[A-Za-z0-9_-]{8}"  # keys of OpenAI and Anthropic
    rb"|\bAIza[A-Za-z0-9_-]{10}"  # keys of Google
    rb"|(?i:\b(?:x-)?(?:goog-)?api-key\W{1,4})[\w.~+/-]"
    rb"|[?&](?i:key|api_key|token)=[\w.~+/-]"  # a key in an address
    rb"|://[^\s/:@\"]*:[^\s/@\"*]+@"  # a password in an address
)

_MARKS = (b"bearer", b"sk-", b"aiza", b"api-key", b"key=", b"token=", b"://")
"""One of these, in lower case, is in whatever the pattern finds."""


def nothing_is_told(case: Case) -> Check:
    """No event of the run holds a key, a token or a password; what was found is not repeated."""
    return invariant("no secret in any output", _found(case), examined=case.journal.events, of="events")


def _found(case: Case) -> Iterator[Evidence]:
    journal = case.journal
    text = "looks like a key or a password in"
    for request in filter(_tells, journal.requests.containing(_SECRETS, _MARKS)):
        yield case.evidence(f"{text} a request's record", request.intended_ns, request.request_id)
    for attempt in filter(_tells, journal.attempts.containing(_SECRETS, _MARKS)):
        yield case.evidence(f"{text} an attempt at {attempt.provider}", attempt.start_ns, attempt.request_id)
    for call in filter(_tells, journal.calls.containing(_SECRETS, _MARKS)):
        yield case.evidence(f"{text} a call of {call.provider}", call.arrival_ns, call.request_id)
    kinds = (journal.breakers, journal.fault_events, journal.processes, journal.notes)
    for timed in (timed for events in kinds for timed in events):
        if _tells(timed.event):
            name = type(timed.event).__name__.lower()
            yield case.evidence(f"{text} an event of kind {name} from {timed.source}", timed.mono_ns)
    if journal.header is not None and _tells(journal.header.settings):
        yield case.evidence(f"{text} the settings in the journal's header")


def _tells(event: object) -> bool:
    """Whether a key is in the event's own words: among the bytes of packed numbers one may be found by chance."""
    return _SECRETS.search(msgspec.json.encode(event)) is not None
