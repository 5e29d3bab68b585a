"""
What has arrived of one answer, fed as it arrives. No I/O: bytes and their time go in, facts come out.

The facts do not depend on how the bytes were split on their way.
"""

from __future__ import annotations

from typing import Any

import httptools
import msgspec

__all__ = ["MAX_BODY_BYTES", "Reception", "error_code"]

MAX_BODY_BYTES = 8 * 1024 * 1024
"""More than this of one answer is not read."""

_MAX_CODE = 64


class _Text(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Text | None = None
    message: _Text | None = None


class _Told(msgspec.Struct):
    provider: str | None = None


class _Completion(msgspec.Struct):
    """What matters here of a chat completion or of one chunk of it."""

    choices: list[_Choice] | None = None
    error: Any = None
    seawall: _Told | None = None


_decode_completion = msgspec.json.Decoder(_Completion).decode


def error_code(error: object) -> str | None:
    """Return the stable code of an OpenAI-style error object (else its type), or None when it is no proper one."""
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    for field in ("code", "type"):
        value = error.get(field)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value)[:_MAX_CODE]
    return None


class Reception:
    """The state of one answer. `stream` says whether server-sent events were asked for."""

    def __init__(self, *, stream: bool) -> None:
        self.stream = stream
        self.started = False
        """Whether a single byte has arrived."""
        self.body_bytes = 0
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.complete = False
        """Whether the HTTP message has come to its end."""
        self.keep_alive = False
        """Whether another request may follow on the connection."""
        self.unreadable: str | None = None
        """Why the bytes are no HTTP answer, if they are none."""
        self.first_body_ns: int | None = None
        self.first_token_ns: int | None = None
        self._last_token_ns: int | None = None
        self.longest_gap_ns = 0
        """The longest time between two events with content."""
        self.chunks = 0
        """Events with content."""
        self.done = False
        """Whether the last event was `[DONE]`."""
        self.malformed: str | None = None
        """The first thing in the body that is no JSON of the expected shape."""
        self.error: Any = None
        """The first error object, from the body or an event."""
        self.provider: str | None = None
        """The provider that the body told."""
        self._text: list[str] = []
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._now_ns = 0
        self._line = b""
        self._data: list[bytes] = []
        self._events = 0

    @property
    def text(self) -> str:
        """The answer's text so far."""
        return "".join(self._text)

    def feed(self, data: bytes, now_ns: int) -> bool:
        """Take bytes that arrived at `now_ns`; return whether the answer is at its end (complete or unreadable)."""
        self.started = True
        self._now_ns = now_ns
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._ruin(f"the answer is not HTTP: {str(error) or type(error).__name__}")
        except httptools.HttpParserUpgrade:
            self._ruin("the answer switches protocols")
        return self.complete or self.unreadable is not None

    def close(self) -> None:
        """Take note that the peer closed its side in good order: some answers end by that."""
        framed = "content-length" in self.headers or "transfer-encoding" in self.headers
        if self.status is not None and not framed and not self.complete and self.unreadable is None:
            self._finish()

    def _ruin(self, why: str) -> None:
        # Whatever follows a complete message is no part of it, but the connection is of no more use.
        self.keep_alive = False
        if not self.complete:
            self.unreadable = self.unreadable or why

    # Callbacks of the HTTP parser.

    def on_message_begin(self) -> None:
        if self.complete:
            self.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self.headers.clear()
        elif not self.complete:
            self.status = status

    def on_body(self, body: bytes) -> None:
        if self.complete or self.unreadable:
            return
        if self.first_body_ns is None:
            self.first_body_ns = self._now_ns
        self.body_bytes += len(body)
        if self.body_bytes > MAX_BODY_BYTES:
            self._ruin(f"the answer is larger than {MAX_BODY_BYTES} bytes")
        elif self.stream and self.status == 200:
            self._feed_lines(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        if self.status is not None and not self.complete and not self.unreadable:
            # Asked any later, the parser has forgotten it.
            self.keep_alive = self._parser.should_keep_alive()
            self._finish()

    # The body.

    def _finish(self) -> None:
        self.complete = True
        if not (self.stream and self.status == 200):
            self._read_body()
            return
        self._feed_lines(b"\n" if self._line else b"")
        if self._data:
            # An event without its empty line is not delivered; only the end mark is forgiven.
            self.done = self._data == [b"[DONE]"]
            self._data.clear()

    def _read_body(self) -> None:
        completion = self._decode(bytes(self._body), "the body")
        if completion and completion.choices and completion.choices[0].message:
            self._text.append(completion.choices[0].message.content or "")

    def _decode(self, data: bytes, where: str) -> _Completion | None:
        try:
            completion = _decode_completion(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.malformed = self.malformed or f"{where} is not the JSON of an answer"
            return None
        if completion.error is not None and self.error is None:
            self.error = completion.error
        if completion.seawall and completion.seawall.provider:
            self.provider = completion.seawall.provider
        return completion

    def _feed_lines(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._take_line(line.removesuffix(b"\r"))

    def _take_line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self.done = False
            self._data.append(line[5:].removeprefix(b" "))
        elif not line and self._data:
            data = b"\n".join(self._data)
            self._data.clear()
            self._take_event(data)
        elif line and not line.startswith((b":", b"event:", b"id:", b"retry:")):
            self.malformed = self.malformed or "the stream holds a line that is no server-sent event"

    def _take_event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.done = True
            return
        self._events += 1
        completion = self._decode(data, f"event {self._events}")
        if not completion or not completion.choices or not completion.choices[0].delta:
            return
        content = completion.choices[0].delta.content
        if content:
            self.chunks += 1
            if self._last_token_ns is not None:
                self.longest_gap_ns = max(self.longest_gap_ns, self._now_ns - self._last_token_ns)
            self._last_token_ns = self._now_ns
            self._text.append(content)
            if self.first_token_ns is None:
                self.first_token_ns = self._now_ns
