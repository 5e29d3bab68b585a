"""
All that the page of a run shows, derived from its journal and verdict. Pure; no HTML.

Nothing here depends on the present time or the machine: the same journal gives the same view.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

import msgspec

from reports.breakers import BreakerStrip, strips_of
from reports.compare import Pair
from reports.episodes import FaultView, Figure, faults_of
from reports.failover import FailoverMatrix, failover_of
from reports.figures import figure_text
from reports.replicas import Replicas, replicas_of
from reports.spending import Spending, spending_of
from reports.stories import Story, stories_of
from reports.svg import number, seconds_text
from reports.timeline import Timeline, latency_s, percentile, timeline_of
from seawall.journal.events import RequestRecord
from seawall.journal.view import Journal
from seawall.verdicts.case import served_by
from seawall.verdicts.model import Check, RunVerdict, Verdict

__all__ = ["Mark", "Remark", "RunView", "replay_of", "view_of"]

_GROUPS = ("validity", "invariant", "steady_state", "always", "sometimes", "eventually", "threshold", "scaling", "undo")
_REMARKS_MAX = 200
_FIGURES_MAX = 1000


class Mark(msgspec.Struct, frozen=True, gc=False):
    """One request in the latency chart. `kind`: `whole`, `refused` or `failed`; `who` answered, when whole."""

    at_s: float
    latency_s: float
    kind: str
    who: str


class Remark(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the logbook: a note, or something that a process did."""

    at_s: float
    level: str
    """`info`, `warning`, `error` or `process`."""
    text: str


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page."""

    title: str
    run: str
    scenario_name: str
    arena: str
    system: str
    seed: int
    replay: str
    verdict: RunVerdict
    checks: tuple[Check, ...]
    """Worst first, then by group."""
    alarm: str
    """What a reader must know before anything else (a killed run, an undo that was not verified); may be empty."""
    first_event: str
    """When and at which request the first violation was seen; empty when the verdict's sentence tells it."""
    measured: str
    """Figure, limit and margin of the check that the verdict's sentence tells; empty when there is none."""
    meanwhile: tuple[tuple[str, str], ...]
    """The faults that were about when the first violation was seen, each with what it does."""
    undone_text: str
    duration: str
    tiles: tuple[Figure, ...]
    figures: tuple[tuple[str, str], ...]
    timeline: Timeline
    marks: tuple[Mark, ...]
    names: tuple[str, ...]
    """Everybody who can be the answer to "who answered": providers, then `unknown`, `refused`, `failed`."""
    requests_total: int
    faults: tuple[FaultView, ...]
    failover: FailoverMatrix | None
    strips: tuple[BreakerStrip, ...] | None
    spending: Spending | None
    replicas: Replicas | None
    stories: tuple[Story, ...]
    wrong_total: int
    baseline: Pair | None
    """What changed since another run, where one was given."""
    skips: tuple[tuple[str, str, int], ...]
    """Provider, reason, how often the plan left it out for that reason."""
    remarks: tuple[Remark, ...]
    remarks_left_out: int
    lag: tuple[Figure, ...]
    lag_rows: tuple[tuple[str, ...], ...]
    facts: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    scenario: str


def view_of(journal: Journal, verdict: RunVerdict, baseline: Pair | None = None) -> RunView:
    """Derive the view of a run; `baseline` is its comparison with another."""
    header = journal.header
    faults = faults_of(journal, verdict.figures)
    moments = [m for f in faults for e in f.episodes for m in (e.injecting_s, e.active_s, e.healed_s) if m is not None]
    line = timeline_of(journal, moments)
    checks = _ordered(verdict.checks)
    stories, wrong = stories_of(journal, faults)
    remarks = _remarks(journal)
    names = (*line.providers, "unknown", "refused", "failed")
    return RunView(
        title=header.title if header else "A run without a header",
        run=header.run if header else "unknown",
        scenario_name=header.scenario_name if header else "unknown",
        arena=header.arena if header else "unknown",
        system=header.system if header else "unknown",
        seed=header.seed if header else 0,
        replay=replay_of(journal),
        verdict=verdict,
        checks=checks,
        alarm=_alarm(journal, verdict),
        first_event=_first_event(verdict, checks),
        measured=_measured(verdict),
        meanwhile=_meanwhile(journal, verdict, faults),
        undone_text=_undone(verdict),
        duration=seconds_text(max(journal.seconds(journal.load_end_ns), 0.0)),
        tiles=_tiles(journal, line),
        figures=tuple((name, figure_text(name, value)) for name, value in sorted(verdict.figures.items()))[
            :_FIGURES_MAX
        ],
        timeline=line,
        marks=_marks(journal),
        names=names,
        requests_total=len(journal.requests),
        faults=faults,
        failover=failover_of(journal, names),
        strips=strips_of(journal, line.providers, line.start_s, line.end_s),
        spending=spending_of(journal, line),
        replicas=replicas_of(journal, line),
        stories=stories,
        wrong_total=wrong,
        baseline=baseline,
        skips=_skips(journal),
        remarks=remarks[:_REMARKS_MAX],
        remarks_left_out=max(len(remarks) - _REMARKS_MAX, 0),
        lag=_lag(journal),
        lag_rows=_lag_rows(journal),
        facts=_facts(journal),
        versions=tuple(sorted(header.versions.items()))[:_REMARKS_MAX] if header else (),
        settings=tuple(sorted(header.settings.items()))[:_REMARKS_MAX] if header else (),
        scenario=header.scenario if header else "",
    )


