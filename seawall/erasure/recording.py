"""
A router that keeps a sealed transcript of every answer to a named subject.

    closed   the key is at hand before a provider is asked, and the record on disk before the answer's end goes out
    open     nothing waits: what cannot be sealed and kept in time goes unrecorded, and that is told
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

from router.errors import SeawallError
from router.models import Chunk, Reply, Request
from router.run import Deliver
from router.settings import Settings
from seawall.equipped import EquippedRouter
from seawall.erasure.errors import KeyStoreDown, TranscriptsDown
from seawall.erasure.key_store import DataKey
from seawall.erasure.opening import Archive, open_archive
from seawall.erasure.subjects import subject_of
from seawall.gateway.config import GatewaySettings
from seawall.screen import complain

__all__ = ["Recorder", "RecordingRouter"]

_PENDING_MAX = 1000
_PAUSE_S = 1.0
"""After the key store has failed nobody waits for it again for so long."""
_THREADS = 4
_TELL_EVERY_S = 10.0


class Recorder:
    """
    Seals and keeps records beside the event loop, in threads.

    `is_open` says what TRANSCRIPTS_DOWN is. `missed` is told of each answer that goes unrecorded why: `key_store`,
    `transcript_store` or `queue_full`. Of the methods only `key` and `keep` wait.
    """

    def __init__(
        self, archive: Archive, *, is_open: bool, missed: Callable[[str], None] = lambda _reason: None
    ) -> None:
        self.is_open = is_open
        self._missed = missed
        self.unrecorded = 0
        """How many answers went unrecorded."""
        self._archive = archive
        # Two pools: a key store that hangs must not hold up who has a key already.
        self._askers = ThreadPoolExecutor(_THREADS, "transcript-keys")
        self._writer = ThreadPoolExecutor(1, "transcripts")
        self._pending: set[asyncio.Task[None]] = set()
        self._down_until_s = 0.0
        self._told_s = float("-inf")

    async def key(self, subject: str) -> DataKey:
        """Return a subject's key. Raises TranscriptsDown; at once, when the key store has just failed."""
        if time.monotonic() < self._down_until_s:
            raise KeyStoreDown("the key store of the transcripts has just failed; try again in a second")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._askers, self._archive.keys.get, subject)
        except KeyStoreDown as error:
            self._down_until_s = time.monotonic() + _PAUSE_S
            self._tell(error)
            raise KeyStoreDown("the key store of the transcripts is away; try again") from error

    async def keep(self, subject: str, key: DataKey, record: dict[str, Any]) -> None:
        """Seal a record and return when it is on disk. Raises TranscriptsDown."""

        def work() -> None:
            self._archive.transcripts.add([self._archive.sealed(subject, key, record)])

        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, work)
        except TranscriptsDown as error:
            self._tell(error)
            raise TranscriptsDown("the transcript could not be kept; try again") from error

    def offer(self, subject: str, record: dict[str, Any], key: DataKey | None = None) -> None:
        """Have a record sealed and kept soon, if it can be; else count it as unrecorded."""
        if len(self._pending) >= _PENDING_MAX:
            self._miss("queue_full", TranscriptsDown(f"{_PENDING_MAX} transcripts are waiting already"))
            return

        async def work() -> None:
            try:
                await self.keep(subject, key or await self.key(subject), record)
            except TranscriptsDown as error:
                self._miss("key_store" if isinstance(error, KeyStoreDown) else "transcript_store", error)

        task = asyncio.get_running_loop().create_task(work())
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def aclose(self) -> None:
        """Wait for what was offered, then close the stores."""
        while self._pending:
            await asyncio.wait(list(self._pending))
        self._askers.shutdown()
        self._writer.shutdown()
        self._archive.close()

    def _miss(self, reason: str, error: TranscriptsDown) -> None:
        self.unrecorded += 1
        self._missed(reason)
        self._tell(error)

    def _tell(self, error: TranscriptsDown) -> None:
        """Say what is wrong, at most once in ten seconds; no subject and no text is in it."""
        now_s = time.monotonic()
        if now_s - self._told_s >= _TELL_EVERY_S:
            self._told_s = now_s
            complain(f"seawall serve: transcripts: {error}; unrecorded so far: {self.unrecorded}")


