"""Every scenario of ours, run with faults that have no effect, proves nothing: never a pass, and never a failure."""

from __future__ import annotations

from pathlib import Path

import pytest
from journal_builder import EMULATORS, HARNESS, LOADER, WORKER, Recording, header, ns, request

from router.catalogue import default_catalogue
from router.errors import RequestError
from seawall.journal.events import Attempt, CallRecord, End, Fault
from seawall.plan import arrivals, duration_of
from seawall.scenario.loader import load_text
from seawall.scenario.model import Scenario
from seawall.verdicts.judge import judge
from seawall.verdicts.model import Verdict

SCENARIOS = Path(__file__).parents[2] / "scenarios"
FILES = sorted(path for path in SCENARIOS.rglob("*.yaml") if "\nfaults:" in path.read_text("utf-8"))


def calm(text: str, name: str) -> tuple[Recording, Scenario]:
    """Return a run in which every fault was injected and healed, none was ever seen in force, and nothing happened."""
    scenario = load_text(text, name).scenario
    run = Recording()
    settings = {key.upper(): str(value) for key, value in scenario.system.settings.items()}
    observes = ["request", "call", "attempt", "breaker"]  # the model books nothing
    run.add(ns(-1), HARNESS, header(text, scenario_name=name, settings=settings, seed=scenario.seed, observes=observes))
    plan = scenario.load.plan(scenario.seed)
    try:
        provider = str(default_catalogue().resolve(scenario.load.model, "llama3").provider)
    except RequestError:
        provider = "gemini"
    provider = "local" if settings.get("AIRGAP_MODE") else provider
    for arrival in arrivals(plan):
        due_ns = ns(arrival.at_s)
        record = request(
            arrival.request_id, due_ns, stream=arrival.stream, provider=provider, providers_in_text=[provider]
        )
        run.add(record.end_ns, LOADER, record)
        times = {"request_id": arrival.request_id, "provider": provider, "model": "m", "stream": arrival.stream}
        times |= {"end_ns": record.end_ns, "first_byte_ns": record.first_byte_ns, "status": 200}
        attempt = Attempt(
            n=1, start_ns=due_ns + 1, outcome="ok", reason="preferred", error=None, worker=WORKER, generation=0, **times
        )
        call = CallRecord(
            arrival_ns=due_ns + 2, behaviour="healthy", bytes=9, completed=True, prompt_tokens=1, completion_tokens=16,
            **times,
        )  # fmt: skip
        run.add(record.end_ns, WORKER, attempt)
        run.add(record.end_ns, EMULATORS, call)
    for fault in scenario.faults:
        for start_s in scenario.occurrences(fault.id):
            phases = {"injecting": 0.0, "healing": fault.duration, "healed": fault.duration + 0.1}
            for phase, after_s in (phases | {"undo_verified": fault.duration + 0.2}).items():
                event = Fault(
                    id=fault.id, phase=phase, target=fault.target, description="d", planned_at_s=start_s,  # type: ignore[arg-type]
                    duration_s=fault.duration,
                )  # fmt: skip
                run.add(ns(start_s + after_s), HARNESS, event)
    end_s = duration_of(plan)
    run.add(ns(end_s + 9), HARNESS, End(reason="finished", load_start_ns=ns(0), load_end_ns=ns(end_s), undone=True))
    return run, scenario


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_scenario_whose_faults_have_no_effect_is_invalid(path: Path) -> None:
    """Each fault's own check says so, whatever the scenario expects, and nothing is laid to the system's charge."""
    run, scenario = calm(path.read_text(), path.stem)
    verdict = judge(run.journal())
    invalid = {check.name for check in verdict.checks if check.verdict is Verdict.INVALID}
    assert {f"fault {fault.id} was in force and met" for fault in scenario.faults} <= invalid
    assert scenario.faults, "a scenario without a fault needs a proof of its own"
    assert verdict.verdict is Verdict.INVALID, verdict.why
