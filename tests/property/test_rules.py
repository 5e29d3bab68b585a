"""Small pure rules, for any input: pauses in both forms, arbitration, and what verdicts add up to."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from router.adapters.failures import pause_s, retry_after_s
from router.arbitrage import Rule, choose_model
from seawall.verdicts.model import Verdict, worst

NOW_S = 1_700_000_000.0
verdicts = st.lists(st.sampled_from(list(Verdict)), max_size=12)
rules = st.builds(
    Rule,
    model=st.sampled_from("abcdef"),
    shorter_than=st.none() | st.integers(0, 30),
    contains=st.none() | st.text("anlyze ", max_size=4),
)


@given(st.integers(0, 10**7))
@example(0)
def test_a_pause_is_the_same_in_seconds_and_as_a_date(pause: int) -> None:
    """A date so many seconds away and that number of seconds ask for the same pause; a date that is past asks for 0."""
    moment = datetime.fromtimestamp(NOW_S + pause, UTC)
    for text in (str(pause), f" {pause} ", format_datetime(moment, usegmt=True), format_datetime(moment)):
        assert retry_after_s((text,), lambda: NOW_S) == pause
    past = datetime.fromtimestamp(NOW_S - pause, UTC)
    assert retry_after_s((format_datetime(past, usegmt=True),), lambda: NOW_S) == 0.0


@given(st.lists(st.text(max_size=20), max_size=4), st.integers(1, 10**6))
def test_the_first_pause_that_can_be_read_counts(noise: list[str], pause: int) -> None:
    """Headers that say nothing are passed over, or one of them is a number itself: never an error, never below 0."""
    found = retry_after_s((*noise, str(pause)), lambda: NOW_S)
    assert found is None or 0 <= found < math.inf
    if not any(any(letter.isalnum() for letter in text) for text in noise):
        assert found == pause


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_milliseconds_are_finer_than_seconds(milliseconds: int, seconds: int) -> None:
    """`retry-after-ms` goes before `retry-after`, whatever that says."""
    headers = {"retry-after": (str(seconds),), "retry-after-ms": (str(milliseconds),)}
    assert pause_s(429, headers, b"", lambda: NOW_S) == milliseconds / 1000


@given(st.lists(rules, min_size=1, max_size=6), st.text("analyze x", max_size=40), st.integers(0, 999_999))
def test_the_first_rule_that_holds_names_the_model(found: list[Rule], prompt: str, number: int) -> None:
    """As plain words say it: the first whose conditions hold, else the last; the harness's mark does not count."""
    expected = next(
        (
            rule.model
            for rule in found
            if not (rule.shorter_than is not None and len(prompt) >= rule.shorter_than)
            and not (rule.contains is not None and rule.contains.lower() not in prompt.lower())
        ),
        found[-1].model,
    )
    assert choose_model(prompt, found) == expected
    assert choose_model(f"[sw:{number:06d}] {prompt}", found) == expected


@given(verdicts, verdicts, st.randoms(use_true_random=False))
def test_the_worst_verdict_wins_in_any_order_and_grouping(
    one: list[Verdict], other: list[Verdict], chance: Random
) -> None:
    """Joining verdicts is associative and commutative, `pass` changes nothing, and no group hides a `fail`."""
    together = [*one, *other]
    assert worst([worst(one), worst(other)]) is worst(together)
    shuffled = list(together)
    chance.shuffle(shuffled)
    assert worst(shuffled) is worst(together)
    assert worst([*together, Verdict.PASS]) is worst(together)
    assert worst([*together, Verdict.FAIL]) is Verdict.FAIL
    order = list(Verdict)
    assert order.index(worst(together)) == min([order.index(verdict) for verdict in together], default=len(order) - 1)
