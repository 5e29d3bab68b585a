"""The table of probes: what is sent for which toxic, what is evidence, and what cannot be proven."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults.criteria import MAX_PROBE_BYTES, probe_plan
from faults.samples import Baseline, Criterion, Sample, is_clean, is_met

BASE = Baseline(median_s=0.002, spread_s=0.001, probes=5)
TYPES = ("latency", "timeout", "reset_peer", "bandwidth", "slicer", "limit_data", "slow_close", "down")


def sample(**values: object) -> Sample:
    """Return a healthy sample of a ping with 64 bytes, changed by `values`."""
    healthy: dict[str, object] = {
        "connect_s": 0.0005,
        "first_byte_s": 0.002,
        "last_byte_s": 0.002,
        "end_s": 0.002,
        "bytes": 150,
        "ended": "whole",
        "segments": 1,
        "status": 200,
    }
    return Sample(**{**healthy, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("type_", "stream", "attributes", "criterion", "request_bytes", "reply_bytes", "expected_s"),
    [
        ("latency", "downstream", {"latency": 300}, "delayed", 0, 64, 0.3),
        ("latency", "upstream", {"latency": 300}, "delayed", 0, 64, 0.3),
        ("timeout", "downstream", {"timeout": 0}, "silent", 0, 64, 1.0),
        ("timeout", "upstream", {"timeout": 0}, "silent", 0, 64, 1.0),
        ("timeout", "downstream", {"timeout": 400}, "no_answer", 0, 64, 0.4),
        ("timeout", "upstream", {"timeout": 60_000}, "silent", 0, 64, 1.0),
        ("reset_peer", "downstream", {}, "reset", 0, 64, 0.0),
        ("reset_peer", "upstream", {"timeout": 200}, "reset", 0, 64, 0.2),
        ("bandwidth", "downstream", {"rate": 10}, "delayed", 0, 2_000, 0.21),
        ("bandwidth", "downstream", {"rate": 1000}, "delayed", 0, 200_000, 0.2),
        ("bandwidth", "upstream", {"rate": 100}, "delayed", 20_000, 64, 0.2),
        ("limit_data", "downstream", {"bytes": 700}, "exact_bytes", 0, 1_400, 0.0),
        ("limit_data", "downstream", {"bytes": 5}, "exact_bytes", 0, 64, 0.0),
        ("limit_data", "upstream", {"bytes": 700}, "no_answer", 1_400, 64, 0.0),
        ("slow_close", "downstream", {"delay": 500}, "late_close", 0, 64, 0.5),
        ("slow_close", "upstream", {"delay": 500}, "late_fin", 0, 64, 0.5),
        ("down", "downstream", {}, "refused", 0, 64, 0.0),
    ],
)
def test_the_probe_follows_from_the_toxic(
    type_: str,
    stream: str,
    attributes: dict[str, int],
    criterion: str,
    request_bytes: int,
    reply_bytes: int,
    expected_s: float,
) -> None:
    """Sizes, criterion and expected time are those of the measured table."""
    plan = probe_plan(type_, stream, attributes)
    assert plan.provable, plan.why
    assert plan.criterion.name == criterion
    assert (plan.shape.request_bytes, plan.shape.reply_bytes) == (request_bytes, reply_bytes)
    assert plan.expected_s == pytest.approx(expected_s, abs=0.011)
    assert plan.shape.deadline_s >= expected_s
    assert plan.probes == 1
    assert plan.budget_s == pytest.approx(plan.expected_s + 0.6)


def test_a_slicer_is_given_enough_to_slice() -> None:
    """The body is several slices of the average size, and long enough for the delays to show."""
    assert probe_plan("slicer", "downstream", {"average_size": 20, "delay": 10_000}).shape.reply_bytes == 80
    assert probe_plan("slicer", "downstream", {"average_size": 1000, "delay": 1_000}).shape.reply_bytes == 40_000
    assert probe_plan("slicer", "upstream", {"average_size": 1000, "delay": 10_000}).shape.request_bytes == 3_900


def test_the_black_hole_is_proven_within_two_seconds() -> None:
    """timeout 0 is seen by a probe of one second, so that a `within` of two seconds can hold."""
    plan = probe_plan("timeout", "downstream", {"timeout": 0})
    assert plan.shape.deadline_s == 1.0
    assert plan.budget_s < 2


@pytest.mark.parametrize(
    ("type_", "stream", "attributes", "toxicity", "why"),
    [
        ("slicer", "downstream", {"average_size": 20}, 1.0, "merge"),
        ("slicer", "upstream", {"average_size": 20}, 1.0, "merge"),
        ("slicer", "upstream", {"average_size": 1, "delay": 1_000_000}, 1.0, "would take"),
        ("slicer", "downstream", {"average_size": 1000, "delay": 1}, 1.0, "bytes"),
        ("slicer", "downstream", {"average_size": 0, "delay": 5}, 1.0, "average_size"),
        ("slow_close", "upstream", {"delay": 0}, 1.0, "does nothing"),
        ("slow_close", "downstream", {"delay": 0}, 1.0, "does nothing"),
        ("bandwidth", "downstream", {"rate": 2_001}, 1.0, "bytes"),
        ("bandwidth", "downstream", {}, 1.0, "rate"),
        ("limit_data", "downstream", {"bytes": 200_001}, 1.0, "bytes"),
        ("latency", "downstream", {"latency": 0}, 1.0, "does nothing"),
        ("latency", "downstream", {"latency": 60_000}, 1.0, "would take"),
        ("timeout", "downstream", {"timeout": 0}, 0.0, "toxicity"),
        ("noise", "downstream", {}, 1.0, "nobody knows"),
    ],
)
def test_what_cannot_be_proven_says_so(
    type_: str, stream: str, attributes: dict[str, int], toxicity: float, why: str
) -> None:
    """An unprovable toxic has its reason, a plain ping, and a criterion that nothing meets."""
    plan = probe_plan(type_, stream, attributes, toxicity)
    assert not plan.provable
    assert why in plan.why
    assert plan.criterion.name == "none"
    assert not is_met(plan.criterion, sample(ended="reset", bytes=0), BASE)


def test_a_toxicity_below_one_takes_more_probes() -> None:
    """At half the connections ten probes leave one run in a thousand unproven, and the budget waits for them."""
    plan = probe_plan("timeout", "downstream", {"timeout": 0}, 0.5)
    assert plan.probes == 10
    assert plan.budget_s == pytest.approx(1.0 + 12 * 0.2)
    assert "50%" in plan.why


def test_jitter_makes_a_probe_a_matter_of_chance() -> None:
    """A jitter that can undercut the limit lowers the chance; a small one does not."""
    assert probe_plan("latency", "downstream", {"latency": 100, "jitter": 20}).chance == 1.0
    assert probe_plan("latency", "downstream", {"latency": 100, "jitter": 100}).chance == pytest.approx(0.6)
    assert probe_plan("latency", "downstream", {"jitter": 100}).chance == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("criterion", "evidence", "nothing"),
    [
        (
            Criterion(name="delayed", limit_s=0.24),
            {"last_byte_s": 0.243, "end_s": 0.243},
            {"last_byte_s": 0.24, "end_s": 0.24},
        ),
        (
            Criterion(name="delayed", limit_s=0.24),
            {"last_byte_s": 0.5, "end_s": 0.5},
            {"last_byte_s": 0.5, "end_s": 0.5, "ended": "eof"},
        ),
        (Criterion(name="silent"), {"ended": "deadline", "bytes": 0}, {"ended": "deadline", "bytes": 1}),
        (
            Criterion(name="silent"),
            {"ended": "deadline", "bytes": 0},
            {"ended": "deadline", "bytes": 0, "connect_s": None},
        ),
        (
            Criterion(name="no_answer", limit_s=0.32),
            {"ended": "eof", "bytes": 0, "end_s": 0.4},
            {"ended": "eof", "bytes": 0, "end_s": 0.01},
        ),
        (Criterion(name="no_answer"), {"ended": "reset", "bytes": 0}, {"ended": "eof", "bytes": 1}),
        (Criterion(name="reset"), {"ended": "reset"}, {"ended": "eof"}),
        (Criterion(name="reset", limit_s=0.16), {"ended": "reset", "end_s": 0.2}, {"ended": "reset", "end_s": 0.1}),
        (
            Criterion(name="spread", per_byte_s=0.00025),
            {"segments": 8, "last_byte_s": 0.076},
            {"segments": 8, "last_byte_s": 0.03},
        ),
        (
            Criterion(name="spread", per_byte_s=0.00025),
            {"segments": 2, "last_byte_s": 0.076},
            {"segments": 1, "last_byte_s": 0.076},
        ),
        (Criterion(name="exact_bytes", bytes=700), {"ended": "eof", "bytes": 700}, {"ended": "eof", "bytes": 699}),
        (Criterion(name="exact_bytes", bytes=700), {"ended": "eof", "bytes": 700}, {"ended": "reset", "bytes": 700}),
        (Criterion(name="late_close", limit_s=0.4), {"end_s": 0.41}, {"end_s": 0.3}),
        (Criterion(name="late_fin", limit_s=0.4), {"fin_s": 0.41}, {"fin_s": 0.4}),
        (Criterion(name="late_fin", limit_s=0.4), {"fin_s": 0.41}, {"fin_s": None}),
        (Criterion(name="refused"), {"ended": "refused"}, {"ended": "reset"}),
    ],
)
def test_each_criterion_tells_evidence_from_its_neighbour(
    criterion: Criterion, evidence: dict[str, object], nothing: dict[str, object]
) -> None:
    """A sample just inside is evidence, one just outside is not."""
    assert is_met(criterion, sample(**evidence), BASE)
    assert not is_met(criterion, sample(**nothing), BASE)


@pytest.mark.parametrize("changes", [{"ended": "eof"}, {"status": 404}, {"ended": "deadline"}, {"status": None}])
def test_only_a_whole_answer_is_clean(changes: dict[str, object]) -> None:
    """What is neither evidence nor a whole 200 does not count as healed."""
    criterion = Criterion(name="delayed", limit_s=1.0)
    assert is_clean(criterion, sample(), BASE)
    assert not is_clean(criterion, sample(**changes), BASE)


def test_an_end_that_nobody_saw_is_not_clean() -> None:
    """As long as the provider has not seen our end of the connection, nothing is known of how late it comes."""
    criterion = Criterion(name="late_fin", limit_s=0.4)
    assert is_clean(criterion, sample(fin_s=0.001), BASE)
    assert not is_clean(criterion, sample(), BASE)


@pytest.mark.parametrize("stream", ["downstream", "upstream"])
def test_redis_is_asked_with_a_ping_of_its_own(stream: str) -> None:
    """What a PING can show is proven by one; what works on sizes or on the end of an answer is unprovable there."""
    values = {"latency": 300, "timeout": 0, "rate": 10, "bytes": 700, "average_size": 20, "delay": 10_000}
    for type_ in TYPES:
        plan = probe_plan(type_, stream, values, 1.0, "resp")
        assert plan.provable is (type_ in {"latency", "timeout", "reset_peer", "down"}), plan.why
        assert plan.provable is (plan.shape.protocol == "resp")
        assert plan.provable or "PING" in plan.why


@given(
    type_=st.sampled_from(TYPES),
    stream=st.sampled_from(["downstream", "upstream"]),
    number=st.integers(0, 10**6),
    other=st.integers(0, 10**6),
    toxicity=st.floats(0.01, 1),
)
def test_every_plan_is_affordable_and_a_healthy_probe_is_no_evidence(
    type_: str, stream: str, number: int, other: int, toxicity: float
) -> None:
    """Whatever the parameters: bounded bytes and time, and a sample like the baseline shows nothing of the toxic."""
    names = ("latency", "timeout", "rate", "bytes", "average_size", "delay")
    attributes = {**dict.fromkeys(names, number), "jitter": other, "delay": other, "size_variation": 0}
    plan = probe_plan(type_, stream, attributes, toxicity)
    assert plan.why
    assert max(plan.shape.request_bytes, plan.shape.reply_bytes) <= MAX_PROBE_BYTES
    assert 0 < plan.shape.deadline_s <= 60
    assert plan.expected_s <= 30
    assert 0 < plan.chance <= 1
    healthy = sample(last_byte_s=BASE.median_s, end_s=BASE.median_s, fin_s=BASE.median_s)
    assert not is_met(plan.criterion, healthy, BASE)
    assert is_clean(plan.criterion, healthy, BASE)
