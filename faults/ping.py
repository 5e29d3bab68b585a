"""
One probe of the wire: a raw socket of its own, one ping through a proxy, and what came of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Callable

import msgspec

from faults.base import FaultError
from faults.samples import Ending, Sample, Shape

__all__ = ["PING_PATH", "Address", "Witness", "probe"]

PING_PATH = "/_seawall/ping"
"""Untouched by an emulator's behaviours and not counted as a call."""

Address = tuple[str, int]
"""Host (numeric) and port of the proxy."""

Witness = Callable[[str], int | None]
"""
Asks the provider when it saw the end of the connection of the ping that was named so, in CLOCK_MONOTONIC nanoseconds.

None for not yet. May block; raises FaultError when the provider cannot be asked.
"""

_ASK_AGAIN_S = 0.05
_READ_BYTES = 65_536


async def probe(address: Address, shape: Shape, witness: Witness | None = None) -> Sample:
    """
    Send one probe and return what it met. Raises FaultError when this machine itself cannot send it.

    `witness` is asked when the shape is `witnessed`.
    """
    loop = asyncio.get_running_loop()
    watch = _Watch(loop.time())
    name = secrets.token_hex(8)
    sample: Sample | None = None
    wire = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        wire.setblocking(False)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout_at(watch.began + shape.deadline_s):
            try:
                await loop.sock_connect(wire, address)
            except ConnectionRefusedError:
                return watch.sample(loop.time(), "refused")
            except ConnectionResetError:
                return watch.sample(loop.time(), "reset")
            watch.connected = loop.time()
            # A peer that broke the connection meanwhile shows best in what is read: an end, or a reset.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await loop.sock_sendall(wire, _request(address, shape, name))
            sample = await _read(loop, wire, watch, shape)
            if not shape.witnessed or witness is None or sample.ended != "whole":
                return sample
            wire.close()
            return msgspec.structs.replace(sample, fin_s=await _seen_by(witness, name))
    except TimeoutError:
        # A witness that has not seen our end yet leaves the answer itself whole.
        return sample if sample is not None else watch.sample(loop.time(), "deadline")
    except OSError as error:
        raise FaultError(f"a probe to {address[0]}:{address[1]} could not be sent: {error}") from error
    finally:
        wire.close()


class _Watch:
    """Takes the times of one probe."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.connected: float | None = None
        self.first: float | None = None
        self.last: float | None = None
        self.bytes = 0
        self.segments = 0
        self.status: int | None = None

    def received(self, now: float, size: int) -> None:
        self.first = now if self.first is None else self.first
        self.last = now
        self.bytes += size
        self.segments += 1

    def sample(self, now: float, ended: Ending) -> Sample:
        def since(moment: float | None) -> float | None:
            return None if moment is None else moment - self.began

        return Sample(
            connect_s=since(self.connected),
            first_byte_s=since(self.first),
            last_byte_s=since(self.last),
            end_s=now - self.began,
            bytes=self.bytes,
            ended=ended,
            segments=self.segments,
            status=self.status,
        )


async def _seen_by(witness: Witness, name: str) -> float:
    """Return how long after now the provider saw the end of our connection, in seconds."""
    closed_ns = time.monotonic_ns()
    while True:
        seen_ns = await asyncio.to_thread(witness, name)
        if seen_ns is not None:
            return (seen_ns - closed_ns) / 1e9
        await asyncio.sleep(_ASK_AGAIN_S)


async def _read(loop: asyncio.AbstractEventLoop, wire: socket.socket, watch: _Watch, shape: Shape) -> Sample:
    received = bytearray()
    length: int | None = None
    while True:
        try:
            data = await loop.sock_recv(wire, _READ_BYTES)
        except (ConnectionResetError, BrokenPipeError):
            return watch.sample(loop.time(), "reset")
        now = loop.time()
        if data:
            watch.received(now, len(data))
            if length is None:
                received += data
                watch.status, length = _pong(received) if shape.protocol == "resp" else _head(received)
        whole = length is not None and watch.bytes >= length
        if whole and not (data and shape.close):
            return watch.sample(now, "whole")
        if not data:
            return watch.sample(now, "eof")


def _head(received: bytearray) -> tuple[int | None, int | None]:
    """Return the status and the length of the whole answer in bytes, as soon as its head is there."""
    head, end, _ = bytes(received).partition(b"\r\n\r\n")
    if not end:
        return None, None
    lines = head.lower().split(b"\r\n")
    words = lines[0].split()
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else None
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length" and value.strip().isdigit():
            return status, len(head) + len(end) + int(value)
    return status, None


def _pong(received: bytearray) -> tuple[int | None, int | None]:
    """Return 200 for Redis's PONG and 500 for another reply, and its length in bytes, as soon as its line is there."""
    line, end, _ = bytes(received).partition(b"\r\n")
    if not end:
        return None, None
    return (200 if line == b"+PONG" else 500), len(line) + len(end)


def _request(address: Address, shape: Shape, name: str) -> bytes:
    if shape.protocol == "resp":
        return b"PING\r\n"
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    lines = [
        f"POST {PING_PATH}?reply_bytes={shape.reply_bytes}&id={name} HTTP/1.1",
        f"host: {host}:{address[1]}",
        "content-type: application/octet-stream",
        f"content-length: {shape.request_bytes}",
        *(["connection: close"] if shape.close else []),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + b"." * shape.request_bytes
