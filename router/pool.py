"""
The deployments of one provider, and who of them takes the next call. Pure, handed the time and the random source.

Two are drawn and the less loaded one is taken ("power of two choices"): herding is impossible, and the worst one gets
next to nothing. Load is calls in flight × response time ÷ weight. The response time is an average that fades while
nobody asks, as in Finagle's Peak EWMA, so that one that was slow is tried again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from router.adapters.base import Adapter
from router.health import ProviderHealth
from router.models import ModelType
from router.plan import ProviderView

__all__ = ["Member", "Pool"]

_SHARE = 0.2  # of the latest response time in the average
_FADE_S = 10.0


class Member:
    """One deployment: where it is called, how it stands, how busy it is. `name` is None for a provider's only one."""

    __slots__ = ("_average_s", "_seen_s", "adapter", "health", "in_flight", "name", "weight")

    def __init__(self, name: str | None, adapter: Adapter, health: ProviderHealth, *, weight: float = 1.0) -> None:
        self.name = name
        self.adapter = adapter
        self.health = health
        self.weight = weight
        self.in_flight = 0
        self._average_s: float | None = None
        self._seen_s = 0.0

    def answered(self, now_s: float, took_s: float) -> None:
        """Take the response time of a good answer."""
        old_s = self._average_s
        self._average_s = took_s if old_s is None else old_s + _SHARE * (took_s - old_s)
        self._seen_s = now_s

    def load(self, now_s: float) -> float | None:
        """Return its response time as far as that is still true, in seconds; None: it has not answered yet."""
        if self._average_s is None:
            return None
        return self._average_s * math.exp((self._seen_s - now_s) / _FADE_S)


class Pool:
    """The deployments of `provider`. One event loop owns it."""

    def __init__(self, provider: ModelType, members: Sequence[Member], *, draw: Callable[[], float]) -> None:
        self.provider = provider
        self.members = tuple(members)
        self._draw = draw
        self.view = self.members[0].health.view if len(self.members) == 1 else self._view
        """Return how the provider stands at a time: usable while one of its deployments is."""

    def _view(self, now_s: float) -> ProviderView:
        views = [member.health.view(now_s) for member in self.members]
        usable = [view for view in views if view.is_usable]
        if not usable:
            keyed = [view for view in views if view.has_key]
            return min(keyed or views, key=lambda view: max(view.available_in_s, view.cooling_s))
        return ProviderView(
            has_key=True,
            breaker_allows=True,
            is_probe=any(view.is_probe for view in usable),
            available_in_s=0.0,
            cooling_s=0.0,
            is_slow=all(view.is_slow for view in usable),
            may_measure=any(view.may_measure for view in usable),
        )

    def choices(self, clock: Callable[[], float]) -> Iterable[Member]:
        """Return who is to be asked, one after the other, each at most once and only while it may be called."""
        if len(self.members) > 1:
            return self._balanced(clock)
        return self.members if self.view(clock()).is_usable else ()

    def _balanced(self, clock: Callable[[], float]) -> Iterator[Member]:
        left = list(self.members)
        while True:
            now_s = clock()
            usable = [(member, view) for member in left if (view := member.health.view(now_s)).is_usable]
            if not usable:
                return
            # Who is due for a probe or a measuring call goes first, or it never comes back: once a recovery period.
            due = [member for member, view in usable if view.is_probe or (view.is_slow and view.may_measure)]
            fast = [member for member, view in usable if not view.is_slow]
            chosen = due[0] if due else self._lighter(fast or [member for member, _ in usable], now_s)
            left.remove(chosen)
            yield chosen

    def _lighter(self, members: Sequence[Member], now_s: float) -> Member:
        if len(members) == 1:
            return members[0]
        first = int(self._draw() * len(members))
        second = int(self._draw() * (len(members) - 1))
        one, other = members[first], members[second + (second >= first)]
        one_s, other_s = one.load(now_s), other.load(now_s)
        if one_s is None or other_s is None:  # of a newcomer only the calls are known
            one_s = other_s = 1.0
        one_load = one_s * (one.in_flight + 1) / one.weight
        return other if other_s * (other.in_flight + 1) / other.weight < one_load else one
