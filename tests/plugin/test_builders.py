"""Faults and schedules made in Python: each is what the language would make of it, and bites where it is put."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from router.models import Message, Reply, Request
from seawall.builders import (
    Harm,
    Schedule,
    budget_left,
    clock_skew,
    cut_stream,
    kill,
    latency,
    outage,
    respond,
    stop,
    toxic,
)
from seawall.journal.events import BreakerChange
from seawall.scenario import ScenarioError, load_scenario
from seawall.simulation import Simulation, run_virtual, simulate
from seawall.verdicts.judge import judge_scenario
from seawall.verdicts.model import Verdict

WORDS: dict[str, tuple[Harm, dict[str, Any]]] = {
    "outage": (outage("gemini"), {"toxic": {"type": "down"}}),
    "silent": (outage("claude", silent=True), {"toxic": {"type": "timeout", "attributes": {"timeout": 0}}}),
    "latency": (latency("claude", ms=300), {"toxic": {"type": "latency", "attributes": {"latency": 300}}}),
    "toxic": (
        toxic("local", "bandwidth", stream="upstream", rate=10),
        {"toxic": {"type": "bandwidth", "stream": "upstream", "attributes": {"rate": 10}}},
    ),
    "respond": (
        respond("openai", status=429, retry_after_s=5, share=0.5),
        {"respond": {"status": 429, "retry_after": "5s"}, "injection_rate": "50%"},
    ),
    "cut": (cut_stream("gemini", after_chunks=3), {"respond": {"cut_after_chunks": 3}}),
    "budget": (budget_left(0.25), {"remaining": "0.25 USD"}),
    "kill": (kill("redis"), {"process": "kill"}),
    "stop": (stop(), {"process": "stop"}),
    "skew": (clock_skew(-5), {"clock_skew": "-5s"}),
}


def played(test: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in virtual time."""
    run_virtual(test)


async def ask(simulation: Simulation) -> Reply:
    """Ask the router of a simulation."""
    return await simulation.router.complete(Request(messages=(Message(role="user", content="Hello?"),)))


@pytest.mark.parametrize("name", WORDS)
def test_a_builder_says_what_the_language_says(name: str) -> None:
    """Every builder gives the words that a file would have, and the model takes them."""
    harm, words = WORDS[name]
    assert harm.words == words
    assert harm.spec("f", {"at": "1s", "duration": "2s"}).target == harm.target


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: respond("gemini", status=200), "greater than or equal to 400"),
        (lambda: respond("gemini", hang=True, empty=True), "exactly one thing"),
        (lambda: respond("gemini", hangs=True), "hangs"),
        (lambda: outage("gemni"), "target"),
        (lambda: latency("budget", 300), "has no effect at budget"),
        (lambda: toxic("gemini", "latency", latencies=3), "latenc"),
        (lambda: clock_skew(0), "0s"),
        (lambda: Schedule().after("nobody", outage("gemini"), for_s=1), "no fault is called 'nobody'"),
    ],
)
def test_what_the_language_refuses_is_refused_where_it_is_made(make: Any, words: str) -> None:
    """A slip is told at the line that makes it, in the language's own words."""
    with pytest.raises(ValueError, match=words):
        make()


def test_a_schedule_is_a_scenario(tmp_path: Path) -> None:
    """Faults in time, load, settings and expectations come out as a file that loads, and whose run passes."""
    schedule = (
        Schedule("Gemini goes dark", seed=3)
        .settings(CIRCUIT_BREAKER_RECOVERY_TIMEOUT="2s")
        .at(3, outage("gemini", silent=True), for_s=3, name="dark")
        .after("dark", respond("claude", status=503, share=0.5), for_s=2, delay_s=1)
        .at(2, latency("openai", 100), for_s=1, every_s=5)
        .load(rate=20, duration_s=20, stream="30%")
        .words(tags=["mine"])
        .expect(sometimes=[{"breaker": "gemini", "reaches": "open"}])
    )
    loaded = load_scenario(schedule.write(tmp_path / "mine.yaml"))
    assert loaded.scenario == schedule.scenario()
    assert [fault.id for fault in loaded.scenario.faults] == ["dark", "claude_status", "openai_latency"]
    assert loaded.scenario.fault_starts()["claude_status"] == 7.0
    assert loaded.scenario.arenas == ("simulation", "wire")
    dark = Schedule(seed=3).at(3, outage("gemini"), for_s=3).at(3, outage("gemini", silent=True), for_s=1)
    assert dark.scenario().load_end_s == 20.0
    verdict = judge_scenario(journal := simulate(schedule.scenario()), schedule.scenario())
    assert len(journal.requests) == 400
    assert next(c for c in verdict.checks if c.name == "the breaker of gemini reaches open").verdict is Verdict.PASS


