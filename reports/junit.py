"""
Verdicts as JUnit XML, which every CI server reads.

One suite a group, one case a check. `fail` is a failure, `invalid` an error (the run proves nothing), a missed advisory
limit is skipped with its reason, `safe` passes and says so in its output. Nothing in it depends on the present time.
"""

from __future__ import annotations

from collections.abc import Iterable

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from reports.svg import clean, shortened
from seawall.verdicts.model import Check, RunVerdict, Verdict

__all__ = ["junit_of", "to_bytes"]


_TEXT_MAX = 4000
"""Characters of one text: CI servers read the whole file at once."""


def junit_of(name: str, verdict: RunVerdict, properties: Iterable[tuple[str, str]] = ()) -> JUnitXml:
    """Return the checks of a run called `name`, one suite a group in order of first appearance."""
    suites: dict[str, TestSuite] = {}
    for check in verdict.checks:
        if check.group not in suites:
            suites[check.group] = TestSuite(clean(f"{name}: {check.group}"))
        suites[check.group].add_testcase(_case(f"{name}.{check.group}", check))
    shown = {check.verdict for check in verdict.checks if check.group != "undo"}
    if verdict.verdict in {Verdict.FAIL, Verdict.INVALID} - shown:
        # A run may be worse than each of its checks, a killed one for instance; CI must not be green then.
        suites["run"] = TestSuite(clean(f"{name}: run"))
        suites["run"].add_testcase(_case(f"{name}.run", _run_as_check(verdict)))
    xml = JUnitXml(clean(name))
    for suite in suites.values():
        for key, value in properties:
            suite.add_property(clean(key), clean(value))
        xml.add_testsuite(suite)
    xml.update_statistics()
    return xml


def to_bytes(xml: JUnitXml) -> bytes:
    """Return the document as UTF-8."""
    return bytes(xml.tostring())


def _run_as_check(verdict: RunVerdict) -> Check:
    return Check(
        group="run", name="the run as a whole", verdict=verdict.verdict, figure="n/a", limit="", reason=verdict.why
    )


def _case(classname: str, check: Check) -> TestCase:
    case = TestCase(clean(check.name), classname=clean(classname), time=0.0)
    reason = shortened(check.reason, _TEXT_MAX)
    lines = [f"{check.figure} (limit {check.limit})" if check.limit else check.figure, reason]
    lines += [_evidence_line(shortened(item.text, _TEXT_MAX), item.at_s, item.request_id) for item in check.evidence]
    text = clean("\n".join(lines))
    if check.verdict is Verdict.FAIL:
        result: Failure | Error | Skipped = Failure(reason, type_=check.group)
    elif check.verdict is Verdict.INVALID:
        result = Error(reason, type_=check.group)
    elif check.verdict is Verdict.PARTIAL:
        result = Skipped(f"advisory: {reason}")
    else:
        case.system_out = text
        return case
    result.text = text
    case.result = [result]
    return case


def _evidence_line(text: str, at_s: float | None, request_id: str | None) -> str:
    when = "" if at_s is None else f"at {at_s:.3f} s "
    who = "" if request_id is None else f"request {request_id}: "
    return f"- {when}{who}{text}"
