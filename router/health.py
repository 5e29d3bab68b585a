"""
What the router knows of one deployment of a provider: its breaker, the cooldown it asked for, its
last error. Pure, handed the time.
"""

from __future__ import annotations

from router.breaker import Breaker, BreakerState, Permit
from router.errors import AuthenticationFailed, ModelNotFound, ProviderError, RateLimited
from router.latency import LatencyWatch
from router.models import ModelType
from router.plan import CLEAR, ProviderView

__all__ = ["ProviderHealth"]

_CLOSED = BreakerState.CLOSED


class ProviderHealth:
    """The standing of `provider`. Times in seconds of the router's clock."""

    def __init__(
        self, provider: ModelType, breaker: Breaker, latency: LatencyWatch, *, has_key: bool, retry_after_max_s: float
    ) -> None:
        self.provider = provider
        self.breaker = breaker
        self.latency = latency
        self.last_error: str | None = None
        self.alarm: str | None = None
        """Set when the provider refuses our key or does not know our model: somebody has to mend the settings."""
        self.latency_s: float | None = None
        """Of the last good answer: time to its first byte."""
        self._has_key = has_key
        self._retry_after_max_s = retry_after_max_s
        self.cooling_until_s = 0.0
        """The end of the latest cooldown."""

    def cool_until(self, until_s: float) -> None:
        """Cool down until then; a second cooldown never shortens the first."""
        self.cooling_until_s = max(self.cooling_until_s, until_s)

    def view(self, now_s: float) -> ProviderView:
        """Return how the provider stands at `now_s`."""
        breaker, latency = self.breaker, self.latency
        is_calm = latency.is_calm or not latency.look(now_s)
        if is_calm and breaker.state is _CLOSED and self.cooling_until_s <= now_s and self._has_key:
            return CLEAR
        is_probe = breaker.state is not _CLOSED
        allows = breaker.allows(now_s)
        return ProviderView(
            has_key=self._has_key,
            breaker_allows=allows,
            is_probe=is_probe,
            available_in_s=breaker.soonest_probe_s(now_s),
            cooling_s=max(0.0, self.cooling_until_s - now_s),
            is_slow=not is_calm,
            # One call answers both questions: a breaker's probe of a slow provider measures it too.
            may_measure=latency.may_measure(now_s) or (allows and is_probe),
        )

    def acquire(self, now_s: float) -> Permit | None:
        """Return leave for one call, or None while the breaker or a cooldown forbids it."""
        return None if self.cooling_until_s > now_s else self.breaker.acquire(now_s)

    def succeeded(
        self, permit: Permit, now_s: float, *, first_byte_s: float | None, response_s: float | None = None
    ) -> None:
        """Take a whole answer: its first byte came after `first_byte_s`, its first token after `response_s`."""
        self.breaker.success(permit, now_s, response_s)
        self.alarm = None
        self.latency_s = first_byte_s

    def failed(self, permit: Permit, now_s: float, error: ProviderError) -> None:
        """Take a failed call: count it, cool down when asked to, raise the alarm when somebody must act."""
        self.last_error = error.code
        if isinstance(error, RateLimited) and error.retry_after_s is not None:
            self.cool_until(now_s + min(error.retry_after_s, self._retry_after_max_s))
        if isinstance(error, (AuthenticationFailed, ModelNotFound)):
            self.alarm = error.code
        if error.counts:
            self.breaker.failure(permit, now_s, error.code)
        else:
            self.breaker.release(permit)
