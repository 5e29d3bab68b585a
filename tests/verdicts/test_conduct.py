"""Invariants on what a router does of its own accord, and on what is booked: each is broken once, and told."""

from __future__ import annotations

import pytest
from journal_builder import healthy
from verdict_conduct import CONDUCT, flag_lost, too_many_tokens

from seawall.journal.events import Attempt, Header, Skip, Spend
from seawall.verdicts.judge import judge
from seawall.verdicts.model import Verdict


@pytest.mark.parametrize("name", CONDUCT)
def test_broken_conduct_is_told(name: str) -> None:
    """A mutation of a healthy run turns its check red, with words that say what was done; without it all is well."""
    case = CONDUCT[name]
    run = healthy(case.scenario)
    before = {check.name: check.verdict for check in judge(run.journal()).checks}
    assert before[name] is Verdict.PASS
    case.mutate(run)
    (check,) = [check for check in judge(run.journal()).checks if check.name == name]
    assert check.verdict is Verdict.FAIL
    assert case.why in check.reason


def test_more_tokens_than_asked_for_are_told() -> None:
    """A call that was asked for more tokens than its client wants is as wrong as one for JSON instead of a stream."""
    for mutate, words in ((flag_lost, "JSON where the client wants a stream"), (too_many_tokens, "65 tokens where")):
        run = healthy()
        mutate(run)
        (told,) = [c for c in judge(run.journal()).checks if c.name == "every call asks for what its client asked for"]
        assert words in told.reason


def test_what_is_not_observed_is_not_judged() -> None:
    """Of a system that reports neither attempts nor spends these checks say that they cannot be observed."""
    run = healthy()
    run.of(Header)[0].observes = ["request", "call"]
    run.drop(*run.of(Attempt), *run.of(Skip), *run.of(Spend))
    told = {check.name: check.reason for check in judge(run.journal()).checks if check.name in CONDUCT}
    assert set(told) == set(CONDUCT)
    assert all(reason.startswith("Not observable") for reason in told.values())


def test_workers_that_share_their_breakers_may_share_cooldowns() -> None:
    """With BREAKER_STORE=redis a worker may pass over whom another worker was asked to leave alone."""
    run = healthy()
    run.of(Header)[0].settings["BREAKER_STORE"] = "redis"
    CONDUCT["a provider cools down only when it asked for it"].mutate(run)
    found = {check.name: check for check in judge(run.journal()).checks}
    assert found["a provider cools down only when it asked for it"].verdict is Verdict.PASS
