"""
Make a schedule that breaks something as small as it can be: the last pass, which knows what a schedule is.

Hypothesis's shrinker has gone over the choices before. This one takes out faults and requests, settings and words, and
rounds what is left, as long as the same check still fails; each step is one simulation, and they get shorter.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from seawall.hunt.document import (
    BASE_SETTINGS,
    Document,
    arrivals_of,
    requests_in,
    scenario_of,
    settled,
    with_arrivals,
)
from seawall.scenario.model import PROVIDERS
from seawall.scenario.quantities import duration_text, parse_duration

__all__ = ["shrink"]

_KEPT = "TOTAL_TIMEOUT"
"""Every hunted scenario has it: clients wait longer than that."""
_SIMPLER: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("respond", ({"status": 503}, {"hang": True})),
    ("toxic", ({"type": "down"}, {"type": "timeout", "attributes": {"timeout": 0}})),
)
_STRONGER: tuple[dict[str, Any], ...] = ({"status": 503}, {"first_token": "800ms"}, {"hang": True})
_WORDS = (
    *("id", "at", "follows", "delay", "duration", "every", "target"),
    *("toxic", "respond", "process", "remaining", "injection_rate"),
)
_ROUNDS_MAX = 6
_APART_S = 0.5
_FEW = 10


def shrink(document: Document, still_fails: Callable[[Document], bool]) -> Document:
    """
    Return the smallest document found that `still_fails`.

    `still_fails` says no to what cannot be loaded, and to everything once the time for it is over.
    """
    for _ in range(_ROUNDS_MAX):
        before = copy.deepcopy(document)
        for candidates in (_fewer_faults, _fewer_providers, _quicker, _plainer, _simpler_faults, _rounder):
            document = _descend(document, candidates, still_fails)
            document = _fewer_requests(document, still_fails)
        if document == before:
            break
    apart = settled(_apart(document))
    document = apart if apart != document and still_fails(apart) else document
    named = _renamed(document)
    return _ordered(named if still_fails(named) else document)


def _descend(
    document: Document, candidates: Callable[[Document], Iterable[Document]], still_fails: Callable[[Document], bool]
) -> Document:
    """Take the first candidate that still fails, and begin again from it, until none does."""
    found: Document | None = document
    while found is not None:
        document = found
        found = next((one for one in map(settled, candidates(document)) if one != document and still_fails(one)), None)
    return document


def _fewer_requests(document: Document, still_fails: Callable[[Document], bool]) -> Document:
    """Take requests out: halves first, then quarters, down to single ones."""
    arrivals = arrivals_of(document)
    size = max(1, len(arrivals) // 2)
    while True:
        start = 0
        while start < len(arrivals) and len(arrivals) > 1:
            fewer = arrivals[:start] + arrivals[start + size :]
            if fewer and still_fails(settled(with_arrivals(document, fewer))):
                arrivals = fewer
            else:
                start += size
        if size == 1:
            return settled(with_arrivals(document, arrivals))
        size = max(1, size // 2)


def _fewer_faults(document: Document) -> Iterator[Document]:
    for n, fault in enumerate(document["faults"]):
        fewer = copy.deepcopy(document)
        del fewer["faults"][n]
        for other in fewer["faults"]:
            if other.get("follows") == fault["id"]:
                _detach(other, fault)
        yield fewer
        # What two of a kind do together, one that is stronger may do alone.
        for place, other in enumerate(fewer["faults"]):
            if other["target"] == fault["target"] and ("toxic" in other or "respond" in other):
                for harm in _STRONGER:
                    yield _replaced(fewer, place, harm)


def _fewer_providers(document: Document) -> Iterator[Document]:
    """Yield it, where several providers are harmed, with one alone that may be asked: the local one."""
    if len(document["faults"]) < 2 or "AIRGAP_MODE" in document["system"]["settings"]:
        return
    for fault in document["faults"]:
        if fault["target"] in PROVIDERS and "at" in fault:
            alone = copy.deepcopy(document)
            alone["system"]["settings"]["AIRGAP_MODE"] = True
            alone["load"]["model"] = "local"
            alone["faults"] = [{**copy.deepcopy(fault), "target": "local"}]
            yield alone


def _replaced(document: Document, place: int, harm: dict[str, Any]) -> Document:
    """Return it with another harm in the same place, time and target."""
    changed = copy.deepcopy(document)
    fault = changed["faults"][place]
    for word in ("toxic", "respond", "injection_rate"):
        fault.pop(word, None)
    fault["respond"] = copy.deepcopy(harm)
    return changed


def _apart(document: Document) -> Document:
    """
    Return it with some time between a fault's edges and the requests.

    On the wire a request that is due at the moment of a fault meets it or not, as it happens.
    """
    if any("at" not in fault or "every" in fault for fault in document["faults"]):
        return document
    edges: dict[tuple[float, int], float] = {(at_s, 1): 0.0 for at_s, _ in arrivals_of(document)}
    spans = [(parse_duration(fault["at"]), parse_duration(fault["duration"])) for fault in document["faults"]]
    edges |= {(start_s, 0): 0.0 for start_s, _ in spans} | {
        (round(start_s + for_s, 6), 2): 0.0 for start_s, for_s in spans
    }
    moved_s, last = 0.0, (0.0, 1)
    for edge in sorted(edges):
        gap_s = edge[0] - last[0]
        moved_s += gap_s if edge[1] == last[1] == 1 else max(gap_s, _APART_S)
        edges[edge], last = round(moved_s, 3), edge
    apart = copy.deepcopy(with_arrivals(document, [(edges[at_s, 1], stream) for at_s, stream in arrivals_of(document)]))
    for fault, (start_s, for_s) in zip(apart["faults"], spans, strict=True):
        begins_s, ends_s = edges[start_s, 0], edges[round(start_s + for_s, 6), 2]
        fault["at"], fault["duration"] = duration_text(begins_s), duration_text(round(ends_s - begins_s, 3))
    return apart


def _renamed(document: Document) -> Document:
    """Return it with its faults called f1, f2, … in the order of their times."""
    starts_s = {fault.id: start_s for fault, start_s in _starts(document)}
    renamed = copy.deepcopy(document)
    faults: list[dict[str, Any]] = sorted(renamed["faults"], key=lambda fault: starts_s[fault["id"]])
    renamed["faults"] = faults
    names = {fault["id"]: f"f{n + 1}" for n, fault in enumerate(faults)}
    for fault in faults:
        fault["id"] = names[fault["id"]]
        if "follows" in fault:
            fault["follows"] = names[fault["follows"]]
    return renamed


def _starts(document: Document) -> Iterator[tuple[Any, float]]:
    scenario = scenario_of(document)
    starts_s = scenario.fault_starts()
    return ((fault, starts_s[fault.id]) for fault in scenario.faults)


def _ordered(document: Document) -> Document:
    """Return it with the words of each fault in the order in which one reads them."""
    faults = [{word: fault[word] for word in _WORDS if word in fault} for fault in document["faults"]]
    return {**document, "faults": faults}


def _detach(fault: dict[str, Any], before: dict[str, Any]) -> None:
    """Let a fault stand where it stood, though the one that it followed is gone."""
    delay_s = parse_duration(fault.pop("delay", "0s")) + parse_duration(before["duration"])
    del fault["follows"]
    if "at" in before:
        fault["at"] = duration_text(parse_duration(before["at"]) + delay_s)
    else:
        fault["follows"] = before["follows"]
        fault["delay"] = duration_text(parse_duration(before.get("delay", "0s")) + delay_s)


def _quicker(document: Document) -> Iterator[Document]:
    """Yield it, where it takes many requests, with a setting or a model by which fewer may do."""
    if requests_in(document) <= _FEW:
        return
    for name, value in (("CIRCUIT_BREAKER_FAILURE_THRESHOLD", 1), ("CIRCUIT_BREAKER_RECOVERY_TIMEOUT", "2s")):
        if document["system"]["settings"].get(name) != value:
            quicker = copy.deepcopy(document)
            quicker["system"]["settings"][name] = value
            fewer = _thinned(quicker)
            yield from fewer
    for fault in document["faults"]:
        if fault["target"] in PROVIDERS and document["load"].get("model", "gemini") != fault["target"]:
            quicker = copy.deepcopy(document)
            quicker["load"]["model"] = fault["target"]
            yield from _thinned(quicker)


def _thinned(document: Document) -> Iterator[Document]:
    """Yield it with every n-th request only: what is quicker counts only where it saves requests."""
    arrivals = arrivals_of(document)
    for step in (8, 4, 3, 2):
        yield with_arrivals(document, arrivals[::step])
        yield with_arrivals(document, arrivals[::step] + arrivals[-1:])


def _plainer(document: Document) -> Iterator[Document]:
    """Yield it with a default in place of something that was set."""
    for name in document["system"]["settings"]:
        plainer = copy.deepcopy(document)
        if name in BASE_SETTINGS:
            if document["system"]["settings"][name] != BASE_SETTINGS[name]:
                plainer["system"]["settings"][name] = BASE_SETTINGS[name]
                yield plainer
            if name == _KEPT:
                continue
            plainer = copy.deepcopy(document)
        del plainer["system"]["settings"][name]
        yield plainer
    if "providers" in document:
        yield {name: value for name, value in document.items() if name != "providers"}
    for part, name in (("system", "workers"), ("load", "model"), ("load", "max_tokens")):
        if name in document[part]:
            plainer = copy.deepcopy(document)
            del plainer[part][name]
            yield plainer
    if any(stream for _, stream in arrivals_of(document)):
        yield with_arrivals(document, [(at_s, False) for at_s, _ in arrivals_of(document)])
    if document["seed"] != 1:
        yield {**document, "seed": 1}


def _simpler_faults(document: Document) -> Iterator[Document]:
    """Yield it with one fault that is easier to read."""
    for n, fault in enumerate(document["faults"]):
        for name in ("every", "injection_rate", "delay"):
            if name in fault:
                simpler = copy.deepcopy(document)
                del simpler["faults"][n][name]
                yield simpler
        if "follows" in fault:
            simpler = copy.deepcopy(document)
            before = next(other for other in document["faults"] if other["id"] == fault["follows"])
            _detach(simpler["faults"][n], before)
            yield simpler
        for kind, others in _SIMPLER:
            at = others.index(fault[kind]) if fault.get(kind) in others else len(others)
            for other in others[:at] if kind in fault else ():
                simpler = copy.deepcopy(document)
                simpler["faults"][n][kind] = copy.deepcopy(other)
                yield simpler
        for seconds in ("1s", "2s", "5s", "10s"):
            if parse_duration(seconds) >= parse_duration(fault["duration"]):
                break
            simpler = copy.deepcopy(document)
            simpler["faults"][n]["duration"] = seconds
            yield simpler


def _rounder(document: Document) -> Iterator[Document]:
    """Yield it with rounder and earlier times, one request or fault at a time, and all together."""
    arrivals = arrivals_of(document)
    for step_s in (1.0, 0.5, 0.1):
        # Earlier only: what may go both ways would go to and fro.
        whole = [(int(at_s / step_s + 1e-9) * step_s, stream) for at_s, stream in arrivals]
        if whole != arrivals:
            yield with_arrivals(document, whole)
    starts_s = [parse_duration(fault["at"]) for fault in document["faults"] if "at" in fault]
    first_s = min([at_s for at_s, _ in arrivals] + starts_s)
    for shift_s in (first_s, float(int(first_s))):
        if shift_s > 0:
            yield _shifted(document, shift_s)
    for n, (at_s, stream) in enumerate(arrivals):
        before_s = arrivals[n - 1][0] if n else 0.0
        for between_s in (before_s, float(int(before_s) + 1), before_s + (at_s - before_s) / 2):
            earlier_s = round(between_s, 1)
            if before_s <= earlier_s < at_s:
                yield with_arrivals(document, [*arrivals[:n], (earlier_s, stream), *arrivals[n + 1 :]])


def _shifted(document: Document, shift_s: float) -> Document:
    shifted = with_arrivals(document, [(max(0.0, at_s - shift_s), stream) for at_s, stream in arrivals_of(document)])
    shifted = copy.deepcopy(shifted)
    for fault in shifted["faults"]:
        if "at" in fault:
            fault["at"] = duration_text(max(0.0, round(parse_duration(fault["at"]) - shift_s, 6)))
    return shifted
