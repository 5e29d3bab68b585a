"""
Turn work that hands pieces over into an async generator that is asked for them.

The work runs in the task of whoever asks, one piece a time, as a generator's body does: no task, no queue, and what the
event loop is waited for passes through.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from types import coroutine
from typing import Any

from router.models import Chunk
from router.run import Deliver

__all__ = ["pulled"]


async def pulled(begin: Callable[[Deliver], Coroutine[Any, Any, Chunk]]) -> AsyncGenerator[Chunk]:
    """Yield what the coroutine of `begin(deliver)` hands to `deliver`, then what it returns. Closing it ends that."""
    work, is_over = begin(_hand_over), False
    while not is_over:
        piece, is_over = await _run(work)
        try:
            yield piece
        except BaseException as error:
            if not is_over:
                await _run(work, error)
            raise


@coroutine
def _hand_over(chunk: Chunk) -> Generator[Chunk]:
    yield chunk


@coroutine
def _run(
    work: Coroutine[Any, Any, Chunk], error: BaseException | None = None
) -> Generator[Any, Any, tuple[Chunk, bool]]:
    """Run `work` until it hands over a piece (and False) or returns one (and True), from where it stands or `error`."""
    try:
        while True:
            waited = work.send(None) if error is None else work.throw(error)
            if isinstance(waited, Chunk):
                return waited, False
            error = None
            try:
                yield waited
            except BaseException as found:  # noqa: BLE001 - a cancellation, or what the future came to
                error = found
    except StopIteration as end:
        return end.value, True
