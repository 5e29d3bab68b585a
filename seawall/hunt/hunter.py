"""
The search: rounds of Hypothesis over schedules until one breaks an invariant, then the smallest that does.

A round is a Hypothesis test of its own with a seed of its own, so that nothing grows with the length of a hunt. What it
climbs towards (`target`) are openings, half-open breakers, overlaps and depth of failover; what no schedule has shown
before counts extra.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import hypothesis
import msgspec
from hypothesis import HealthCheck, Phase

from seawall.draws import unit
from seawall.hunt.document import Document, Unusable, requests_in, scenario_of, settled, yaml_of
from seawall.hunt.schedules import schedules
from seawall.hunt.shrink import shrink
from seawall.hunt.trial import Trial, play
from seawall.scenario.model import Scenario
from seawall.simulation.arena import calm_collector
from seawall.verdicts.model import Check

__all__ = ["HuntResult", "Progress", "search"]

_ROUND = 100
"""Schedules a round. Every other round draws freely, the rest vary their best ones."""
_SHRINKING_S = (4.0, 20.0)
"""How long Hypothesis may shrink, and how long the last pass after it, in seconds."""
_SHRINKS_MAX = (150, 2500)
"""How many schedules each of the two may play."""


class HuntResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a search came to. The figures after `check` are of the smallest schedule; 0 where nothing was found."""

    seed: int
    found: Scenario | None = None
    """The smallest schedule that breaks an invariant; None when none did."""
    document: Document | None = None
    """The same as plain data, as it is written."""
    check: str | None = None
    """The name of the invariant that it breaks."""
    evidence: str = ""
    """Its first violation."""
    faults_found: int = 0
    requests_found: int = 0
    found_after: int = 0
    """Which schedule of the search was the first to break it."""
    schedules: int = 0
    """How many were played, those of the shrinking not counted."""
    shrinks: int = 0
    """How many were played to make it small."""
    requests: int = 0
    states: int = 0
    """How many different things the schedules have shown: states of all breakers together, ways requests took, …"""
    unusable: int = 0
    """How many were drawn that the loader refuses."""
    elapsed_s: float = 0.0

    @property
    def text(self) -> str:
        """The smallest schedule as the text of a scenario file, without comment; empty where nothing was found."""
        return yaml_of(self.document) if self.document is not None else ""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How a search stands."""

    schedules: int
    requests: int
    states: int
    elapsed_s: float
    shrinking: str | None = None
    """The check that was broken, while its schedule is made small."""


def search(
    *,
    seed: int,
    budget_s: float | None = None,
    schedules: int | None = None,
    make_router: Any = None,
    settings: dict[str, Any] | None = None,
    requests: int | None = None,
    told: Callable[[Progress], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> HuntResult:
    """
    Search for a schedule that breaks an invariant and return the smallest found, or how much was searched for nothing.

    It ends at the first find, after `budget_s` seconds (shrinking may take 24 more), or after so many `schedules` or
    `requests`; one of the three has to be given. The same seed and number search the same. `clock` tells the seconds:
    with `time.process_time` other work on the machine takes nothing away from the search. `make_router`
    makes the router of each simulated process from the arguments of `HybridRouter`, ours where it is not given.
    `settings` are those of the system under test which are not to be drawn. `told` hears of every schedule.
    """
    limits = _Limits(budget_s=budget_s, schedules=schedules, requests=requests)
    if limits == _Limits():
        raise ValueError("a search without budget_s, schedules or requests would never end; give one of the three")
    with calm_collector():
        return _Search(seed, limits, make_router, settings or {}, told, clock).run()


class _Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What ends a search that finds nothing."""

    budget_s: float | None = None
    schedules: int | None = None
    requests: int | None = None


class _Enough(BaseException):
    """Ends a round of Hypothesis from inside; no Exception, or it would be taken for a find."""


class _Broken(Exception):
    """The find itself, which Hypothesis shrinks: a schedule that breaks the invariant that is looked at."""


