"""How long things may take by the settings in force, and when the last fault is past. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from router.errors import ConfigurationError
from router.settings import Settings
from seawall.journal.events import RequestRecord
from seawall.scenario.model import PROVIDERS, Scenario
from seawall.verdicts.case import Case
from seawall.verdicts.failover import preferred_of
from seawall.verdicts.spans import Span

__all__ = ["Bounds", "settling_s"]

_JITTER = 1.1
_AFTER_S = 2.0


def settling_s(settings: Settings, pauses_s: Sequence[float]) -> float:
    """
    Return how long after its healing a fault may be felt.

    A call that began under it ends within TOTAL_TIMEOUT; then a breaker may open, or a provider's `Retry-After` count.
    `pauses_s` are those that providers ask for.
    """
    open_s = settings.circuit_breaker_recovery_timeout
    if settings.circuit_breaker_backoff_factor > 1:
        open_s = max(open_s, settings.circuit_breaker_recovery_timeout_max)
    pause_s = min(max(pauses_s, default=0.0), settings.retry_after_max)
    return settings.total_timeout + max(open_s * _JITTER, pause_s) + _AFTER_S


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one run."""

    settings: Settings
    settled_ns: int | None
    """From when on nothing of any fault is left; None when that never came, or is not known."""
    stops: tuple[Span, ...]
    """When a fault had a gateway process stopped: its clocks run on, and its timeouts mean nothing."""
    is_healthy: bool
    """Whether providers in health answer well within every timeout."""
    is_fast_in_health: bool
    """Whether they do so too for the predictive breaker."""
    opens_in_health: bool
    """Whether their answers are slow calls by a slow-call ratio, which opens breakers without any fault."""
    preferred: str | None

    @classmethod
    def of(cls, case: Case) -> Bounds:
        """Return the bounds of a run."""
        return case.once(cls._of)

    @classmethod
    def _of(cls, case: Case) -> Bounds:
        settings = settings_of(case)
        slowest_s = _slowest_s(case.scenario)
        limits_s = [
            limit
            for limit in (settings.latency_limit, settings.json_limit(), settings.circuit_breaker_slow_call)
            if limit
        ]
        tightest_s = min(settings.first_byte_timeout, settings.ollama_timeout, settings.total_timeout)
        return cls(
            settings=settings,
            settled_ns=_settled_ns(case, settings),
            stops=_stops(case),
            is_healthy=slowest_s < min(tightest_s, case.scenario.load.deadline),
            is_fast_in_health=slowest_s < 0.8 * min(limits_s, default=0.0),
            opens_in_health=bool(settings.circuit_breaker_slow_ratio)
            and slowest_s >= 0.8 * settings.circuit_breaker_slow_call,
            preferred=preferred_of(case),
        )

    @property
    def total_ns(self) -> int:
        """TOTAL_TIMEOUT."""
        return round(self.settings.total_timeout * 1e9)

    @property
    def store_ns(self) -> int:
        """BUDGET_STORE_TIMEOUT, where there is a store to wait for."""
        return 0 if self.settings.budget_store == "memory" else round(self.settings.budget_store_timeout * 1e9)

    def first_byte_ns(self, provider: str) -> int:
        """Return the longest wait for a provider's first byte, the connection and the budget's store included."""
        wait_s = self.settings.ollama_timeout if provider == "local" else self.settings.first_byte_timeout
        return round((self.settings.connect_timeout + wait_s) * 1e9) + self.store_ns

    def was_stopped(self, request: RequestRecord) -> bool:
        """Whether a gateway process stood still while a request was under way."""
        return self.stands_still(request.intended_ns, request.end_ns)

    def stands_still(self, start_ns: int, end_ns: int) -> bool:
        """Whether a gateway process stood still at some time between the two."""
        return any(span.start_ns <= end_ns and start_ns <= span.end_ns for span in self.stops)


def settings_of(case: Case) -> Settings:
    """Return the settings of the router in force, those that the journal masks left out."""
    names = ("TOTAL_TIMEOUT", "FIRST_BYTE_TIMEOUT", "OLLAMA_TIMEOUT", "CONNECT_TIMEOUT", "IDLE_TIMEOUT")
    names += ("CIRCUIT_BREAKER_RECOVERY_TIMEOUT", "CIRCUIT_BREAKER_RECOVERY_TIMEOUT_MAX")
    names += (
        "CIRCUIT_BREAKER_BACKOFF_FACTOR",
        "CIRCUIT_BREAKER_SLOW_CALL",
        "CIRCUIT_BREAKER_SLOW_RATIO",
        "RETRY_AFTER_MAX",
        "LATENCY_LIMIT",
    )
    names += ("LATENCY_LIMIT_JSON", "BUDGET_STORE", "BUDGET_STORE_TIMEOUT", "RETRY_BUDGET_BURST", "ATTEMPTS_MAX")
    names += ("MIDSTREAM", "AIRGAP_MODE", "DAILY_SPEND_LIMIT_USD")
    values = {name: value for name in names if (value := case.setting(name, ""))}
    return _settings(tuple(values.items()))


@lru_cache(maxsize=256)
def _settings(values: tuple[tuple[str, str], ...]) -> Settings:
    try:
        return Settings.from_mapping(dict(values))
    except ConfigurationError:
        return Settings()


def _slowest_s(scenario: Scenario) -> float:
    """Return what the slowest answer of a provider in health takes: beyond its p99 there is one now and then."""
    specs = [scenario.provider(name) for name in PROVIDERS]
    return max(3 * spec.first_token.p99 + spec.tokens / spec.tokens_per_second for spec in specs)


def _settled_ns(case: Case, settings: Settings) -> int | None:
    if case.journal.end is None or case.journal.end.reason != "finished":
        return None
    pauses_s = [fault.respond.retry_after or 0.0 for fault in case.scenario.faults if fault.respond is not None]
    after_ns = round(settling_s(settings, pauses_s) * 1e9)
    if not case.specs:
        return case.journal.t0_ns
    healed_ns: list[int] = []
    for fault_id in case.specs:
        intervals = case.intervals(fault_id)
        ends = [interval.healed_ns for interval in intervals if interval.healed_ns is not None]
        if not intervals or len(ends) < len(intervals):
            return None
        healed_ns += ends
    return max(healed_ns) + after_ns


def _stops(case: Case) -> tuple[Span, ...]:
    stopping = [fault.id for fault in case.scenario.faults if fault.process == "stop" and fault.target == "gateway"]
    return tuple(
        Span(interval.injected_ns, interval.healed_ns if interval.healed_ns is not None else case.journal.last_ns)
        for fault_id in stopping
        for interval in case.intervals(fault_id)
        if interval.injected_ns is not None
    )
