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

from faults.base import FaultError
from faults.down import enable_unless_held
from faults.toxiproxy import Toxiproxy, ToxiproxyError

__all__ = ["PATIENCE", "remove_toxic"]

PATIENCE = 14.0
"""
How many times longer than the first the second deletion may take: 42 s of 3 s. Toxiproxy waits 5 s for each chunk
that a connection left behind; 25 s were seen.
"""


def remove_toxic(server: Toxiproxy, proxy: str, toxic: str, *, owned: bool, patience: float = PATIENCE) -> str | None:
    """
    Delete a toxic; that there is none is fine.

    When the call hangs, the proxy is disabled, the deletion tried again with more patience, and the proxy enabled; only
    when that fails too is the proxy deleted. A proxy that is not `owned` is only waited for. Without `patience` there
    is no second try: of a run that is no more nobody needs the proxy. Returns what was done besides the deletion, or
    None. Raises ToxiproxyError.
    """
    try:
        server.delete_toxic(proxy, toxic)
    except ToxiproxyError as error:
        if not error.timed_out or not (owned or patience):
            raise
    else:
        return None
    hung = f"Toxiproxy did not delete the toxic within {server.deadline_s:g} s"
    if not patience:
        return f"{hung}; {_sacrifice(server, proxy)}"
    patient = Toxiproxy(server.url, deadline_s=server.deadline_s * patience, allow_remote=server.allow_remote)
    if not owned:
        patient.delete_toxic(proxy, toxic)
        return f"{hung}; it was waited for, as the proxy is not ours"
    _cut(server, proxy)
    try:
        patient.delete_toxic(proxy, toxic)
    except ToxiproxyError as error:
        if error.gone:
            raise
        return f"{hung}, nor within {patient.deadline_s:g} s with its links cut; {_sacrifice(server, proxy)}"
    done = f"{hung}; the proxy was disabled, which cut its links, and the toxic was deleted"
    try:
        held = enable_unless_held(server, proxy)
    except ToxiproxyError as error:
        if error.gone:
            return done
        raise FaultError(f"{done}, but the proxy could not be enabled again: {error}") from error
    return f"{done}; {held or 'the proxy was enabled again'}"


def _cut(server: Toxiproxy, proxy: str) -> None:
    # Carried out though it may not be answered: the answer tells of the toxics, for which it needs that lock.
    with contextlib.suppress(ToxiproxyError):
        server.set_enabled(proxy, False)


def _sacrifice(server: Toxiproxy, proxy: str) -> str:
    _cut(server, proxy)
    server.delete_proxy(proxy)
    return "the proxy was deleted"
