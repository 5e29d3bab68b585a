"""The provider's view of one call, kept while its steps are played."""

from __future__ import annotations

from seawall.emulators.steps import Body, End, Head, Step
from seawall.emulators.wire import EmulatedCall
from seawall.journal.events import CallRecord

__all__ = ["CallLog"]


class CallLog:
    """
    Collects one `CallRecord`. Times are nanoseconds of whoever plays the steps.

    `call` is None when the request could not be read as one; `behaviour` is the fault that took it, or `healthy`.
    """

    def __init__(self, provider: str, call: EmulatedCall | None, behaviour: str, arrival_ns: int) -> None:
        self._provider = provider
        self._call = call
        self._behaviour = behaviour
        self._arrival_ns = arrival_ns
        self._first_byte_ns: int | None = None
        self._status: int | None = None
        self._bytes = 0
        self._tokens = 0
        self._completed = False

    def saw(self, step: Step, now_ns: int) -> None:
        """Note a step that has been played in full, with the client still there."""
        if isinstance(step, Body):
            if self._first_byte_ns is None:
                self._first_byte_ns = now_ns
            self._bytes += len(step.data)
            self._tokens += step.tokens
        elif isinstance(step, Head):
            self._status = step.status
        elif isinstance(step, End):
            self._completed = True

    def record(self, end_ns: int) -> CallRecord:
        """Return the record of the call that ended at `end_ns`. `bytes` are the body's, without HTTP framing."""
        call = self._call
        return CallRecord(
            request_id=None if call is None else call.request_id,
            provider=self._provider,
            model=None if call is None else call.model,
            stream=call is not None and call.stream,
            arrival_ns=self._arrival_ns,
            first_byte_ns=self._first_byte_ns,
            end_ns=end_ns,
            behaviour=self._behaviour,
            status=self._status,
            bytes=self._bytes,
            completed=self._completed,
            prompt_tokens=0 if call is None else call.prompt_tokens,
            completion_tokens=self._tokens,
        )
