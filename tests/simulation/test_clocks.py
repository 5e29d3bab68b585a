"""Clocks, stores and signals in the simulation: what only this arena can do, and what it refuses."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from router.errors import ConfigurationError
from router.hybrid import HybridRouter
from seawall.scenario import Scenario, ScenarioError, load_text
from seawall.simulation import simulate
from seawall.simulation.arena import run_scenario_virtually
from seawall.simulation.run import header_of
from seawall.verdicts.judge import judge_scenario
from seawall.verdicts.model import Verdict

ROOT = Path(__file__).resolve().parents[2]
HEAD = "version: 1\ntitle: t\narenas: [simulation]\n"
LOAD = "load: {executor: constant-arrival-rate, rate: 20/s, duration: 10s}\n"


def scenario(text: str, load: str = LOAD) -> Scenario:
    """Return a scenario with these lines more."""
    return load_text(HEAD + load + text, "made").scenario


def test_a_clock_that_is_fast_begins_another_day_of_the_budget() -> None:
    """A clock 13 h fast at noon finds a fresh budget, and the old one again when it is right."""
    made = scenario(
        "system: {settings: {BUDGET_STORE: redis, DAILY_SPEND_LIMIT_USD: 0.002}}\n"
        "allow_refusal: [budget]\n"
        "faults: [{id: fast, at: 6s, duration: 2s, target: gateway, clock_skew: 13h}]\n"
    )
    journal = simulate(made)
    verdict = judge_scenario(journal, made)
    assert verdict.undone is True
    assert next(c for c in verdict.checks if c.name == "fault fast was in force and met").verdict is Verdict.PASS
    paid = {
        second
        for request in journal.requests
        if request.provider not in (None, "local")
        for second in [int((request.intended_ns - journal.t0_ns) / 1e9)]
    }
    assert 0 in paid  # the day's budget, soon spent
    assert 5 not in paid
    assert 6 in paid  # the next day's
    assert 9 not in paid


def test_a_fast_clock_ends_no_lease_of_another_worker() -> None:
    """Leases go by the clock of Redis: a worker 11 h fast charges nobody for calls that are still under way."""
    made = scenario(
        "system: {workers: 2, settings: {BUDGET_STORE: redis}}\n"
        "providers: {gemini: {tokens: 20, tokens_per_second: 10}}\n"
        "faults: [{id: fast, at: 2s, duration: 6s, target: gateway, clock_skew: 11h}]\n"
    )
    journal = simulate(made)
    assert {timed.event.action for timed in journal.spends} == {"reserve", "settle"}
    verdict = judge_scenario(journal, made)
    check = next(c for c in verdict.checks if c.name == "every reservation is settled or expired once")
    assert check.verdict is Verdict.PASS, check.reason


def test_a_skew_shows_in_the_evidence() -> None:
    """The journal says by how much the clock was off, and that it was right again."""
    made = scenario("faults: [{id: slow, at: 3s, duration: 2s, target: gateway, clock_skew: -5s}]\n")
    journal = simulate(made)
    verdict = judge_scenario(journal, made)
    assert verdict.verdict is Verdict.PASS, verdict.why
    (interval,) = journal.faults["slow"].intervals
    assert interval.active_ns is not None
    assert interval.healed_ns is not None


def test_a_skew_is_for_the_simulation_only() -> None:
    """On the wire all processes have the machine's clock, so there the fault is refused."""
    text = LOAD + "faults: [{id: slow, at: 3s, duration: 2s, target: gateway, clock_skew: -5s}]\n"
    with pytest.raises(ScenarioError, match="the arena wire does not take `clock_skew`"):
        load_text("version: 1\ntitle: t\narenas: [simulation, wire]\n" + text, "made")


def test_shared_breakers_are_refused() -> None:
    """BREAKER_STORE=redis is refused by the loader, and by the arena where no loader has seen it."""
    text = "system: {settings: {BREAKER_STORE: redis}}\n"
    with pytest.raises(ScenarioError, match="not simulated"):
        scenario(text)
    wired = load_text("version: 1\ntitle: t\n" + LOAD + text, "made").scenario
    with pytest.raises(ConfigurationError, match="BREAKER_STORE"):
        simulate(wired)


def test_a_run_that_is_halted_heals_its_faults_and_says_so() -> None:
    """Broken off in the middle of a fault, a run ends as interrupted, and undone."""
    dark = "{id: dark, at: 2s, duration: 6s, target: gemini, toxic: {type: timeout, attributes: {timeout: 0}}}"
    loaded = load_text(HEAD + LOAD + f"faults: [{dark}]\n", "made")
    asked = iter(range(1000))
    header = header_of(loaded, loaded.scenario, "made")
    recorder = run_scenario_virtually(loaded.scenario, header, is_halted=lambda: next(asked) > 100)
    end = recorder.journal(Path("in memory")).end
    assert end is not None
    assert (end.reason, end.undone) == ("interrupted", True)


@pytest.mark.real
def test_an_interrupted_command_ends_in_order(tmp_path: Path) -> None:
    """SIGINT ends a long simulation in seconds, with a report and exit code 130."""
    long = tmp_path / "long.yaml"
    long.write_text(HEAD + LOAD.replace("10s", "10h"))
    argv = [sys.executable, "-m", "seawall", "run", str(long), "--arena", "simulation", "--out", str(tmp_path / "out")]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        try:
            line = next(line for line in run.stdout if "in the simulation" in line)
            time.sleep(1.0)  # the load begins
            run.send_signal(signal.SIGINT)
            said = line + run.stdout.read()
            assert run.wait(60) == 130, said
        finally:
            run.kill()
    (folder,) = [path for path in (tmp_path / "out").iterdir() if path.name.startswith("long-") and path.is_dir()]
    assert (folder / "index.html").is_file()


def test_another_router_is_what_is_tested() -> None:
    """A router of somebody's own gets every request and every part of the simulation."""
    made: list[HybridRouter] = []

    def mine(*arguments: object, **parts: object) -> HybridRouter:
        made.append(HybridRouter(*arguments, **parts))  # type: ignore[arg-type]
        return made[-1]

    journal = simulate(scenario("system: {workers: 2}\n"), make_router=mine)
    assert len(made) == 2
    assert len(journal.attempts) == 200
