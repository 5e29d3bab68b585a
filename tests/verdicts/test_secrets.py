"""No secret in any output: whatever event a key got into, it is found and not repeated."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from journal_builder import HARNESS, Recording, healthy, ns
from verdict_judging import check

from seawall.journal.events import Attempt, BreakerChange, CallRecord, Header, Note, RequestRecord
from seawall.verdicts.model import Verdict

NAME = "no secret in any output"
KEYS = (
    "authorization: Bearer emulated",
    "x-api-key: emulated",
    "'x-goog-api-key', 'emulated'",
    "GET /v1beta/models?key=emulated",
    "incorrect key sk-ant-REDACTED",
    "AIzaSyB000000000000000000000",
    "redis://:secret@127.0.0.1:6379",
)


def in_a_request(run: Recording, text: str) -> None:
    run.of(RequestRecord)[300].problem = text


def in_an_attempt(run: Recording, text: str) -> None:
    run.of(Attempt)[300].error = text


def in_a_call(run: Recording, text: str) -> None:
    run.of(CallRecord)[300].model = text


def in_a_breaker(run: Recording, text: str) -> None:
    run.of(BreakerChange)[0].cause = text


def in_a_note(run: Recording, text: str) -> None:
    run.add(ns(3), HARNESS, Note(text=text))


def in_a_setting(run: Recording, text: str) -> None:
    run.of(Header)[0].settings["X"] = text


@pytest.mark.parametrize(
    "put", [in_a_request, in_an_attempt, in_a_call, in_a_breaker, in_a_note, in_a_setting], ids=lambda put: put.__name__
)
def test_a_key_is_found_wherever_it_is_and_not_repeated(put: Callable[[Recording, str], None]) -> None:
    """Each kind of event is looked through, and the evidence says where, not what."""
    run = healthy(seconds=20)
    put(run, KEYS[0])
    found = check(run, NAME)
    assert (found.verdict, len(found.evidence)) == (Verdict.FAIL, 1)
    assert "looks like a key or a password" in found.reason
    assert "emulated" not in found.reason


@pytest.mark.parametrize("key", KEYS)
def test_keys_have_many_shapes(key: str) -> None:
    """Headers, addresses and the vendors' own prefixes."""
    run = healthy(seconds=2)
    in_a_note(run, key)
    assert check(run, NAME).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "text",
    ["send `Authorization: Bearer <key>`", "GEMINI_API_KEY: ***", "http://127.0.0.1:8000/?a=1", "task-0000000000"],
)
def test_words_about_keys_are_none(text: str) -> None:
    """What only names a key, or hides it, is no secret."""
    run = healthy(seconds=2)
    in_a_note(run, text)
    assert check(run, NAME).verdict is Verdict.PASS


def test_what_is_found_among_packed_numbers_by_chance_is_no_key() -> None:
    """Only the words of an event count: these numbers, packed, spell `?key=a`, and no reader would ever see it."""
    run = healthy(seconds=20)
    for kind in (run.of(RequestRecord)[0], run.of(CallRecord)[0]):
        kind.end_ns = int.from_bytes(b"\x00?key=ab", "big")
    run.of(Attempt)[0].end_ns = int.from_bytes(b"\x00?key=ab", "big")
    assert check(run, NAME).verdict is Verdict.PASS