class _Search:
    """One search; `run` is called once."""

    def __init__(
        self,
        seed: int,
        limits: _Limits,
        make_router: Any,
        settings: dict[str, Any],
        told: Callable[[Progress], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self._seed = seed
        self._limits = limits
        self._make_router = make_router
        self._settings = settings
        self._told = told
        self._clock = clock
        self._began_s = clock()
        self._counts: Counter[str] = Counter()
        self._seen: set[Any] = set()
        self._check: Check | None = None
        self._smallest: Document | None = None
        self._found_after = 0
        self._shrinking_until_s = 0.0
        self._shrinks_max = _SHRINKS_MAX[0]

    def run(self) -> HuntResult:
        rounds = 0
        while self._check is None and not self._is_over():
            self._round(rounds)
            rounds += 1
        if self._smallest is not None and self._check is not None:
            self._shrinking_until_s = self._clock() + _SHRINKING_S[1]
            self._shrinks_max = self._counts["shrinks"] + _SHRINKS_MAX[1]
            # What is shrunk must still be a find at the end: the last pass begins from what has been played.
            self._smallest = shrink(self._smallest, self._still_fails)
        return self._result()

    def _round(self, number: int) -> None:
        """Draw one round; a find is shrunk by Hypothesis before it returns."""

        @hypothesis.seed(int(unit(self._seed, "hunt", number) * 2**53))
        @hypothesis.settings(
            max_examples=_ROUND,
            database=None,
            deadline=None,
            derandomize=False,
            phases=(Phase.generate, *((Phase.target,) if number % 2 else ()), Phase.shrink),
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much),
            report_multiple_bugs=False,
            print_blob=False,
            verbosity=hypothesis.Verbosity.quiet,
        )
        @hypothesis.given(schedules())
        def draw_and_play(document: Document) -> None:
            self._examine(self._as_told(document))

        with contextlib.suppress(_Enough, _Broken):
            draw_and_play()

    def _as_told(self, document: Document) -> Document:
        """Return the document with the settings that are not to be drawn."""
        if not self._settings:
            return document
        system = document["system"]
        return settled({**document, "system": {**system, "settings": system["settings"] | self._settings}})

    def _examine(self, document: Document) -> None:
        """Play a drawn schedule. Raises _Broken for a find, and _Enough when there is no time left."""
        if self._is_shrunk() if self._check is not None else self._is_over():
            raise _Enough
        # From one line, for to Hypothesis another line is another find.
        if self._still_fails(document) if self._check is not None else self._is_a_find(document):
            raise _Broken

    def _is_a_find(self, document: Document) -> bool:
        trial = self._play(document)
        if trial is None:
            hypothesis.reject()
        self._counts["schedules"] += 1
        self._counts["requests"] += trial.requests
        new = trial.features - self._seen
        self._seen |= new
        if trial.broken:
            self._check, self._smallest = trial.broken[0], document
            self._found_after = self._counts["schedules"]
            self._shrinking_until_s = self._clock() + _SHRINKING_S[0]
        for name, score in trial.scores.items():
            hypothesis.target(score, label=name)
        hypothesis.target(float(len(new)), label="new")
        self._tell()
        return bool(trial.broken)

    def _play(self, document: Document) -> Trial | None:
        try:
            return play(scenario_of(document), self._make_router)
        except Unusable:
            self._counts["unusable"] += 1
            return None

    def _still_fails(self, document: Document) -> bool:
        """Whether the check that was found broken is broken by `document` too; the smallest of these is kept."""
        if self._is_shrunk():
            return False
        self._counts["shrinks"] += 1
        trial = self._play(document)
        self._tell()
        assert self._check is not None  # noqa: S101 - nothing is shrunk before something was found
        broken = next((one for one in trial.broken if one.name == self._check.name), None) if trial else None
        if broken is None:
            return False
        if self._smallest is None or _size(document) <= _size(self._smallest):
            self._smallest, self._check = document, broken
        return True

    def _is_over(self) -> bool:
        limits = self._limits
        for count in ("schedules", "requests"):
            most: int | None = getattr(limits, count)
            if most is not None and self._counts[count] >= most:
                return True
        return limits.budget_s is not None and self._clock() - self._began_s >= limits.budget_s

    def _is_shrunk(self) -> bool:
        return self._counts["shrinks"] >= self._shrinks_max or self._clock() >= self._shrinking_until_s

    def _tell(self) -> None:
        if self._told is not None:
            self._told(
                Progress(
                    schedules=self._counts["schedules"],
                    requests=self._counts["requests"],
                    states=len(self._seen),
                    elapsed_s=self._clock() - self._began_s,
                    shrinking=self._check.name if self._check is not None else None,
                )
            )

    def _result(self) -> HuntResult:
        common: dict[str, Any] = {
            "seed": self._seed,
            "schedules": self._counts["schedules"],
            "shrinks": self._counts["shrinks"],
            "requests": self._counts["requests"],
            "states": len(self._seen),
            "unusable": self._counts["unusable"],
            "elapsed_s": self._clock() - self._began_s,
        }
        if self._check is None or self._smallest is None:
            return HuntResult(**common)
        first = self._check.evidence[0] if self._check.evidence else None
        return HuntResult(
            **common,
            found=scenario_of(self._smallest),
            document=self._smallest,
            check=self._check.name,
            evidence=self._check.reason if first is None else self._check.reason.rstrip("."),
            faults_found=len(self._smallest["faults"]),
            requests_found=requests_in(self._smallest),
            found_after=self._found_after,
        )


def _size(document: Document) -> tuple[int, int, int]:
    return (len(document["faults"]), requests_in(document), len(document["system"]["settings"]))
