"""The outcome rules, over bytes as a gateway might send them, split in every way the wire might split them."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.outcome import Ending, Trip, record_of
from loadtests.reception import MAX_BODY_BYTES, Reception
from seawall.answers import answer_tokens
from seawall.journal.events import RequestRecord

ID = "000042"
TOKENS = answer_tokens("gemini", ID, 6)
TEXT = "".join(TOKENS)
ERROR = {"error": {"code": "all_clouds_down", "message": "All Clouds Down"}}
ERROR_BODY = json.dumps(ERROR).encode()


def with_length(status: str, body: bytes, *headers: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}"))
    return head.encode() + b"\r\n" + body


def answer(text: str | None, status: str = "200 OK", **more: Any) -> bytes:
    return with_length(status, json.dumps({"choices": [{"message": {"content": text}}], **more}).encode())


def event(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def told(*tokens: str) -> list[bytes]:
    return [event({"choices": [{"delta": {"content": token}}]}) for token in tokens]


def chunked(*events: bytes, end: bool = True, headers: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{headers}transfer-encoding: chunked\r\n\r\n".encode()
    body = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in events)
    return head + body + (b"0\r\n\r\n" if end else b"")


DONE = event(b"[DONE]")
HTML = b"<html><body>It works</body></html>"
HTML_PAGE = with_length("200 OK", HTML, "content-type: text/html")
OTHER = answer_tokens("gemini", "x", 6)
CLOSED = Ending("answered")
RESET = Ending("failed", "the connection was reset")
DEADLINE = Ending("deadline", "the deadline of 30 s passed")
STOPPED = Ending("stopped", "stopped by the harness")

# (what it is, asked for a stream, bytes, how it ended, outcome, words in the problem)
RULES: list[tuple[str, bool, bytes, Ending, str, str]] = [
    ("JSON", False, answer(TEXT), CLOSED, "whole", ""),
    ("JSON up to the close", False, answer(TEXT).replace(b"content-length", b"x-was"), CLOSED, "whole", ""),
    ("stream", True, chunked(*told(*TOKENS), DONE), CLOSED, "whole", ""),
    ("stream with comments, CRLF and a usage chunk", True,
     chunked(b": hi\r\n\r\n", *[e.replace(b"\n", b"\r\n") for e in told(*TOKENS)], event({"choices": []}), DONE),
     CLOSED, "whole", ""),
    ("stream without the last empty line", True, chunked(*told(*TOKENS), b"data: [DONE]"), CLOSED, "whole", ""),
    ("interim response first", False, b"HTTP/1.1 100 Continue\r\n\r\n" + answer(TEXT), CLOSED, "whole", ""),
    ("error with a body", False, with_length("503 No", ERROR_BODY), CLOSED, "refused", "all_clouds_down"),
    ("error with a body, for a stream", True, with_length("429 No", ERROR_BODY), CLOSED, "refused", "429"),
    ("error without a body", False, with_length("502 Bad Gateway", b""), CLOSED, "error", "502"),
    ("error in HTML", True, with_length("502 Bad Gateway", HTML), CLOSED, "error", "502"),
    ("error whose body is cut", False, with_length("503 No", ERROR_BODY)[:-3], RESET, "error", "503"),
    ("error as a bare string", False, with_length("500 No", b'{"error": "no"}'), CLOSED, "error", "500"),
    ("redirect", False, with_length("302 Found", ERROR_BODY), CLOSED, "error", "302"),
    ("nothing, reset", False, b"", RESET, "error", "reset before any byte"),
    ("nothing, closed", True, b"", CLOSED, "error", "closed before any byte"),
    ("error event", True, chunked(*told(*TOKENS[:2]), event(ERROR)), CLOSED, "error", "all_clouds_down"),
    ("error event, then the end mark", True, chunked(*told(*TOKENS[:2]), event(ERROR), DONE), CLOSED, "error", ""),
    ("error event, then a reset", True, chunked(*told(*TOKENS[:2]), event(ERROR), end=False), RESET, "error", ""),
    ("improper error event", True, chunked(event({"error": "no"}), DONE), CLOSED, "disguised", "error in the body"),
    ("error text as an answer", False, answer("Sorry, an error occurred."), CLOSED, "disguised", "foreign_text"),
    ("error object with 200", False, with_length("200 OK", ERROR_BODY), CLOSED, "disguised", "error"),
    ("HTML with 200", False, HTML_PAGE, CLOSED, "disguised", "text/html"),
    ("HTML for a stream", True, HTML_PAGE, CLOSED, "disguised", "text/html"),
    ("JSON for a stream", True, answer(TEXT), CLOSED, "disguised", "no answer"),
    ("stream for JSON", False, chunked(*told(*TOKENS), DONE), CLOSED, "disguised", "no answer"),
    ("empty body", False, with_length("200 OK", b""), CLOSED, "disguised", "not the JSON"),
    ("empty text", False, answer(""), CLOSED, "disguised", "empty"),
    ("no text", False, answer(None), CLOSED, "disguised", "empty"),
    ("truncated JSON", False, with_length("200 OK", b'{"choices": [{"mess'), CLOSED, "disguised", "JSON"),
    ("empty stream", True, chunked(DONE), CLOSED, "disguised", "empty"),
    ("status 204", False, b"HTTP/1.1 204 No Content\r\n\r\n", CLOSED, "disguised", "204"),
    ("whole text with 201", False, answer(TEXT, "201 Created"), CLOSED, "disguised", "201"),
    ("somebody else's answer", False, answer(TEXT.replace(ID, "000043")), CLOSED, "disguised", "other_request"),
    ("somebody else's stream", True, chunked(*told(*OTHER), DONE), CLOSED, "disguised", "other"),
    ("malformed event", True, chunked(*told(*TOKENS), event(b"{oops"), DONE), CLOSED, "disguised", "7"),
    ("line that is no event", True, chunked(*told(*TOKENS), b"oops\n\n", DONE), CLOSED, "disguised", "no server-sent"),
    ("JSON cut by a reset", False, answer(TEXT)[:-5], RESET, "cut", "reset"),
    ("JSON cut by a close", False, answer(TEXT)[:-5], CLOSED, "cut", "closed"),
    ("head cut", False, b"HTTP/1.1 200 OK\r\ncont", RESET, "cut", "head"),
    ("no HTTP", False, b"SSH-2.0-OpenSSH_9.6\r\n", CLOSED, "cut", "not HTTP"),
    ("stream without its last chunk", True, chunked(*told(*TOKENS), DONE, end=False), CLOSED, "cut", "closed"),
    ("stream cut in an event", True, chunked(*told(*TOKENS))[:-40], RESET, "cut", "reset"),
    ("no end mark", True, chunked(*told(*TOKENS)), CLOSED, "cut", "[DONE]"),
    ("end mark, then more", True, chunked(*told(*TOKENS), DONE, event({"choices": []})), CLOSED, "cut", "[DONE]"),
    ("half an event after the end mark", True, chunked(*told(*TOKENS), DONE, b"data: {"), CLOSED, "cut", "[DONE]"),
    ("short text", False, answer("".join(TOKENS[:4])), CLOSED, "cut", "cut after 4"),
    ("text that ends inside a token", False, answer(TEXT[:-9]), CLOSED, "cut", "cut after 5"),
    ("short stream with an end mark", True, chunked(*told(*TOKENS[:4]), DONE), CLOSED, "cut", "cut after 4"),
    ("gap", True, chunked(*told(*TOKENS[:2], *TOKENS[3:]), DONE), CLOSED, "cut", "gap"),
    ("repeated token", True, chunked(*told(*TOKENS[:2], *TOKENS[1:]), DONE), CLOSED, "cut", "repeated"),
    ("too large", False, with_length("200 OK", b" " * (MAX_BODY_BYTES + 1)), CLOSED, "cut", "larger"),
    ("deadline before a byte", False, b"", DEADLINE, "hung", "no byte"),
    ("deadline in a stream", True, chunked(*told(*TOKENS[:2]), end=False), DEADLINE, "hung", "bytes of body"),
    ("deadline though the text is whole", True, chunked(*told(*TOKENS), DONE, end=False), DEADLINE, "hung", "30 s"),
    ("stopped", True, chunked(*told(*TOKENS[:2]), end=False), STOPPED, "dropped", "stopped by the harness"),
]  # fmt: skip
BY_NAME = {rule[0]: rule for rule in RULES}


def receive(data: bytes, cuts: list[int], *, stream: bool, ending: Ending) -> RequestRecord:
    """Feed `data` split at `cuts`, as the client does; the clock shows the offset of each piece."""
    reception = Reception(stream=stream)
    at_end = False
    for start, end in pairwise([0, *sorted(set(cuts)), len(data)]):
        if end > start and not at_end:
            at_end = reception.feed(data[start:end], start)
    if not at_end and ending.kind == "answered":
        reception.close()
    trip = Trip(request_id=ID, stream=stream, intended_ns=0, sent_ns=1, end_ns=2, reused=False)
    return record_of(trip, ending, reception, wall_s=1_700_000_000.0)


@pytest.mark.parametrize("name", list(BY_NAME))
def test_rule(name: str) -> None:
    """Each answer has its outcome, and whatever is not whole says why in one line."""
    _, stream, data, ending, outcome, words = BY_NAME[name]
    record = receive(data, [], stream=stream, ending=ending)
    assert record.outcome == outcome
    assert words in (record.problem or "")
    assert (record.problem is None) == (outcome == "whole")
    assert "\n" not in (record.problem or "")


@given(name=st.sampled_from([name for name in BY_NAME if name != "too large"]), data=st.data())
def test_the_split_changes_nothing(name: str, data: st.DataObject) -> None:
    """However the bytes are split on their way, the record is the same but for the times of arrival."""
    _, stream, sent, ending, _, _ = BY_NAME[name]
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=30))
    expected = receive(sent, [], stream=stream, ending=ending)
    found = receive(sent, cuts, stream=stream, ending=ending)
    assert msgspec.structs.replace(found, first_byte_ns=None) == msgspec.structs.replace(expected, first_byte_ns=None)


def test_no_text_is_kept() -> None:
    """A record holds the hash of a text and nothing else of it, neither from an answer nor from an error message."""
    secret = "the patient is called Ada"
    for stream, data in (
        (False, answer(secret)),
        (True, chunked(*told(secret), DONE)),
        (False, with_length("503 No", json.dumps({"error": {"code": "busy", "message": secret}}).encode())),
        (False, with_length("200 OK", secret.encode())),
    ):
        record = receive(data, [], stream=stream, ending=CLOSED)
        assert b"Ada" not in msgspec.json.encode(record)
    assert (
        receive(answer(TEXT), [], stream=False, ending=CLOSED).text_sha256 == hashlib.sha256(TEXT.encode()).hexdigest()
    )


def test_the_provider_that_finished_is_preferred() -> None:
    """The last chunk's word goes before the header's, and the text speaks only where neither does."""
    moved = [*TOKENS[:3], *answer_tokens("claude", ID, 6, 4)]
    last = event({"choices": [], "seawall": {"provider": "claude"}})
    header = "x-seawall-provider: gemini\r\n"
    told_last = receive(chunked(*told(*moved), last, DONE, headers=header), [], stream=True, ending=CLOSED)
    assert (told_last.outcome, told_last.provider) == ("whole", "claude")
    assert told_last.providers_in_text == ["gemini", "claude"]
    assert receive(chunked(*told(*moved), DONE, headers=header), [], stream=True, ending=CLOSED).provider == "gemini"
    assert receive(chunked(*told(*moved), DONE), [], stream=True, ending=CLOSED).provider == "claude"


def test_times_of_arrival() -> None:
    """The first byte is the body's for JSON and the first token's for a stream; empty events do not count."""
    body = answer(TEXT)
    start = body.index(b"{")
    assert receive(body, [5, start, start + 4], stream=False, ending=CLOSED).first_byte_ns == start
    role = event({"choices": [{"delta": {"role": "assistant"}}]})
    sent = chunked(role, *told(*TOKENS), DONE)
    token = sent.index(TOKENS[0].encode())
    end = sent.index(b"\n\n", token) + 1
    record = receive(sent, [token, end, end + 40], stream=True, ending=CLOSED)
    assert (record.first_byte_ns, record.chunks, record.tokens) == (end, 6, 6)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("nan", None),
    ],
)
def test_retry_after(header: str, seconds: float | None) -> None:
    """`retry-after` is read as seconds or as a date, which never lies in the past; anything else is unknown."""
    data = with_length("503 No", ERROR_BODY, f"retry-after: {header}")
    assert receive(data, [], stream=False, ending=CLOSED).retry_after_s == seconds


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (answer(TEXT), True),
        (answer(TEXT).replace(b"\r\ncontent", b"\r\nconnection: close\r\ncontent"), False),
        (answer(TEXT).replace(b"HTTP/1.1", b"HTTP/1.0"), False),
        (answer(TEXT) + b"HTTP/1.1 200 OK\r\n", False),
        (answer(TEXT) + answer(TEXT), False),
        (answer(TEXT).replace(b"content-length", b"x-was"), False),
    ],
)
def test_a_connection_is_kept_only_when_it_is_clean(data: bytes, expected: bool) -> None:
    """A connection serves again after a complete answer that allows it, never with bytes left over."""
    reception = Reception(stream=False)
    if not reception.feed(data, 0):
        reception.close()
    assert reception.complete
    assert reception.text == TEXT
    assert reception.keep_alive is expected
