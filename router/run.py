"""What has happened to one request so far, and what its attempt under way has shown: the chain's memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from operator import add, attrgetter
from typing import TYPE_CHECKING, Any

from router.adapters import Piece, Prompt
from router.breaker import Permit
from router.deadline import Deadline
from router.errors import ProviderError, TransportError
from router.events import Attempt
from router.models import Asked, Chunk, ModelType, Request, StopReason, ToolCallDelta, Usage
from router.plan import Step
from router.pool import Member
from router.usage import usage_of

if TYPE_CHECKING:
    from router.chain import Ports

__all__ = ["Deliver", "Run", "Watch"]

Deliver = Callable[[Chunk], Awaitable[None]]
"""Takes a piece of a stream to the caller; the next one is asked for when it returns."""

_asked = attrgetter(*Asked.__struct_fields__)
_NOTHING = Usage(prompt_tokens=0, completion_tokens=0)


class Run:
    """What has happened to one request so far."""

    # As every request begins: most never change most of it.
    tool_calls: tuple[ToolCallDelta, ...] = ()
    refusal = ""
    asked_max = 0
    """The most tokens that the latest prompt can have."""
    usage = _NOTHING
    cost_usd = 0.0
    denied = False
    """Whether the budget has refused a provider."""
    starved = False
    """Whether the retry budget has refused a further attempt."""
    counts = False
    """Whether the last failure says that its provider is unwell: one that does not costs no retry budget."""

    def __init__(self, request: Request, ports: Ports, deliver: Deliver | None) -> None:
        self.request = request
        self.deliver = deliver
        self.stream = deliver is not None
        self.max_tokens = request.max_tokens or ports.settings.default_max_tokens
        patience_s = ports.settings.total_timeout
        self.deadline_s = ports.clock() + (min(request.timeout_s, patience_s) if request.timeout_s else patience_s)
        self.attempts: list[Attempt] = []
        self.writers: list[ModelType] = []
        """Who has written delivered text, in order."""
        self.texts: list[str] = []
        """The answer's text so far, piece by piece."""
        self.calls = request.attempts
        """Attempts made for it so far, those of gateways in front and behind included."""

    def prompt(self, model: str) -> Prompt:
        """Return what the next provider is asked: the rest of the answer when a part of it is delivered."""
        return Prompt(
            *_asked(self.request),
            model=model,
            max_tokens=max(1, self.max_tokens - self.usage.completion_tokens),
            stream=self.stream,
            so_far="".join(self.texts),
        )

    def told(self, now_s: float) -> tuple[tuple[str, str], ...]:
        """
        Return the headers for a gateway that may stand behind a provider's address, so that layers do not multiply.

        Nothing for a first attempt of a caller who has named no timeout.
        """
        told: tuple[tuple[str, str], ...] = ()
        if self.calls:
            told = (("x-seawall-attempts", str(self.calls)),)
        if self.request.timeout_s is not None:
            told = (*told, ("x-seawall-timeout", f"{max(0.001, self.deadline_s - now_s):.3f}"))
        return told

    def spent(self, usage: Usage) -> None:
        """Add what one attempt has used."""
        self.usage = usage if self.usage is _NOTHING else self.usage.joined(usage, add)

    def can_go_on(self, midstream: str) -> bool:
        """
        Return whether another provider may go on from what is delivered.

        Half a tool call is no text to be continued, and in JSON mode a provider begins a document of its own: an answer
        pieced together would be broken, and would look whole.
        """
        has_text = any(self.texts)
        if self.tool_calls or self.refusal or (has_text and self.request.json_format is not None):
            return False
        return not has_text or midstream == "continue"