class RecordingRouter(EquippedRouter):
    """
    An EquippedRouter that keeps a sealed transcript of every answer to a request whose subject is named.

    `gateway` says where and how (TRANSCRIPTS and its like), `missed` is told why an answer went unrecorded. Raises
    ConfigurationError.
    """

    def __init__(
        self,
        gateway: GatewaySettings,
        settings: Settings,
        *,
        missed: Callable[[str], None] = lambda _reason: None,
        **options: Any,
    ) -> None:
        allowed = settings.airgap_allowed() if settings.airgap_mode else None
        archive = open_archive(gateway, allowed=allowed)
        try:
            super().__init__(settings, **options)
        except BaseException:
            archive.close()
            raise
        self.recorder = Recorder(archive, is_open=gateway.transcripts_down == "open", missed=missed)

    async def aclose(self) -> None:
        """Close the router, then the stores."""
        await super().aclose()
        await self.recorder.aclose()

    async def complete(self, request: Request) -> Reply:
        """See HybridRouter; with TRANSCRIPTS_DOWN=closed it also raises TranscriptsDown."""
        subject = subject_of(request.user)
        if not subject:
            return await super().complete(request)
        recorder = self.recorder
        key = None if recorder.is_open else await recorder.key(subject)
        reply = await super().complete(request)
        record = _record(request, reply.text or reply.refusal, reply.provider, reply.model, "whole")
        if reply.tool_calls:
            record["tool_calls"] = reply.tool_calls
        if key is None:
            recorder.offer(subject, record)
        else:
            await recorder.keep(subject, key, record)
        return reply

    def stream(self, request: Request) -> AsyncGenerator[Chunk]:
        """See HybridRouter; with TRANSCRIPTS_DOWN=closed it also raises TranscriptsDown."""
        subject = subject_of(request.user)
        chunks = super().stream(request)
        return self._recorded(subject, request, chunks) if subject else chunks

    async def relay(self, request: Request, deliver: Deliver) -> Chunk:
        """See HybridRouter: what is recorded goes the way of `stream`."""
        if not subject_of(request.user):
            return await super().relay(request, deliver)
        async with aclosing(self.stream(request)) as chunks:
            async for chunk in chunks:
                if chunk.stop_reason is not None:
                    return chunk
                await deliver(chunk)
        raise SeawallError("the answer ended without its last chunk")

    async def _recorded(self, subject: str, request: Request, chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
        recorder = self.recorder
        parts: list[str] = []
        last: Chunk | None = None
        kept = False
        async with aclosing(chunks):
            key = None if recorder.is_open else await recorder.key(subject)
            try:
                async for chunk in chunks:
                    last = chunk
                    parts.append(chunk.text or chunk.refusal)
                    if chunk.stop_reason is not None:
                        kept = True
                        record = _record(request, "".join(parts), chunk.provider, chunk.model, "whole")
                        if key is None:
                            recorder.offer(subject, record)
                        else:  # its client is not to have the end of an answer that is not kept
                            await recorder.keep(subject, key, record)
                    yield chunk
            finally:
                if last is not None and not kept:  # what went out belongs to the conversation, whole or not
                    recorder.offer(subject, _record(request, "".join(parts), last.provider, last.model, "cut"), key)


def _record(request: Request, answer: str, provider: str, model: str, outcome: str) -> dict[str, Any]:
    return {
        "at": round(time.time(), 3),
        "request_id": request.request_id,
        "outcome": outcome,
        "provider": str(provider),
        "model": model,
        "messages": request.messages,
        "answer": answer,
    }
