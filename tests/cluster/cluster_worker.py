"""
A small HTTP server for pods of the tests: starts in 50 ms, streams, burns CPU, crashes, lies.

    python cluster_worker.py --host 127.1.2.3 --port 8000 [--not-ready] [--ignore-sigterm] [--crash-after SECONDS]

`/healthz` 200 until `/sicken` was asked; `/readyz` 200, with --not-ready 503; `/stream` ten chunks in a second, then
the end; `/burn` 10 ms of CPU; `/crash` ends it with exit code 7; `/` its host name. On SIGTERM it stops listening, ends
what it is answering, and ends with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import time


class Worker:
    """The server."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.stopping = asyncio.Event()
        self.is_well = True
        self.busy = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer what comes over one connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while not self.stopping.is_set() and (head := await reader.readuntil(b"\r\n\r\n")):
                self.busy += 1
                try:
                    await self.reply(head.split(b" ")[1].decode(), writer)
                finally:
                    self.busy -= 1
        writer.close()

    async def reply(self, path: str, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        if path == "/stream":
            await _stream(writer)
            return
        if path == "/crash":
            os._exit(7)
        if path == "/burn":
            _burn()
        if path == "/sicken":
            self.is_well = False
        bad = (path == "/healthz" and not self.is_well) or (path == "/readyz" and self.options.not_ready)
        body = os.environ.get("HOSTNAME", "").encode()
        close = b"Connection: close\r\n" if self.stopping.is_set() else b""
        status = 503 if bad else 200
        writer.write(b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n%s" % (status, close, len(body), body))
        await writer.drain()

    async def serve(self) -> None:
        """Serve until SIGTERM."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, (lambda: None) if self.options.ignore_sigterm else self.stopping.set)
        if self.options.crash_after is not None:
            loop.call_later(self.options.crash_after, os._exit, 7)
        server = await asyncio.start_server(self.answer, self.options.host, self.options.port)
        await self.stopping.wait()
        server.close()
        while self.busy:  # noqa: ASYNC110 - the few milliseconds do not matter here
            await asyncio.sleep(0.01)


async def _stream(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for number in range(10):
        writer.write(b"7\r\nchunk %d\r\n" % number)
        await writer.drain()
        await asyncio.sleep(0.1)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def _burn() -> None:
    end = time.process_time() + 0.01
    while time.process_time() < end:
        pass


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--not-ready", action="store_true")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--crash-after", type=float)
    return parser.parse_args()


asyncio.run(Worker(_options()).serve())