class Watch:
    """One attempt: it hands on what comes, and keeps what that shows: times, tokens, the provider's own usage."""

    _told: Usage | None = None
    _text_bytes = 0
    first_byte_s: float | None = None
    response_s: float | None = None
    """Time to the first token of a stream, the whole time of a JSON answer."""
    stop_reason: StopReason | None = None

    def __init__(
        self, run: Run, ports: Ports, step: Step, member: Member, permit: Permit, prompt: Prompt, deadline: Deadline
    ) -> None:
        self._run, self._ports, self._step, self._member, self._permit = run, ports, step, member, permit
        self._prompt = prompt
        self._deadline = deadline
        self._start_s = ports.clock()
        self._continued = tuple([each for each in run.writers if each is not step.provider]) if run.writers else ()
        self.timing = member.health.latency.started(self._start_s, is_probe=permit.is_probe, stream=run.stream)
        self.model = step.model
        """What the caller is told: the model that the provider names, or the one that was asked for."""

    async def take(self, piece: Piece) -> None:
        """Take one piece; of a stream, hand it to the caller, whose time is not ours."""
        says_something = piece.says_something
        if self.response_s is None:
            now_s = self._ports.clock()
            took_s = now_s - self._start_s
            if self.first_byte_s is None:
                self.first_byte_s = took_s
            if says_something or piece.stop_reason is not None:
                self.response_s = took_s
                self._member.health.latency.finished(self.timing, now_s)
        self._text_bytes += piece.size
        self.model = piece.model or self.model
        self.stop_reason = piece.stop_reason or self.stop_reason
        if (told := piece.usage) is not None:
            if (before := self._told) is not None:
                told = before.joined(told, max)
            self._told = told
        if not says_something:
            return
        run = self._run
        if self._step.provider not in run.writers:
            run.writers.append(self._step.provider)
        run.texts.append(piece.text)
        if piece.tool_calls or piece.refusal:
            run.tool_calls += piece.tool_calls
            run.refusal += piece.refusal
        if run.deliver is not None:
            self._deadline.pause()
            await run.deliver(self._chunk(piece.text, tool_calls=piece.tool_calls, refusal=piece.refusal))
            self._deadline.resume()

    def last(self) -> Chunk:
        """Return the last chunk: all of a JSON answer, the end of a stream."""
        run = self._run
        end: dict[str, Any] = {"usage": run.usage, "cost_usd": run.cost_usd, "attempts": tuple(run.attempts)}
        if not run.stream:
            end |= {"tool_calls": run.tool_calls, "refusal": run.refusal}
        return self._chunk("" if run.stream else "".join(run.texts), stop_reason=self.stop_reason or "stop", **end)

    def _chunk(self, text: str, **more: Any) -> Chunk:
        step, continued = self._step, self._continued
        return Chunk(text=text, provider=step.provider, model=self.model, continued=continued, **more)

    def usage(self) -> Usage:
        """Return what the provider told where that can be true, else the estimate."""
        is_whole, asked_max = self.stop_reason is not None, self._run.asked_max
        return usage_of(self._told, self._prompt, self._text_bytes, is_whole=is_whole, asked_max=asked_max)

    def billed(self, error: ProviderError | None) -> Usage | None:
        """Return what a broken-off call is taken to have used; None where the provider cannot have billed it."""
        if error is None:
            return self.usage()
        unbilled = (isinstance(error, TransportError) and not error.sent) or error.upstream_status is not None
        return None if unbilled and not self._text_bytes else self.usage()

    def report(self, outcome: str, error: str | None, status: int | None) -> None:
        """Tell the sink of the attempt, and keep it with the request."""
        run, step = self._run, self._step
        first = self.first_byte_s
        attempt = Attempt(
            request_id=run.request.request_id,
            provider=step.provider,
            model=step.model,
            n=len(run.attempts) + 1,
            stream=run.stream,
            start_ns=round(self._start_s * 1e9),
            end_ns=round(self._ports.clock() * 1e9),
            first_byte_ns=None if first is None else round((self._start_s + first) * 1e9),
            outcome=outcome,  # type: ignore[arg-type]
            reason=self._reason(),
            error=error,
            status=status,
            worker=self._ports.worker,
            generation=self._permit.generation,
            deployment=self._member.name,
        )
        run.attempts.append(attempt)
        self._ports.sink(attempt)

    def _reason(self) -> str:
        if self._permit.is_probe:
            return "probe"
        if self.timing.measures:
            return "measure"
        if self._step.reason == "slow":
            return "slow"
        if self._prompt.so_far:
            return "continue"
        return "failover" if self._run.attempts else self._step.reason