def test_a_schedule_is_not_changed_by_its_methods() -> None:
    """Each method returns a new schedule, so that one can be the root of many."""
    root = Schedule().at(3, outage("gemini"), for_s=3)
    assert len(root.at(8, outage("gemini"), for_s=3).scenario().faults) == 2
    assert len(root.scenario().faults) == 1
    assert [fault.id for fault in root.at(8, outage("gemini"), for_s=3).scenario().faults][1] == "gemini_down_2"


def test_a_schedule_says_what_is_wrong_with_it() -> None:
    """What only the whole scenario shows is told by the loader."""
    with pytest.raises(ScenarioError, match="is no setting of the gateway"):
        Schedule().settings(NO_SUCH=1).scenario()


def test_an_outage_that_cuts_what_is_under_way_is_met() -> None:
    """What a `down` breaks at its injection has met it, also where the breaker lets nobody meet the rest."""
    made = Schedule().at(3, outage("gemini"), for_s=5).scenario()
    verdict = judge_scenario(simulate(made), made)
    assert verdict.verdict is Verdict.PASS, verdict.why


def test_a_block_is_in_force_until_its_end() -> None:
    """Inside `with outage(…)` a provider is gone, after it it is back; `met` counts who noticed."""

    async def test() -> None:
        async with Simulation(settings={"CIRCUIT_BREAKER_FAILURE_THRESHOLD": 1}) as simulation:
            assert (await ask(simulation)).provider == "gemini"
            with outage("gemini") as block, latency("claude", 300) as slow:
                began_s = asyncio.get_running_loop().time()
                assert (await ask(simulation)).provider == "claude"
                assert asyncio.get_running_loop().time() - began_s > 0.3
                assert block.met == 1
            assert slow.met == 2  # an attempt and its call
            with latency("openai", 300) as unmet:
                await ask(simulation)
            assert unmet.met == 0
            await asyncio.sleep(70)  # the recovery timeout and its jitter
            assert (await ask(simulation)).provider == "gemini"
            assert [change.to for change in simulation.of(BreakerChange)] == ["open", "half_open", "closed"]
            assert [call.provider for call in simulation.calls("gemini")] == ["gemini", "gemini"]

    played(test())


def test_every_kind_of_block_bites() -> None:
    """Behaviours, a budget, a clock and a store that is away change what the router does, and are taken back."""

    async def test() -> None:
        async with Simulation(settings={"BUDGET_STORE": "redis", "DAILY_SPEND_LIMIT_USD": 1}) as simulation:
            with cut_stream("gemini", after_chunks=3):
                request = Request(messages=(Message(role="user", content="Hello?"),))
                chunks = [chunk async for chunk in simulation.router.stream(request)]
                assert {str(chunk.provider) for chunk in chunks} == {"gemini", "claude"}
            for harm in (budget_left(0.0), outage("redis"), kill("redis")):
                with harm as block:
                    assert (await ask(simulation)).provider == "local", harm
                assert block.met, harm
                await asyncio.sleep(5)
                assert (await ask(simulation)).provider == "gemini"
            before_usd = await simulation.router.spent_usd()
            assert before_usd > 0
            with clock_skew(86_400):
                assert await simulation.router.spent_usd() == 0.0
            assert await simulation.router.spent_usd() == before_usd

    played(test())


def test_a_budget_in_memory_can_run_out_too() -> None:
    """`budget_left` reaches the books of a router that has them in memory."""

    async def test() -> None:
        async with Simulation() as simulation:
            with budget_left(0.0):
                assert (await ask(simulation)).provider == "local"
            assert (await ask(simulation)).provider == "gemini"

    played(test())


def test_a_block_outside_of_a_simulation_says_what_to_do() -> None:
    """Without a simulation under way there is nothing to break."""
    with pytest.raises(RuntimeError, match="run_virtual"), outage("gemini"):
        pass


def test_blocks_that_cannot_be_are_refused() -> None:
    """The router that a test holds cannot be killed, and a store that is not used cannot be gone."""

    async def test() -> None:
        async with Simulation():
            with pytest.raises(ValueError, match="in a scenario"), kill("gateway"):
                pass
            with pytest.raises(ValueError, match="BUDGET_STORE"), outage("redis"):
                pass

    played(test())


async def test_a_simulation_needs_its_loop() -> None:
    """On an ordinary loop a simulation does not begin."""
    with pytest.raises(RuntimeError, match="run_virtual"):
        await Simulation().__aenter__()
