"""Heads that come again on a connection mean what they meant, and nothing else passes for them."""

from __future__ import annotations

import pytest

from seawall.gateway.repeats import learn

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\n"
LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
HEADERS = {b"host": b"test", b"content-length": b"5", b"accept": b"*/*"}


def _request(length: bytes = b"5", body: bytes = b"hello", head: bytes = HEAD) -> bytes:
    return head + b"Content-Length: " + length + b"\r\naccept: */*\r\n\r\n" + body


def test_a_head_is_known_again_by_all_but_its_length() -> None:
    """Headers and body of a request with the same head are those that a parser would find."""
    known = learn(_request(), LINE, HEADERS)
    assert known is not None
    assert known.match(_request()) == (HEADERS, b"hello")
    assert known.match(_request(b"12", b"hello, world")) == (HEADERS | {b"content-length": b"12"}, b"hello, world")
    assert known.match(_request(b"0", b"")) == (HEADERS | {b"content-length": b"0"}, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        _request()[:-1],
        _request() + b"x",
        _request() * 2,
        _request(b"6"),
        _request(b"4"),
        _request(b"+5"),
        _request(b" 5"),
        _request(b"5 "),
        _request(b"5_"),
        _request(b""),
        _request(b"\xb2"),
        _request(b"5\r\ntransfer-encoding: chunked"),
        _request(b"5\r\nContent-Length: 5"),
        _request(b"000000005"),
        _request(head=HEAD.replace(b"test", b"tess")),
        _request(head=HEAD.replace(b"POST", b"post")),
        _request().replace(b"accept", b"Accept"),
        _request().replace(b"\r\naccept", b"\naccept"),
    ],
)
def test_what_is_not_the_same_head_with_its_body_is_left_to_the_parser(data: bytes) -> None:
    """A byte more, less or other than the digits of a right length: not known."""
    known = learn(_request(), LINE, HEADERS)
    assert known is not None
    assert known.match(data) is None


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (_request()[:-1], HEADERS),
        (_request() * 2, HEADERS),
        (b"\r\n" + _request(), HEADERS),
        (_request(b"6"), HEADERS),
        (_request(head=HEAD + b"x-long: " + b"y" * 4096 + b"\r\n"), HEADERS),
        (HEAD + b"\r\n", {b"host": b"test"}),
        (_request(), HEADERS | {b"content-length": b"7"}),
        (_request().replace(b"POST", b"PUT"), HEADERS),
    ],
)
def test_only_one_whole_request_teaches_a_head(data: bytes, headers: dict[bytes, bytes]) -> None:
    """Bytes that are more or less than one short request, or that were read in another way, are not remembered."""
    assert learn(data, LINE, headers) is None