def replay_of(journal: Journal) -> str:
    """Return the command that runs it again."""
    if journal.header is None:
        return "seawall run"
    # The wire is what `seawall run` takes when nothing is said.
    arena = "" if journal.header.arena == "wire" else f"--arena {shlex.quote(journal.header.arena)} "
    return f"seawall run {arena}{shlex.quote(journal.header.scenario_name)} --seed {journal.header.seed}"


def _ordered(checks: Sequence[Check]) -> tuple[Check, ...]:
    severity = {verdict: rank for rank, verdict in enumerate(Verdict)}
    groups = {group: rank for rank, group in enumerate(_GROUPS)}
    return tuple(sorted(checks, key=lambda c: (severity[c.verdict], groups.get(c.group, len(groups)))))


def _alarm(journal: Journal, verdict: RunVerdict) -> str:
    parts: list[str] = []
    if journal.end is None:
        parts.append("This run was killed: the journal has no end, so what is below stops where the journal stops.")
    elif journal.end.reason != "finished":
        detail = f" ({journal.end.detail})" if journal.end.detail else ""
        words = {"interrupted": "was interrupted", "stopped": "was stopped early", "error": "broke off with an error"}
        parts.append(f"This run {words[journal.end.reason]}{detail}.")
    if verdict.undone is False:
        parts.append("Not every fault was verified undone: run “seawall recover” before you trust this machine.")
    return " ".join(parts)


def _first_event(verdict: RunVerdict, checks: Sequence[Check]) -> str:
    if verdict.verdict is Verdict.PASS:
        return ""
    judged = [check for check in checks if check.group != "undo"]
    worst = [check.evidence[0] for check in judged if check.verdict is verdict.verdict and check.evidence]
    timed = [item for item in worst if item.at_s is not None]
    first = min(timed, key=lambda item: item.at_s or 0.0, default=worst[0] if worst else None)
    if first is None or first.text in verdict.why:
        return ""
    when = "" if first.at_s is None else f"{first.at_s:.3f} s, "
    who = "" if first.request_id is None else f"request {first.request_id}: "
    return f"{when}{who}{first.text}"


def _measured(verdict: RunVerdict) -> str:
    told = verdict.told
    if told is None or not told.limit:
        return ""
    return f"{told.figure}, limit {told.limit}" + (f", {told.margin}." if told.margin else ".")


def _meanwhile(journal: Journal, verdict: RunVerdict, faults: Sequence[FaultView]) -> tuple[tuple[str, str], ...]:
    """Return the faults between whose injection and healing the first violation, or its request, was."""
    told = verdict.told
    first = told.evidence[0] if told is not None and told.evidence else None
    if first is None or first.at_s is None:
        return ()
    start_s = end_s = first.at_s
    for request in journal.requests.containing(re.compile(re.escape((first.request_id or "\0").encode()))):
        if request.request_id == first.request_id:
            start_s = min(start_s, journal.seconds(request.intended_ns))
            end_s = max(end_s, journal.seconds(request.end_ns))
    return tuple(
        (f"{fault.id} at {fault.target}", fault.description)
        for fault in faults
        if any(
            each.injecting_s is not None
            and each.injecting_s <= end_s
            and (each.healed_s is None or each.healed_s >= start_s)
            for each in fault.episodes
        )
    )


def _undone(verdict: RunVerdict) -> str:
    if verdict.undone is None:
        return "No fault was injected, so there was nothing to undo."
    return "Every fault was verified undone." if verdict.undone else "Not every fault was verified undone."


def _tiles(journal: Journal, line: Timeline) -> tuple[Figure, ...]:
    total = len(journal.requests)
    latencies = sorted(value for bucket in line.buckets for value in bucket.latencies_s)
    firsts = sorted(value for bucket in line.buckets for value in bucket.first_tokens_s)
    refused = sum(bucket.served.get("refused", 0) for bucket in line.buckets)
    whole = len(latencies)

    def quantile(values: Sequence[float], share: float) -> str:
        value = percentile(values, share)
        return "n/a" if value is None else seconds_text(value)

    calls = sum(sum(bucket.calls.values()) for bucket in line.buckets)
    per_request = f"{calls / total:.2f}" if total and line.calls_seen_by else "n/a"
    return (
        Figure(label="Requests", value=f"{total:,}".replace(",", " "), note="as the client saw them"),
        Figure(label="Answered whole", value=_percent(whole, total), note=f"{whole} of {total}"),
        Figure(label="Refused cleanly", value=str(refused), note=_percent(refused, total) if refused else ""),
        Figure(label="Failed", value=str(total - whole - refused), note="lost, cut, hung or wrong"),
        Figure(label="Latency p50", value=quantile(latencies, 0.5), note=f"p95 {quantile(latencies, 0.95)}"),
        Figure(label="Latency p99", value=quantile(latencies, 0.99), note=f"slowest {quantile(latencies, 1.0)}"),
        Figure(label="First token p99", value=quantile(firsts, 0.99), note=f"{len(firsts)} streams"),
        Figure(label="Calls a request", value=per_request, note="1.00 is no amplification"),
    )


