"""Workers, processes, the shared store and clients in the simulation, by what the journal shows of them."""

from __future__ import annotations

from collections import Counter

import pytest

from seawall.journal.view import Journal
from seawall.scenario.loader import load_text
from seawall.scenario.model import Scenario
from seawall.simulation import simulate
from seawall.verdicts.judge import judge_scenario
from seawall.verdicts.model import RunVerdict, Verdict

REDIS = "BUDGET_STORE: redis, BUDGET_STORE_TIMEOUT: 250ms"


def scenario(*lines: str, load: str = "rate: 20/s, duration: 10s") -> Scenario:
    """Return a scenario with these lines more."""
    head = f"version: 1\ntitle: t\narenas: [simulation]\nload: {{executor: constant-arrival-rate, {load}}}\n"
    return load_text(head + "\n".join(lines) + "\n", "made").scenario


def judged(*lines: str, load: str = "rate: 20/s, duration: 10s") -> tuple[Journal, RunVerdict]:
    """Simulate a scenario with these lines more; return its journal and verdict."""
    made = scenario(*lines, load=load)
    journal = simulate(made)
    return journal, judge_scenario(journal, made)


def check_of(verdict: RunVerdict, name: str) -> Verdict:
    """Return the verdict of one check."""
    return next(check.verdict for check in verdict.checks if check.name == name)


def test_every_view_agrees_where_nothing_is_wrong() -> None:
    """Requests, attempts and calls are as many, and all invariants hold."""
    journal, verdict = judged("seed: 5", load="rate: 20/s, duration: 10s, stream: 50%")
    assert verdict.verdict is Verdict.PASS, verdict.why
    assert len(journal.requests) == len(journal.attempts) == len(journal.calls) == 200
    assert {request.stream for request in journal.requests} == {True, False}


def test_workers_share_the_load_and_die_one_at_a_time() -> None:
    """A killed worker takes what it has in hand with it and nothing else; another process takes its place."""
    journal, verdict = judged(
        "system: {workers: 3}",
        "faults: [{id: dead, at: 4s, target: gateway, process: kill, restart_after: 2s}]",
        load="rate: 40/s, duration: 10s",
    )
    served = Counter(attempt.worker for attempt in journal.attempts)
    assert len(served) == 4
    assert min(served.values()) > 30
    lost = [request for request in journal.requests if request.outcome != "whole"]
    assert 1 <= len(lost) <= 8
    assert {request.outcome for request in lost} == {"error"}
    names = [(timed.event.name, timed.event.action, timed.event.code) for timed in journal.processes]
    assert ("gateway", "exit", -9) in names
    assert check_of(verdict, "fault dead was in force and met") is Verdict.PASS
    assert check_of(verdict, "every good attempt has a completed call") is Verdict.PASS


def test_a_restarted_gateway_ends_what_it_has_begun() -> None:
    """Under SIGTERM nothing is lost, but for who comes while nobody serves."""
    journal, _ = judged("faults: [{id: again, at: 4s, duration: 3s, target: gateway, process: restart}]")
    outcomes = Counter((request.outcome, request.problem) for request in journal.requests)
    assert set(outcomes) == {("whole", None), ("error", "the connection was refused before any byte of the answer")}
    exits = [timed.event.code for timed in journal.processes if timed.event.action == "exit"]
    assert exits == [0, 0]


def test_a_client_that_waits_too_long_leaves_and_its_call_is_cancelled() -> None:
    """A request is hung at its deadline, and the provider sees the caller go."""
    journal, _ = judged(
        "faults: [{id: mute, at: 2s, duration: 4s, target: gemini, respond: {hang: true}}]",
        load="rate: 5/s, duration: 10s, deadline: 1s",
    )
    hung = [request for request in journal.requests if request.outcome == "hung"]
    assert hung
    assert all(request.end_ns - (request.sent_ns or 0) == pytest.approx(1e9, abs=1e5) for request in hung)
    left = {call.request_id: call for call in journal.calls if call.behaviour == "mute"}
    assert all(abs(left[request.request_id].end_ns - request.end_ns) < 1e6 for request in hung)


