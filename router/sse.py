"""
Incremental splitters of streams: server-sent events and newline-delimited JSON. Pure.

Bytes go in as they arrive, in any portions; whole events come out. After the WHATWG specification of
`text/event-stream`, as far as LLM vendors use it: `event` and `data` fields, comments, LF and CRLF line ends.
"""

from __future__ import annotations

from router.errors import InvalidAnswer

__all__ = ["EVENT_BYTES_MAX", "LineSplitter", "SseSplitter"]

EVENT_BYTES_MAX = 4 * 1024 * 1024
"""The most bytes that one event or line may have before the stream is refused."""


class LineSplitter:
    """Split a byte stream into lines without their ends. Raises InvalidAnswer for a line over the limit."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > EVENT_BYTES_MAX or any(len(line) > EVENT_BYTES_MAX for line in lines):
            raise InvalidAnswer(f"a line of the stream is longer than {EVENT_BYTES_MAX} bytes")
        return [line.removesuffix(b"\r") for line in lines]

    def rest(self) -> bytes:
        """Return what came after the last line end: a last line without an end, or a cut one."""
        return self._rest


class SseSplitter:
    """Split a byte stream into server-sent events, each as (event name or None, data)."""

    def __init__(self) -> None:
        self._lines = LineSplitter()
        self._name: bytes | None = None
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[tuple[bytes | None, bytes]]:
        """Return the events that `data` completes. Raises InvalidAnswer for an event over the limit."""
        events: list[tuple[bytes | None, bytes]] = []
        for line in self._lines.feed(data):
            if not line:
                if self._data:
                    events.append((self._name, b"\n".join(self._data)))
                self._name, self._data, self._size = None, [], 0
                continue
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                self._data.append(value)
                self._size += len(value)
                if self._size > EVENT_BYTES_MAX:
                    raise InvalidAnswer(f"an event of the stream is longer than {EVENT_BYTES_MAX} bytes")
            elif field == b"event":
                self._name = value
        return events
