"""What has happened to one request so far, and what its attempt under way has shown: the chain's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.adapters import Piece, Prompt
from router.breaker import Permit
from router.errors import ProviderError, TransportError
from router.events import Attempt
from router.models import Asked, ModelType, Request, StopReason, Usage
from router.plan import Step
from router.pool import Member
from router.usage import usage_of

if TYPE_CHECKING:
    from router.chain import Ports

__all__ = ["Run", "Watch"]

_ASKED = Asked.__struct_fields__


class Run:
    """What has happened to one request so far."""

    def __init__(self, request: Request, ports: Ports, *, stream: bool) -> None:
        self.request = request
        self.asked = {name: getattr(request, name) for name in _ASKED}
        self.stream = stream
        self.max_tokens = request.max_tokens or ports.settings.default_max_tokens
        patience_s = min(request.timeout_s or ports.settings.total_timeout, ports.settings.total_timeout)
        self.deadline_s = ports.clock() + patience_s
        self.attempts: list[Attempt] = []
        self.writers: list[ModelType] = []
        """Who has written delivered text, in order."""
        self.text = ""
        self.is_final = False
        """Whether a part of the answer is delivered that nobody else can go on from: a tool call, a refusal."""
        self.usage = Usage(prompt_tokens=0, completion_tokens=0)
        self.cost_usd = 0.0
        self.denied = False
        """Whether the budget has refused a provider."""
        self.starved = False
        """Whether the retry budget has refused a further attempt."""
        self.calls = request.attempts
        """Attempts made for it so far, those of gateways in front and behind included."""
        self.counts = False
        """Whether the last failure says that its provider is unwell: one that does not costs no retry budget."""

    def prompt(self, model: str) -> Prompt:
        """Return what the next provider is asked: the rest of the answer when a part of it is delivered."""
        return Prompt(
            model=model,
            max_tokens=max(1, self.max_tokens - self.usage.completion_tokens),
            stream=self.stream,
            so_far=self.text,
            **self.asked,
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

    def can_go_on(self, midstream: str) -> bool:
        """
        Return whether another provider may go on from what is delivered.

        Half a tool call is no text to be continued, and in JSON mode a provider begins a document of its own: an answer
        pieced together would be broken, and would look whole.
        """
        if self.is_final or (self.text and self.request.json_format is not None):
            return False
        return not self.text or midstream == "continue"


class Watch:
    """What one attempt has shown so far: times, tokens, the provider's own usage."""

    def __init__(self, run: Run, ports: Ports, step: Step, member: Member, permit: Permit, prompt: Prompt) -> None:
        self._run, self._ports, self._step, self._member, self._permit = run, ports, step, member, permit
        self._start_s = ports.clock()
        self._prompt = prompt
        self._continues = bool(run.text)
        self.timing = member.health.latency.started(self._start_s, is_probe=permit.is_probe, stream=run.stream)
        self._told: Usage | None = None
        self._text_bytes = 0
        self.first_byte_s: float | None = None
        self.response_s: float | None = None
        """Time to the first token of a stream, the whole time of a JSON answer."""
        self.stop_reason: StopReason | None = None
        self.model = step.model
        """What the caller is told: the model that the provider names, or the one that was asked for."""

    def see(self, piece: Piece, now_s: float) -> None:
        """Take one piece."""
        if self.response_s is None:
            if self.first_byte_s is None:
                self.first_byte_s = now_s - self._start_s
            if piece.says_something or piece.stop_reason is not None:
                self.response_s = now_s - self._start_s
                self._member.health.latency.finished(self.timing, now_s)
        self._text_bytes += piece.size
        self.model = piece.model or self.model
        self.stop_reason = piece.stop_reason or self.stop_reason
        if piece.usage is not None:
            told = self._told or Usage(prompt_tokens=0, completion_tokens=0)
            self._told = Usage(
                prompt_tokens=max(told.prompt_tokens, piece.usage.prompt_tokens),
                completion_tokens=max(told.completion_tokens, piece.usage.completion_tokens),
                cached_tokens=max(told.cached_tokens, piece.usage.cached_tokens),
            )

    def usage(self) -> Usage:
        """Return what the provider told where that can be true, else the estimate."""
        return usage_of(self._told, self._prompt, self._text_bytes, is_whole=self.stop_reason is not None)

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
        if self._continues:
            return "continue"
        return "failover" if self._run.attempts else self._step.reason
