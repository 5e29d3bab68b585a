"""Which trace a request of late belongs to, for the lines of the log; nothing is kept unless somebody logs."""

from __future__ import annotations

__all__ = ["RECENT", "Recent"]

_KEPT = 4096


class Recent:
    """The traces' ids, by request; the oldest go first."""

    def __init__(self) -> None:
        self.is_kept = False
        self._ids: dict[str, str] = {}

    def add(self, request_id: str, trace_id: str) -> None:
        """Keep the trace of a request."""
        if len(self._ids) >= _KEPT:
            del self._ids[next(iter(self._ids))]
        self._ids[request_id] = trace_id

    def of(self, request_id: str) -> str | None:
        """Return the trace of a request, None where it has none that is known."""
        return self._ids.get(request_id)


RECENT = Recent()
"""Those of this process."""
