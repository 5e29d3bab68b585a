"""Invariant: providers are asked in the order of the plan. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from router.catalogue import default_catalogue
from router.errors import RequestError
from router.models import FAILOVER_CHAIN
from seawall.verdicts.case import Asked, Case
from seawall.verdicts.checks import invariant, unobservable
from seawall.verdicts.model import Check

__all__ = ["fails_over_in_order", "preferred_of", "wrong_order"]

_NAME = "failover follows the chain"
_NOBODY: frozenset[str] = frozenset()
_CHAIN = tuple(str(provider) for provider in FAILOVER_CHAIN)


def fails_over_in_order(case: Case) -> Check:
    """Each request's attempts follow the chain, the preferred provider first, nobody passed over without a skip."""
    if not case.journal.observes("attempt"):
        return unobservable("invariant", _NAME, "attempt")
    skipped, slow = _skipped(case)
    preferred, fast = preferred_of(case), _provider_of(case, case.setting("LATENCY_FAILOVER_MODEL", "claude-haiku"))
    spiking = {timed.event.provider for timed in case.journal.latencies if timed.event.to == "slow"}
    asked = case.asked

    @cache  # of a million requests there are a few ways
    def problem(made: Asked, gone: frozenset[str], late: frozenset[str]) -> str | None:
        # A slow provider may be skipped for a weightier reason, and still the fast model goes first.
        spikes = late | (gone & spiking)
        providers = [provider for _, provider, _ in made]
        problem = wrong_order(
            providers, skipped=gone, slow=late, preferred=preferred, fast=fast if preferred in spikes else None
        )
        if problem is None or preferred is not None:
            return problem
        # Nobody was named: whoever was chosen may have been slow, and the fast model have taken its place.
        orders = (
            wrong_order(providers, skipped=gone, slow=late, preferred=chosen, fast=fast) for chosen in sorted(spikes)
        )
        return None if None in orders else problem

    wrong = {
        request_id: text
        for request_id in asked
        if (text := problem(asked[request_id], skipped.get(request_id, _NOBODY), slow.get(request_id, _NOBODY)))
        is not None
    }
    started: dict[str, int] = {}
    for attempt in case.journal.attempts if wrong else ():
        if attempt.request_id in wrong:
            started.setdefault(attempt.request_id, attempt.start_ns)
    found = (case.evidence(text, started[request_id], request_id) for request_id, text in wrong.items())
    return invariant(_NAME, found, examined=len(asked), of="requests")


def _skipped(case: Case) -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]:
    """Return who was passed over by request, and who was put last for being slow."""
    once: dict[frozenset[str], frozenset[str]] = {}
    skipped: dict[str, frozenset[str]] = {}
    slow: dict[str, frozenset[str]] = {}
    for timed in case.journal.skips:
        skip = timed.event
        kind = slow if skip.reason == "slow" else skipped
        providers = kind.get(skip.request_id, _NOBODY) | {skip.provider}
        kind[skip.request_id] = once.setdefault(providers, providers)
    return skipped, slow


def preferred_of(case: Case) -> str | None:
    """Return the provider that the load's model stands for, None where it is chosen by each prompt."""
    return _provider_of(case, case.scenario.load.model)


def wrong_order(
    providers: Sequence[str],
    *,
    skipped: Iterable[str],
    slow: Iterable[str],
    preferred: str | None,
    fast: str | None = None,
) -> str | None:
    """
    Return what is wrong with asking `providers` in this order, None when it is legal.

    The order is the preferred provider, then the rest of the chain; those skipped as `slow` come last instead, and
    `fast`, where given, may come first. Whoever stands before the last one asked was asked or skipped; nobody is asked
    twice. Without `preferred` any first provider is legal.
    """
    for n, provider in enumerate(providers):
        if provider in providers[:n]:
            return f"{provider} was asked twice: {_arrows(providers)}"
    first = preferred if preferred is not None else providers[0]
    chain = [first, *(provider for provider in _CHAIN if provider != first)]
    postponed, passed_over = set(slow), set(skipped)
    expected: list[str] = []
    for leader in (None, fast) if fast is not None else (None,):
        order = chain if leader is None else [leader, *(provider for provider in chain if provider != leader)]
        order = [p for p in order if p not in postponed] + [p for p in order if p in postponed]
        expected = [p for p in order if p in providers or p not in passed_over][: len(providers)]
        if list(providers) == expected:
            return None
    return f"asked {_arrows(providers)} where the plan is {_arrows(expected)}"


def _provider_of(case: Case, model: str) -> str | None:
    try:
        return str(default_catalogue().resolve(model, case.setting("OLLAMA_MODEL", "llama3")).provider)
    except RequestError:
        return None


def _arrows(providers: Sequence[str]) -> str:
    return " → ".join(providers)
