"""
A toxic that Toxiproxy does not let go of.

Toxiproxy 2.12 takes 5 to 25 s to delete a toxic that holds data back (bandwidth above all) when a client has left in
the middle of an answer some milliseconds before: nobody reads what it flushes, 5 s for each piece, and it keeps a lock
meanwhile, so that the proxy accepts nobody and its API tells nothing of it. The same befalls a latency after a timeout
at the same proxy was deleted, which leaves links that nobody reads. Cutting the proxy's links ends the supply of
further pieces; the deletion itself can only be waited for.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from faults.base import FaultError
from faults.down import enable_unless_held
from faults.toxiproxy import Toxiproxy, ToxiproxyError

__all__ = ["PATIENCE", "remove_toxic"]

PATIENCE = 14.0
"""
How many times longer than the first the second deletion may take: 42 s of 3 s. Toxiproxy waits 5 s for each chunk
that a connection left behind; 25 s were seen.
"""
_TRY = 2.0
"""How many times longer than the first each further try may take: only between tries can the wait be given up."""


def remove_toxic(
    server: Toxiproxy,
    proxy: str,
    toxic: str,
    *,
    owned: bool,
    patience: float = PATIENCE,
    is_needed: Callable[[], bool] = lambda: True,
) -> str | None:
    """
    Delete a toxic; that there is none is fine.

    When the call hangs, the proxy is disabled, the deletion tried again with more patience, and the proxy enabled; only
    when that fails too is the proxy deleted. A proxy that is not `owned` is only waited for. Without `patience` there
    is no second try, and once `is_needed` says no there is no further one: of a run that is no more, or is being broken
    off, nobody needs the proxy. Returns what was done besides the deletion, or None. Raises ToxiproxyError.
    """
    try:
        server.delete_toxic(proxy, toxic)
    except ToxiproxyError as error:
        if not error.timed_out or not (owned or patience):
            raise
    else:
        return None
    hung = f"Toxiproxy did not delete the toxic within {server.deadline_s:g} s"
    if owned and not (patience and is_needed()):
        return f"{hung}; {_sacrifice(server, proxy)}"
    limit_s = server.deadline_s * patience
    if not owned:
        _delete_patiently(server, proxy, toxic, limit_s)
        return f"{hung}; it was waited for, as the proxy is not ours"
    _cut(server, proxy)
    began_s = time.monotonic()
    try:
        _delete_patiently(server, proxy, toxic, limit_s, is_needed)
    except ToxiproxyError as error:
        if error.gone:
            raise
        waited_s = time.monotonic() - began_s
        return f"{hung}, nor within {waited_s:.0f} s with its links cut; {_sacrifice(server, proxy)}"
    done = f"{hung}; the proxy was disabled, which cut its links, and the toxic was deleted"
    try:
        held = enable_unless_held(server, proxy)
    except ToxiproxyError as error:
        if error.gone:
            return done
        raise FaultError(f"{done}, but the proxy could not be enabled again: {error}") from error
    return f"{done}; {held or 'the proxy was enabled again'}"


def _delete_patiently(
    server: Toxiproxy, proxy: str, toxic: str, limit_s: float, is_needed: Callable[[], bool] = lambda: True
) -> None:
    """Delete a toxic in several tries. Raises ToxiproxyError: the last one's when the time, or the need, has ended."""
    until_s = time.monotonic() + limit_s
    while True:
        left_s = max(0.1, until_s - time.monotonic())
        patient = Toxiproxy(
            server.url, deadline_s=min(left_s, _TRY * server.deadline_s), allow_remote=server.allow_remote
        )
        try:
            patient.delete_toxic(proxy, toxic)
        except ToxiproxyError as error:
            if not error.timed_out or time.monotonic() >= until_s or not is_needed():
                raise
        else:
            return


def _cut(server: Toxiproxy, proxy: str) -> None:
    # Carried out though it may not be answered: the answer tells of the toxics, for which it needs that lock.
    with contextlib.suppress(ToxiproxyError):
        server.set_enabled(proxy, False)


def _sacrifice(server: Toxiproxy, proxy: str) -> str:
    _cut(server, proxy)
    server.delete_proxy(proxy)
    return "the proxy was deleted"