def _percent(part: int, total: int) -> str:
    """Return a share; it never rounds up to 100 %, for one lost answer matters."""
    if not total:
        return "n/a"
    tenths = part * 10000 // total
    return f"{number(tenths / 100, 2)} %"


def _marks(journal: Journal) -> tuple[Mark, ...]:
    kinds = {"whole": "whole", "refused": "refused"}
    names: dict[str, str] = {}  # of a million marks each name is kept once

    def who(request: RequestRecord) -> str:
        name = served_by(request) or ("unknown" if request.outcome == "whole" else "")
        return names.setdefault(name, name)

    return tuple(
        Mark(
            round(journal.seconds(request.intended_ns), 4),
            latency_s(request),
            kinds.get(request.outcome, "failed"),
            who(request),
        )
        for request in journal.requests
    )


def _skips(journal: Journal) -> tuple[tuple[str, str, int], ...]:
    count: dict[tuple[str, str], int] = {}
    for stamped in journal.skips:
        key = (stamped.event.provider, stamped.event.reason)
        count[key] = count.get(key, 0) + 1
    return tuple((provider, reason, n) for (provider, reason), n in sorted(count.items()))


def _remarks(journal: Journal) -> tuple[Remark, ...]:
    remarks = [
        Remark(at_s=journal.seconds(stamped.mono_ns), level=stamped.event.level, text=stamped.event.text)
        for stamped in journal.notes
    ]
    words = {"start": "started", "ready": "is ready", "stop": "was told to stop", "exit": "ended"}
    for stamped in journal.processes:
        event = stamped.event
        more = [f"pid {event.pid}" if event.pid is not None else "", event.version or ""]
        more += [f"exit code {event.code}" if event.code is not None else "", event.detail or ""]
        detail = ", ".join(part for part in more if part)
        text = f"{event.name} {words[event.action]}" + (f" ({detail})" if detail else "")
        remarks.append(Remark(at_s=journal.seconds(stamped.mono_ns), level="process", text=text))
    remarks.sort(key=lambda remark: remark.at_s)
    tally = journal.tally
    if tally.bad_lines or tally.torn or tally.unknown_kinds:
        kinds = sum(tally.unknown_kinds.values())
        torn = ", a torn last line" if tally.torn else ""
        text = f"The journal has {tally.bad_lines} undecodable lines, {kinds} events of unknown kinds{torn}."
        remarks.append(Remark(at_s=journal.seconds(journal.last_ns), level="warning", text=text))
    return tuple(remarks)


def _lag(journal: Journal) -> tuple[Figure, ...]:
    lags = [stamped.event for stamped in journal.lags]
    if not lags:
        return ()
    return (
        Figure(label="Sent late, worst p99", value=f"{number(max(lag.p99_ms for lag in lags))} ms"),
        Figure(label="Sent late, at most", value=f"{number(max(lag.max_ms for lag in lags))} ms"),
        Figure(label="Busiest", value=f"{number(max(lag.cpu_share for lag in lags) * 100)} %", note="of one core"),
    )


def _lag_rows(journal: Journal) -> tuple[tuple[str, ...], ...]:
    rows = [
        (
            number(journal.seconds(stamped.mono_ns), 1),
            stamped.source,
            str(stamped.event.requests),
            number(stamped.event.p50_ms, 2),
            number(stamped.event.p99_ms, 2),
            number(stamped.event.max_ms, 2),
            f"{number(stamped.event.cpu_share * 100)} %",
        )
        for stamped in journal.lags
    ]
    if len(rows) <= _REMARKS_MAX:
        return tuple(rows)
    worst = sorted(range(len(rows)), key=lambda n: -journal.lags[n].event.max_ms)[:_REMARKS_MAX]
    return tuple(rows[n] for n in sorted(worst))


def _facts(journal: Journal) -> tuple[tuple[str, str], ...]:
    header = journal.header
    if header is None:
        return ()
    return (
        ("run", header.run),
        ("scenario", header.scenario_name),
        ("scenario SHA-256", header.scenario_sha256),
        ("seed", str(header.seed)),
        ("arena", header.arena),
        ("system under test", header.system),
        ("commit", header.commit or "unknown"),
        ("observes", ", ".join(header.observes)),
        ("ended", journal.end.reason if journal.end else "killed: no end in the journal"),
    )
