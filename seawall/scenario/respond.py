"""What a provider itself may do wrong, which no fault of the wire can make."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from seawall.scenario.problems import Misplaced
from seawall.scenario.quantities import Duration, PositiveDuration
from seawall.scenario.words import Flag, Model, Whole

__all__ = ["RESPOND_KINDS", "Respond"]

# Strict, since it goes into a header as it is written.
_MEDIA_TYPE = r"^[a-z0-9][a-z0-9.+_-]{0,63}/[a-z0-9][a-z0-9.+_-]{0,63}(; ?charset=[A-Za-z0-9-]{1,32})?$"


class Respond(Model):
    """What the provider itself does wrong: exactly one thing."""

    status: Annotated[Whole, Field(ge=400, le=599)] | None = None
    """Answer with this HTTP status and the vendor's error body."""
    retry_after: Duration | None = None
    """With `status`: the `Retry-After` that goes with it."""
    first_token: Duration | None = None
    """Give the first token (or the JSON body) only after this long."""
    dribble: PositiveDuration | None = None
    """Let this long pass between two tokens."""
    hang: Flag = False
    """Take the request and never answer."""
    cut_after_chunks: Annotated[Whole, Field(ge=0, le=100_000)] | None = None
    """Reset the connection after this many tokens (JSON: in the middle of the body)."""
    no_done: Flag = False
    """End a stream in order, but without its end marker. Answers in JSON have none and stay as they are."""
    malformed: Flag = False
    """Send JSON that cannot be parsed (a stream: one broken event)."""
    truncated: Flag = False
    """Send JSON that ends in the middle, framed as if it were whole (a stream: the last event is half)."""
    empty: Flag = False
    """Answer 200 with an empty body (a stream: no event)."""
    html: Flag = False
    """Answer 200 with an HTML page."""
    error_event: Flag = False
    """Send the vendor's error event inside a 200 stream after two tokens (JSON: an error object with 200)."""
    content_type: Annotated[str, StringConstraints(pattern=_MEDIA_TYPE)] | None = None
    """Send the right body under this content type."""
    wrong_usage: Flag = False
    """Report a usage of zero, below zero or absurd."""
    duplicate_chunks: Flag = False
    """Send every event of a stream that carries a token twice."""
    content_filter: Flag = False
    """Stop as the vendor's content filter does."""
    wrong_model: Flag = False
    """Name another model in the answer."""

    @property
    def kind(self) -> str:
        """The one thing that it does, by its key."""
        return self._chosen()[0]

    def _chosen(self) -> list[str]:
        values = {name: getattr(self, name) for name in RESPOND_KINDS}
        return [name for name, value in values.items() if value is not None and value is not False]

    @model_validator(mode="after")
    def _one_thing(self) -> Respond:
        chosen = self._chosen()
        if len(chosen) != 1:
            found = ", ".join(chosen) or "none"
            raise ValueError(f"respond does exactly one thing, here {found}; keep one of {', '.join(RESPOND_KINDS)}")
        if self.retry_after is not None and self.status is None:
            message = "retry_after belongs to a status; add one, such as status: 429"
            raise Misplaced(message, ("retry_after",), on_key=True)
        return self


RESPOND_KINDS = tuple(name for name in Respond.model_fields if name != "retry_after")
"""The keys of which a `respond` has exactly one."""