def test_a_lost_answer_of_the_store_is_a_step_all_the_same() -> None:
    """While Redis' answers are lost no paid call is made, and afterwards the books are in order."""
    journal, verdict = judged(
        f"system: {{settings: {{{REDIS}}}}}",
        "faults: [{id: lost, at: 3s, duration: 3s, target: redis, toxic: {type: timeout, attributes: {timeout: 0}}}]",
    )
    assert any(timed.event.source == "unanswered" for timed in journal.spends)
    served = Counter(request.provider for request in journal.requests if request.outcome == "whole")
    assert served["local"] >= 30
    assert check_of(verdict, "every reservation is settled or expired once") is Verdict.PASS
    assert check_of(verdict, "spend never passes the limit") is Verdict.PASS
    assert check_of(verdict, "fault lost was in force and met") is Verdict.PASS


@pytest.mark.parametrize("action", ["kill", "stop", "restart"])
def test_redis_may_be_struck(action: str) -> None:
    """Redis is killed, stopped or restarted and comes back with its books; nobody passes the limit meanwhile."""
    journal, verdict = judged(
        f"system: {{workers: 2, settings: {{{REDIS}}}}}",
        f"faults: [{{id: gone, at: 3s, duration: 2s, target: redis, process: {action}}}]",
    )
    assert all(request.outcome == "whole" for request in journal.requests)
    assert check_of(verdict, "spend never passes the limit") is Verdict.PASS
    assert check_of(verdict, "fault gone was in force and met") is Verdict.PASS
    assert verdict.undone is True


@pytest.mark.parametrize("action", ["kill", "stop"])
def test_toxiproxy_may_be_struck(action: str) -> None:
    """Without its network the gateway has nobody to ask, and comes back with it."""
    journal, verdict = judged(
        "system: {settings: {CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 1s, first_byte_timeout: 500ms, ollama_timeout: 500ms}}",
        "allow_refusal: [all_down]",
        f"faults: [{{id: out, at: 3s, duration: 3s, target: toxiproxy, process: {action}}}]",
        load="rate: 20/s, duration: 15s",
    )
    assert Counter(request.code for request in journal.requests)["all_clouds_down"] >= 20
    assert check_of(verdict, "fault out was in force and met") is Verdict.PASS
    late = [request for request in journal.requests if request.intended_ns > journal.t0_ns + 10e9]
    assert all(request.outcome == "whole" for request in late)


def test_a_run_is_broken_off_when_it_is_no_use() -> None:
    """`stop_when` ends the load; what was under way is dropped, and the end says so."""
    journal, verdict = judged(
        "system: {settings: {first_byte_timeout: 500ms, GEMINI_API_KEY: ''}}",
        'stop_when: {success_rate: "< 50%", for: 1s}',
        "faults:",
        *(
            f"  - {{id: {name}, at: 2s, duration: 7s, target: {name}, respond: {{status: 503}}}}"
            for name in ("claude", "openai", "local")
        ),
    )
    assert journal.end is not None
    assert journal.end.reason == "stopped"
    assert "stop_when" in (journal.end.detail or "")
    assert len(journal.requests) < 200
    assert verdict.undone is True


def test_a_fault_that_nobody_meets_is_no_pass() -> None:
    """Of a provider that nobody calls a fault is in force and never met: the run proves nothing."""
    _, verdict = judged(
        "faults: [{id: slow, at: 3s, duration: 3s, target: openai, toxic: {type: latency, attributes: {latency: 300}}}]"
    )
    assert verdict.verdict is Verdict.INVALID
    assert check_of(verdict, "fault slow was in force and met") is Verdict.INVALID


def test_a_planted_bug_is_caught() -> None:
    """A router that never opens its breakers is told from one that does."""
    _, verdict = judged(
        "system: {settings: {CIRCUIT_BREAKER_FAILURE_THRESHOLD: 10000, first_byte_timeout: 500ms}}",
        "faults: [{id: dark, at: 2s, duration: 5s, target: gemini, toxic: {type: timeout, attributes: {timeout: 0}}}]",
        "expect: {sometimes: [{breaker: gemini, reaches: open}]}",
    )
    assert verdict.verdict is Verdict.FAIL
