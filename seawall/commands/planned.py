"""What `seawall run --plan` prints: load, faults and parts of each scenario in time, and how long all takes."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seawall.plan import count_of, duration_of
from seawall.scenario import Loaded
from seawall.scenario.model import FaultSpec, Scenario
from seawall.scenario.quantities import duration_text, rate_text, share_text
from seawall.suite import Result, ordered

__all__ = ["expected_s", "fault_text", "planned_text"]

_OVERHEAD_S = 5.0
"""Starting and stopping the parts, judging and reporting, in seconds."""


def planned_text(scenarios: Sequence[Loaded], *, seed: int | None, jobs: int) -> str:
    """Return the plan of all scenarios, and of the whole."""
    blocks: list[str] = []
    for loaded in scenarios:
        scenario = loaded.scenario
        if seed is not None:
            scenario = scenario.model_copy(update={"seed": seed})
        blocks.append("\n".join(_scenario(Path(loaded.name).stem, scenario)))
    results = [Result(name=Path(loaded.name).stem, loaded=loaded) for loaded in scenarios]
    together, alone = ordered(results, jobs)
    how = ""
    if len(results) > 1 and together:
        how = f", {min(jobs, len(together))} at a time" + (f", {len(alone)} of them alone" if alone else "")
    elif len(results) > 1:
        how = ", one after the other"
    total_s = _makespan(together, jobs) + sum(expected_s(result.loaded.scenario) for result in alone)
    count = "1 scenario" if len(results) == 1 else f"{len(results)} scenarios"
    return "\n\n".join([*blocks, f"{count}{how}: about {_clock(total_s)}. Nothing was started."])


def expected_s(scenario: Scenario) -> float:
    """Return how long a run takes, about, from the first process to the report, in seconds."""
    return duration_of(scenario.load.plan(scenario.seed)) + _OVERHEAD_S


def fault_text(fault: FaultSpec) -> str:
    """Return in words what a fault does."""
    if fault.toxic is not None:
        toxic = fault.toxic
        attributes = ", ".join(f"{name} {value}" for name, value in toxic.attributes.items())
        parts = [attributes] if attributes else []
        parts += [] if toxic.type == "down" else [toxic.stream]
        parts += [f"{share_text(toxic.toxicity)} of connections"] if toxic.toxicity < 1 else []
        return f"toxic {toxic.type}" + (f" ({', '.join(parts)})" if parts else "")
    if fault.respond is not None:
        chosen = fault.respond.model_dump(mode="json", exclude_defaults=True)
        words = ", ".join(name if value is True else f"{name} {value}" for name, value in chosen.items())
        rate = f", {share_text(fault.injection_rate)} of requests" if fault.injection_rate < 1 else ""
        return f"answers with {words}{rate}"
    if fault.process is not None:
        return f"process: {fault.process}"
    if fault.clock_skew is not None:
        return f"its clock {duration_text(abs(fault.clock_skew))} {'fast' if fault.clock_skew > 0 else 'slow'}"
    if fault.remaining is None:
        return _of_the_cluster(fault)
    return f"only {fault.remaining_usd:g} USD of the day's limit left"


def _of_the_cluster(fault: FaultSpec) -> str:
    if fault.chaos_mesh is not None:
        scheduled: dict[str, Any] = fault.chaos_mesh.spec.get("podChaos") or fault.chaos_mesh.spec
        return f"Chaos Mesh: {fault.chaos_mesh.kind} {scheduled.get('action', '')} ({scheduled.get('mode', 'one')})"
    if fault.rollout is not None:
        return f"rollout: {fault.rollout}"
    return f"metrics API: {fault.metrics_outage}"


def _scenario(name: str, scenario: Scenario) -> list[str]:
    plan = scenario.load.plan(scenario.seed)
    end_s = duration_of(plan)
    lines = [f"{name}: {scenario.title}"]
    lines += [f"  why     {scenario.motivation}"] if scenario.motivation else []
    lines += [f"  load    {_load(scenario)}: {count_of(plan)} requests in {end_s:g} s, seed {scenario.seed}"]
    lines += [f"  starts  {', '.join(_parts(scenario))}"]
    lines += [f"  takes   about {_clock(expected_s(scenario))}" + (", alone" if scenario.exclusive else "")]
    lines += ["  time", f"    {0:7.1f} s  load begins"]
    moments: list[tuple[float, int, str]] = []
    for fault in scenario.faults:
        for start_s in scenario.occurrences(fault.id):
            moments.append((start_s, 1, f"fault {fault.id} at {fault.target}: {fault_text(fault)}"))
            moments.append((start_s + fault.duration, 0, f"fault {fault.id} heals"))
    lines += [f"    {at_s:7.1f} s  {words}" for at_s, _, words in sorted(moments)]
    lines += [f"    {end_s:7.1f} s  load ends; answers under way may take {duration_text(plan.deadline_s)} more"]
    return lines


def _load(scenario: Scenario) -> str:
    load = scenario.load
    words = [load.executor]
    words += [rate_text(load.rate)] if load.rate else []
    if load.stages:
        rates = [load.start_rate or 0.0, *(stage.target for stage in load.stages)]
        words.append(" → ".join(rate_text(rate) for rate in rates))
    words += [f"{share_text(load.stream)} streams"] if load.stream else []
    return ", ".join(words)


def _parts(scenario: Scenario) -> list[str]:
    workers = scenario.system.workers
    gateway = f"{scenario.system.gateway} gateway" + (f" with {workers} workers" if workers > 1 else "")
    parts = [gateway, "emulators of gemini, claude, openai, local", "Toxiproxy", "Locust"]
    return [*parts[:3], "Redis", *parts[3:]] if scenario.needs_redis else parts


def _makespan(results: Sequence[Result], jobs: int) -> float:
    """Return how long the runs take side by side, each beginning as soon as there is room."""
    busy = [0.0] * min(jobs, len(results))
    for result in results:
        heapq.heapreplace(busy, busy[0] + expected_s(result.loaded.scenario))
    return max(busy, default=0.0)


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
