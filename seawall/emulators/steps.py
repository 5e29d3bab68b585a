"""
What an emulated provider does on the wire, as plain data.

`seawall.emulators.behaviour.respond` turns a call into steps; the server plays them on a socket and the simulation
plays the same steps into the transport. Nothing here does I/O.
"""

from __future__ import annotations

import msgspec

__all__ = ["Behaviour", "Body", "End", "Hang", "Head", "Healthy", "Reset", "Sleep", "Step"]


class Healthy(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider answers when nothing is wrong. Times in seconds."""

    first_token_p50_s: float = 0.02
    first_token_p99_s: float = 0.05
    tokens_per_second: float = 200.0
    tokens: int = 16


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """
    A fault that a provider itself commits: what TCP faults cannot make. All fields unset is a healthy answer.

    `injection_rate` is the share of *requests* it takes, drawn from the seed and the request's id.
    """

    fault_id: str
    injection_rate: float = 1.0
    status: int | None = None
    """Answer with this HTTP status and the vendor's error body."""
    retry_after_s: float | None = None
    """With `status`: the `retry-after` header, in seconds."""
    first_token_s: float | None = None
    """First token (or JSON body) after this long."""
    hang: bool = False
    """Take the request and never answer."""
    cut_after_chunks: int | None = None
    """Reset the connection after this many token events (JSON: in the middle of the body)."""
    dribble_s: float | None = None
    """Let this long pass between two tokens (JSON: for each token, before the body)."""
    no_done: bool = False
    """End a stream in order after its last token, without stop reason and end mark. JSON has none: not taken."""
    malformed: bool = False
    """Send JSON that nobody can parse (a stream: the event in the middle; its token is lost)."""
    truncated: bool = False
    """Send half of the JSON, framed as if it were all (a stream: half of the last token's event, then its end)."""
    empty: bool = False
    """Answer 200 with no body (a stream: with no event)."""
    html: bool = False
    """Answer 200 with an HTML page, as proxies in front of a vendor do."""
    error_event: bool = False
    """Send the vendor's error event after two tokens of a 200 stream, and end it (JSON: an error object with 200)."""
    content_type: str | None = None
    """Send the right body under this content type."""
    wrong_usage: bool = False
    """Tell a usage of zero, below zero, absurdly high, or none: which of them follows from the request's id."""
    duplicate_chunks: bool = False
    """
    Send every token event of a stream twice. JSON has none: not taken.

    No event of these vendors carries a number of its own, and a model that repeats itself sends the same bytes twice:
    nobody on the way can tell the two apart. The harness can, for it knows the text: it judges the answer `repeated`.
    """
    content_filter: bool = False
    """Write half of the answer, numbered as such, and stop as the vendor's content filter does."""
    wrong_model: bool = False
    """Name another model of the vendor's than the one that was asked for."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Send status line and headers. `length` is the body's size in bytes, None for a chunked body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    length: int | None


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """Send these bytes of the body as one chunk. `tokens` is how many answer tokens they carry."""

    data: bytes
    tokens: int = 0


class Sleep(msgspec.Struct, frozen=True, kw_only=True):
    """Wait."""

    seconds: float


class Reset(msgspec.Struct, frozen=True):
    """Break the connection with a TCP reset."""


class Hang(msgspec.Struct, frozen=True):
    """Send nothing more and keep the connection open until the peer leaves."""


class End(msgspec.Struct, frozen=True):
    """The answer is complete; the connection stays open for the next request."""


Step = Head | Body | Sleep | Reset | Hang | End
