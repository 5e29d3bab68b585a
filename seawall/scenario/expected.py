"""What a scenario expects, held against its faults and its load: names, units, and whether it can be shown at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from seawall.scenario.expectations import Sometimes
from seawall.scenario.problems import Problem, listed, nearest
from seawall.scenario.quantities import Limit, duration_text
from seawall.scenario.sentences import Path
from seawall.scenario.situation import Situation, count_between

__all__ = ["check_expectations"]

_UNIT_WORDS = {
    "s": "a duration",
    "share": "a percentage",
    "rate": "a rate",
    "usd": "an amount of money",
    "count": "a plain number",
}
_UNIT_EXAMPLES = {"s": '"< 800ms"', "share": '">= 99.9%"', "usd": '"<= 0.10 USD"', "count": '">= 20"'}
_REFUSALS = {
    "all_clouds_down": "all_down",
    "budget_exceeded": "budget",
    "airgap": "airgap",
    "transcripts_down": "transcripts",
}


def check_expectations(situation: Situation) -> Iterator[Problem]:
    """Yield the problems of `steady_state`, `expect` and `stop_when`."""
    yield from _fault_names(situation)
    yield from _units(situation)
    yield from _enough_requests(situation)
    yield from _in_time(situation)
    yield from _possible(situation)


def _parts(situation: Situation) -> Iterator[tuple[Path, Any]]:
    expect = situation.scenario.expect
    groups = {"always": expect.always, "sometimes": expect.sometimes}
    groups |= {"eventually": expect.eventually, "thresholds": expect.thresholds, "scaling": expect.scaling}  # type: ignore[dict-item]
    for group, items in groups.items():
        for index, item in enumerate(items):
            yield ("expect", group, index), item


def _fault_names(situation: Situation) -> Iterator[Problem]:
    ids = [fault.id for fault in situation.scenario.faults]
    for path, item in _parts(situation):
        for key in ("during", "after"):
            name = getattr(item, key, None)
            if name is None or name in ids or name in situation.ghosts:
                continue
            word = nearest(name, [*ids, *situation.ghosts])
            fix = f"did you mean `{word}`?" if word else f"the faults are {listed(ids)}" if ids else "add that fault"
            yield situation.problem((*path, key), f"`{key}` names `{name}`, which is no fault's id", fix)


def _unit_of(metric: str) -> str:
    if metric.endswith("_rate"):
        return "share"
    if metric == "spend_usd":
        return "usd"
    return "count" if metric in ("requests", "reaches", "stays", "turns") else "s"


def _limits(situation: Situation) -> Iterator[tuple[Path, str, Limit | None]]:
    """Yield every limit with its place and the metric that it limits."""
    scenario = situation.scenario
    if scenario.steady_state is not None:
        for metric in ("success_rate", "latency_p50", "latency_p95", "latency_p99"):
            yield ("steady_state", metric), metric, getattr(scenario.steady_state, metric)
    for index, some in enumerate(scenario.expect.sometimes):
        yield ("expect", "sometimes", index, "requests"), "requests", some.requests
    for index, threshold in enumerate(scenario.expect.thresholds):
        yield ("expect", "thresholds", index, "limit"), threshold.metric, threshold.limit
    for index, late in enumerate(scenario.expect.eventually):
        yield ("expect", "eventually", index, "share"), "share_rate", late.share
    for index, scaling in enumerate(scenario.expect.scaling):
        for word in ("reaches", "stays", "turns"):
            yield ("expect", "scaling", index, word), word, getattr(scaling, word)
    if scenario.stop_when is not None:
        yield ("stop_when", "success_rate"), "success_rate", scenario.stop_when.success_rate


def _units(situation: Situation) -> Iterator[Problem]:
    for path, metric, limit in _limits(situation):
        unit = _unit_of(metric)
        if limit is not None and limit.unit != unit:
            name = path[-1] if metric == "share_rate" else metric
            message = f"`{name}` is {_UNIT_WORDS[unit]}, and the limit `{limit.text}` is {_UNIT_WORDS[limit.unit]}"
            yield situation.problem(path, message, f"write it like {_UNIT_EXAMPLES[unit]}")


def _needed(metric: str) -> int:
    """Return how many requests a metric needs before it says anything."""
    if metric.endswith("_p99"):
        return 100
    return 20 if metric.endswith("_rate") else 1 if metric.startswith("first_token") else 0


def _enough_requests(situation: Situation) -> Iterator[Problem]:
    """Warn of figures that will be had from too few requests, which makes a run invalid."""
    if not situation.load_known:
        return
    end_s = situation.load_end_s
    # The executor `arrivals` sends its last request at its very end.
    after_end_s = end_s + 1e-6
    windows = list(_steady_windows(situation))
    for index, threshold in enumerate(situation.scenario.expect.thresholds):
        spans = [(0.0, after_end_s)]
        if threshold.during is not None:
            spans = situation.windows_s(threshold.during)
        elif threshold.after is not None:
            spans = _after(situation, threshold.after, after_end_s)
        if spans and spans[0][0] < end_s:
            windows.append((("expect", "thresholds", index, "metric"), threshold.metric, spans))
    told: set[Path] = set()
    for path, metric, spans in windows:
        needed = _needed(metric)
        # A limit holds in each occurrence of a fault by itself.
        count = min(count_between(situation.plan, *span) for span in spans)
        streams = metric.startswith("first_token")
        if streams:
            count *= situation.stream_share
        if count + 1e-6 < needed and path not in told:
            told.add(path)
            what = ("stream" if streams else "request") + ("s" if needed > 1 else "")
            message = f"`{metric}` needs {needed} {what}, and about {count:.0f} are sent in its time"
            fix = "raise the rate, lengthen the time" + (", or use latency_max" if metric == "latency_p99" else "")
            yield situation.warning(path, message, fix)


def _after(situation: Situation, fault_id: str, end_s: float) -> list[tuple[float, float]]:
    """Return the times from each planned end of a fault to its next start, or to `end_s`."""
    windows = situation.windows_s(fault_id)
    starts_s = [start_s for start_s, _ in windows[1:]]
    return [(stop_s, until_s) for (_, stop_s), until_s in zip(windows, [*starts_s, end_s], strict=False)]


def _steady_windows(situation: Situation) -> Iterator[tuple[Path, str, list[tuple[float, float]]]]:
    steady = situation.scenario.steady_state
    timed = situation.timed_faults
    if steady is None or not timed or not situation.faults_known:
        return
    first_s, last_s = min(fault[2] for fault in timed), max(fault[3] for fault in timed)
    fits = first_s >= steady.window and last_s + steady.window <= situation.load_end_s
    for metric in ("success_rate", "latency_p99"):
        if fits and getattr(steady, metric) is not None:
            yield ("steady_state", metric), metric, [(first_s - steady.window, first_s)]
            yield ("steady_state", metric), metric, [(last_s, last_s + steady.window)]


def _in_time(situation: Situation) -> Iterator[Problem]:
    """Warn of what is to come true within a time that is cut short; each occurrence of a fault has its own."""
    if not situation.load_known:
        return
    starts_s = [(start_s, f"fault `{fault.id}` starts") for _, fault, start_s, _ in situation.timed_faults]
    for index, late in enumerate(situation.scenario.expect.eventually):
        for _, healed_s in situation.windows_s(late.after):
            if healed_s > situation.load_end_s:
                continue
            ends = [(situation.load_end_s, "the load ends"), *(start for start in starts_s if start[0] > healed_s)]
            until_s, what = min(ends)
            if until_s < healed_s + late.within:
                reach_s = duration_text(round(healed_s + late.within, 9))
                message = f"`within` of fault `{late.after}` reaches to {reach_s}, but {what}"
                fix = f"take at most {duration_text(round(until_s - healed_s, 9))}, or leave more time"
                place: Path = ("expect", "eventually", index, "within")
                yield situation.warning(place, f"{message} at {duration_text(round(until_s, 9))}", fix)
                break


def _possible(situation: Situation) -> Iterator[Problem]:
    """Yield what can never happen under these settings, and refusals that nobody has allowed."""
    scenario = situation.scenario
    for index, some in enumerate(scenario.expect.sometimes):
        path: Path = ("expect", "sometimes", index)
        allowed = _REFUSALS.get(some.refused or "")
        if allowed is not None and allowed not in scenario.allow_refusal:
            message = f"`refused: {some.refused}` expects refusals that `allow_refusal` does not allow"
            yield situation.warning((*path, "refused"), message, f"add allow_refusal: [{allowed}]")
        if situation.system_known:
            found = _never(situation, some)
            if found is not None:
                key, message, fix = found
                yield situation.problem((*path, key), message, fix)


def _never(situation: Situation, some: Sometimes) -> tuple[str, str, str] | None:
    """Return the key, message and fix of what cannot happen, or None."""
    sealed = situation.turns_on("AIRGAP_MODE")
    limit = situation.setting("LATENCY_LIMIT")
    if "airgap" in (some.refused, some.reason) and not sealed:
        key = "reason" if some.refused is None else "refused"
        return key, "nothing is refused for the air gap, which is off", "add AIRGAP_MODE: true to system.settings"
    if some.served_by not in (None, "local") and sealed:
        return "served_by", f"under AIRGAP_MODE nobody is served by {some.served_by}", "write local, or take it out"
    if (some.reason == "slow" or some.latency is not None) and re.fullmatch(r"0(\.0*)?\s*(ms|s|m|h)?", str(limit)):
        key = "reason" if some.latency is None else "latency"
        return key, "nobody grows slow with a LATENCY_LIMIT of 0, which is off", "set it above 0"
    if some.skipped == "local" and some.reason in ("budget", "airgap", "no_key"):
        message = f"local is free, here and without a key, so it is never skipped for {some.reason}"
        return "reason", message, "write another reason, or another provider"
    return None
