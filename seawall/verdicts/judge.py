"""
Judge a run from its journal alone: the verdict, the sentence that says why, every check, the figures.

Pure: the same journal gives the same verdict years later, whatever order its lines are in.
"""

from __future__ import annotations

from collections.abc import Mapping

from seawall.journal.view import Journal
from seawall.scenario.loader import load_text
from seawall.scenario.model import Scenario
from seawall.scenario.problems import ScenarioError
from seawall.verdicts.blackbox import check_black_box
from seawall.verdicts.case import Case
from seawall.verdicts.checks import absent, sentence
from seawall.verdicts.expectations import check_expectations
from seawall.verdicts.figures import figures_of
from seawall.verdicts.invariants import check_invariants
from seawall.verdicts.model import Check, RunVerdict, Verdict, worst
from seawall.verdicts.steady import check_steady_state
from seawall.verdicts.undoing import undo_check, undone
from seawall.verdicts.validity import WHOLE, check_validity, something_is_observable

__all__ = ["judge", "judge_scenario"]


def judge(journal: Journal) -> RunVerdict:
    """
    Return the verdict of a run.

    A journal that was edited after the run, or whose scenario is missing or cannot be read, is `invalid`.
    """
    if journal.header is None:
        edited = f" It was edited after the run: {journal.tally.edited}." if journal.tally.edited else ""
        return _unreadable(f"The journal has no header, so nobody knows what was run.{edited}")
    try:
        scenario = load_text(journal.header.scenario, journal.header.scenario_name).scenario
    except ScenarioError as error:
        first = str(error).strip().splitlines()[0]
        return _unreadable(f"The scenario in the journal's header cannot be read: {first}")
    return judge_scenario(journal, scenario)


def judge_scenario(journal: Journal, scenario: Scenario) -> RunVerdict:
    """Return the verdict of a run of `scenario`."""
    case = Case(journal, scenario)
    expectations = check_expectations(case)
    checks = (
        *check_validity(case),
        something_is_observable(expectations),
        *check_invariants(case),
        *check_black_box(case),
        *check_steady_state(case),
        *expectations,
        undo_check(case),
    )
    figures = figures_of(case)
    verdict = worst([check.verdict for check in checks if check.group != "undo"])
    if journal.tally.edited is not None:
        verdict = Verdict.INVALID  # of such a journal nothing is evidence, against the system neither
    return RunVerdict(
        verdict=verdict,
        why=_shown(case, figures) if verdict is Verdict.PASS else _why(case, checks, verdict),
        checks=checks,
        undone=undone(case),
        figures=figures,
    )


def _why(case: Case, checks: tuple[Check, ...], verdict: Verdict) -> str:
    """
    Return the first violation of the worst kind in one sentence: the earliest, what has no time last.

    What happened to a request counts from the moment at which that was due, so that of all that one request broke the
    first check tells: causes stand before their consequences there.
    """
    guilty = [check for check in checks if check.verdict is verdict and check.group != "undo"]
    named = {check.evidence[0].request_id for check in guilty if check.evidence} - {None}
    due_s = {
        request.request_id: case.journal.seconds(request.intended_ns)
        for request in case.journal.requests
        if request.request_id in named
    }
    first = min(guilty, key=lambda check: _moment(check, due_s))
    if case.journal.tally.edited is not None:
        first = next(check for check in guilty if check.name == WHOLE)
    detail = sentence(first.evidence[0]) + "." if first.evidence else first.reason
    more = f" ({len(guilty)} checks say so.)" if len(guilty) > 1 else ""
    return f"{first.name}: {detail}{more}"


def _moment(check: Check, due_s: Mapping[str, float]) -> tuple[float, bool]:
    first = check.evidence[0] if check.evidence else None
    if first is None or first.at_s is None:
        return (float("inf"), first is None or first.request_id is None)
    return (due_s.get(first.request_id or "", first.at_s), False)


def _shown(case: Case, figures: dict[str, float | None]) -> str:
    """Return what a run that passed has shown."""
    faults = sorted(case.met)
    whole = (figures["success_rate"] or 0.0) * 100
    parts = [f"All held over {len(case.journal.requests)} requests", f"{whole:.2f} % answered whole"]
    parts.append(f"faults met: {', '.join(faults)}" if faults else "no fault was planned")
    if case.journal.tally.sealed is False:
        parts.append("the journal has no seal, so an edit would not show")
    for fault_id in faults:
        steps = (("detected", "detect"), ("failed over", "fail_over"), ("recovered", "recover"))
        times = [(words, name, figures[f"time_to_{name}_s:{fault_id}"]) for words, name in steps]
        said = [
            f"{words} {seconds:.3f} s after its {'healing' if name == 'recover' else 'injection'}"
            for words, name, seconds in times
            if seconds is not None
        ]
        parts.append(f"{fault_id} {', '.join(said) or 'moved no traffic'}")
    return "; ".join(parts) + "."


def _unreadable(reason: str) -> RunVerdict:
    check = absent("validity", "the scenario can be read", reason)
    return RunVerdict(verdict=Verdict.INVALID, why=f"{check.name}: {reason}", checks=(check,), undone=None, figures={})
