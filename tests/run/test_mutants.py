"""Proof that breakage turns red: defects that real gateways had, planted in ours, each told in the first line."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from command_harness import LATE, Harness

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

MUTANTS = Path(__file__).with_name("mutants")


class Mutant(NamedTuple):
    """A defect as code that is planted in the gateway, the scenario that shows it, and who must tell of it."""

    scenario: str
    code: str
    told_by: str
    """The check in the first line of the verdict."""
    words: str
    """What its evidence says."""


PLANTED = {
    "breaker never opens": Mutant(
        "failover",
        """
        from router.breaker import Breaker
        Breaker._open = lambda self, now_s, cause: None
        """,
        "a breaker opens at its threshold",
        "had not opened its breaker",
    ),
    "breaker opens on client errors": Mutant(
        "client-errors",
        """
        import time
        from router.breaker import Breaker
        Breaker.release = lambda self, permit: self.failure(permit, time.monotonic(), "bad_request")
        """,
        "only failures of the provider open a breaker",
        "opened its breaker of gemini after 0 failures that count, not 3",
    ),
    "retry-after slept through": Mutant(
        "retry-after",
        """
        import asyncio
        from router import chain
        from router.errors import RateLimited
        once = chain.converse
        async def patient(*args, **options):
            try:
                await once(*args, **options)
            except RateLimited as error:
                await asyncio.sleep(error.retry_after_s)
                await once(*args, **options)
        chain.converse = patient
        """,
        "no client sits through a retry-after",
        "after it had asked for a pause of 2 s",
    ),
    "fallback order swapped": Mutant(
        "failover",
        """
        from router import plan
        from router.models import ModelType
        plan.FAILOVER_CHAIN = (ModelType.GEMINI, ModelType.OPENAI, ModelType.CLAUDE, ModelType.LOCAL)
        """,
        "failover follows the chain",
        "asked gemini → openai where the plan is gemini → claude",
    ),
    "cut stream reported as complete": Mutant(
        "stream-cut",
        """
        from router import chain
        from router.adapters import Piece
        from router.errors import TransportError
        whole = chain.converse
        async def anyhow(adapter, transport, prompt, timeouts, take, **options):
            began = False
            async def seen(piece):
                nonlocal began
                began = began or bool(piece.text)
                await take(piece)
            try:
                await whole(adapter, transport, prompt, timeouts, seen, **options)
            except TransportError:
                if not began:
                    raise
                await take(Piece(stop_reason="stop"))
        chain.converse = anyhow
        """,
        "no answer is cut",
        "the answer was cut",
    ),
    "HTML passed on as text": Mutant(
        "html",
        """
        from router.adapters import Piece, base
        from router.adapters.gemini import GeminiAdapter
        from router.errors import InvalidAnswer
        parse = GeminiAdapter.parse
        def parse_anything(self, body):
            try:
                return parse(self, body)
            except InvalidAnswer:
                return Piece(text=body.decode(), stop_reason="stop")
        GeminiAdapter.parse = parse_anything
        base._check_type = lambda answer, wanted: None
        """,
        "no error is passed on as an answer",
        "an error came as a success",
    ),
    "budget checked, then added": Mutant(
        "budget",
        """
        import asyncio
        from router.budget import MemoryBudgetStore, day_of
        from router.ledger import Ledger
        from router.pricing import price_of, reservation_micro_usd
        take, add = Ledger.reserve, MemoryBudgetStore.reserve_now
        async def check_then_add(self, provider, model, **call):
            spent = await self._store.spent(day_of(self._wall()))
            worst = reservation_micro_usd(price_of(provider, model), call["prompt_tokens"], call["max_tokens"])
            if spent + worst > self._limit:
                return None
            await asyncio.sleep(0.05)
            return await take(self, provider, model, **call)
        MemoryBudgetStore.reserve_now = lambda self, reservation, limit, now_s: add(self, reservation, 10**15, now_s)
        Ledger.reserve = check_then_add
        """,
        "spend never passes the limit",
        "over the limit of 0.003600 USD",
    ),
    "air gap only on the first choice": Mutant(
        "airgap",
        """
        from router import plan
        from router.airgap import GuardedTransport
        reason = plan._reason_to_skip
        def only_first(ask, provider, view):
            found = reason(ask, provider, view)
            return None if found == "airgap" and provider is not ask.choice.provider else found
        plan._reason_to_skip = only_first
        GuardedTransport.send = lambda self, call: self._inner.send(call)
        """,
        "no cloud call under the air gap",
        "gemini was called",
    ),
    "failed attempt written as good": Mutant(
        "failover",
        """
        from router import chain
        report = chain.Watch.report
        chain.Watch.report = lambda self, outcome, error, status: report(self, "ok", None, 200)
        """,
        "every good attempt has a completed call",
        "attempt at gemini reported as ok, but no call was completed",
    ),
    "attempt written for another provider": Mutant(
        "failover",
        """
        from seawall.gateway import serve
        sink_of = serve._sink_of
        def swapping(writer):
            sink = sink_of(writer)
            def swap(event):
                if type(event).__name__ == "Attempt" and event.provider == "claude":
                    event.provider = "openai"
                sink(event)
            return swap
        serve._sink_of = swapping
        """,
        "failover follows the chain",
        "asked gemini → openai where the plan is gemini → claude",
    ),
}


SCENARIOS = sorted({mutant.scenario for mutant in PLANTED.values()})


class Told(NamedTuple):
    """What a run came to, by its output and its report."""

    code: int
    output: str
    verdict: dict[str, Any]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, toxiproxy_binary: Path) -> dict[str, Told]:
    """Run everything once, two runs at a time: each defect with its scenario, and each scenario without a defect."""

    def run(name: str) -> Told:
        harness = Harness(tmp_path_factory.mktemp("mutant"))
        mutant = PLANTED.get(name)
        scenario = mutant.scenario if mutant is not None else name
        if mutant is not None:
            harness.plant("seawall.gateway", mutant.code)
        code, output = harness.run_scenarios(str(MUTANTS / f"{scenario}.yaml"))
        return Told(code, output, harness.verdict(scenario))

    names = [*PLANTED, *SCENARIOS]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(run, names), strict=True))


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defect_turns_the_run_red(name: str, told: dict[str, Told]) -> None:
    """The run fails, and the first line of the output as well as the verdict's `why` point at the cause."""
    mutant, run = PLANTED[name], told[name]
    assert run.code == 1, run.output
    assert run.verdict["verdict"] == "fail"
    first = run.output[run.output.index(f"FAIL {mutant.scenario}: ") :].splitlines()[0]
    assert str(run.verdict["why"]).startswith(f"{mutant.told_by}: "), run.verdict["why"]
    for line in (run.verdict["why"], first):
        assert mutant.told_by in line
        assert mutant.words in line


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_without_a_defect_the_same_scenario_does_not_fail(scenario: str, told: dict[str, Told]) -> None:
    """It is the defect that turns it red: with the router as it is all holds."""
    run = told[scenario]
    broken = {check["name"] for check in run.verdict["checks"] if check["verdict"] in ("fail", "invalid")}
    assert broken <= {LATE}, run.output  # a busy machine is no defect of ours
    assert run.code == (3 if broken else 0)


def test_faults_without_effect_prove_nothing(harness: Harness) -> None:
    """One run with a fault of every kind, each made to do nothing: each is told as unmet, and the run is invalid."""
    harness.plant(
        "seawall",
        """
        from faults.budget import BudgetFault
        from faults.down import DownFault
        from faults.process import ProcessFault
        from faults.respond import RespondFault
        from faults.toxic import ToxicFault
        for kind in (BudgetFault, DownFault, ProcessFault, RespondFault, ToxicFault):
            kind.inject = lambda self: None
        """,
    )
    code, output = harness.run_scenarios(str(MUTANTS / "every-kind.yaml"))
    verdict = harness.verdict("every-kind")
    assert (code, verdict["verdict"]) == (3, "invalid"), output
    checks: list[dict[str, Any]] = verdict["checks"]  # type: ignore[assignment]
    unmet = {check["name"]: check["reason"] for check in checks if check["verdict"] == "invalid"}
    for fault in ("late", "down", "failing", "stopped", "killed", "tight"):
        assert f"fault {fault} never took effect" in unmet[f"fault {fault} was in force and met"]
