"""The arithmetic of trends: a leak is found with its slope, noise and restarts are none, and it is robust."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.soak import scenario_text
from benchmarks.soak_books import Books
from benchmarks.soak_samples import FILE, Sample, name_of, trends_in
from benchmarks.soak_trends import MEASURES, Life, Measure, Trend, robust_slope, settled, trend_of
from seawall.scenario import load_text

MEMORY, DESCRIPTORS = MEASURES[0], MEASURES[1]


def life(
    begin_s: float, seconds: int, level: float, *, slope: float = 0.0, noise: float = 0.0, draw: random.Random
) -> Life:
    """Return a life of a sample a second that fills up in its first fifth, and grows by `slope` a second from there."""
    found: Life = []
    for at in range(seconds):
        warm = min(1.0, at / (seconds / 5))
        value = level * (0.5 + 0.5 * warm) + slope * at + draw.gauss(0, noise)
        found.append((begin_s + at, value))
    return found


def trend(lives: list[Life], measure: Measure = MEMORY, whole_s: float | None = None) -> Trend:
    """Return the trend of such lives; there is one."""
    found = trend_of("gateway", measure, lives, lives[-1][-1][0] if whole_s is None else whole_s)
    assert found is not None
    return found


@pytest.mark.parametrize("slope", [0.02, 0.1, 1.0])
def test_a_leak_of_known_slope_is_found(slope: float) -> None:
    """In 20 minutes 1.2 MB a minute are found under noise, to within a tenth of the slope or the noise's own error."""
    found = trend([life(0, 1200, 80, slope=slope, noise=1.5, draw=random.Random(1))])
    assert found.slope == pytest.approx(slope * 60, rel=0.1, abs=0.15)
    assert 0 < found.lower <= found.slope
    assert not found.is_level
    assert "GROWING" in found.sentence


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_leak(seed: int) -> None:
    """Level values under noise of 5 % are level, in long and in short runs."""
    for seconds in (60, 1200):
        found = trend([life(0, seconds, 80, noise=4.0, draw=random.Random(seed))])
        assert found.is_level, found.sentence


def test_the_bound_holds_as_often_as_it_says() -> None:
    """Of 400 level runs about one in twenty has a lower bound above 0, not one in five: the arithmetic is Sen's."""
    draw = random.Random(2)
    above = sum(robust_slope([[(at, draw.gauss(0, 1)) for at in range(40)]]).lower > 0 for _ in range(400))
    assert 5 <= above <= 36


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=30), st.integers(-9, 9))
@settings(deadline=None, max_examples=100)
def test_a_slope_is_added_as_it_is(values: list[int], slope: int) -> None:
    """A line added to any points adds its slope, and no lower bound is above the slope."""
    points = [(float(at), float(value)) for at, value in enumerate(values)]
    steeper = [(at, value + slope * at) for at, value in points]
    assert robust_slope([steeper]).value == pytest.approx(robust_slope([points]).value + slope, abs=1e-9)
    assert robust_slope([points]).lower <= robust_slope([points]).value


def test_a_quarter_of_wild_points_changes_little() -> None:
    """Spikes, as of a collection of garbage or a storm of connections, are no trend and hide none."""
    draw = random.Random(3)
    for slope in (0.0, 0.5):
        clean = [(float(at), 20 + slope * at) for at in range(80)]
        wild = [(at, value + (500 if draw.random() < 0.25 else 0)) for at, value in clean]
        assert robust_slope([wild]).value == pytest.approx(slope, abs=0.1)


def test_steps_at_restarts_do_not_count() -> None:
    """Lives that begin higher each time, and are level themselves, have no slope; one regression over all would."""
    draw = random.Random(4)
    steps = [life(300 * n, 300, 40 + 10 * n, noise=0.3, draw=draw) for n in range(4)]
    found = trend(steps)
    assert found.judged == 4
    assert found.is_level
    assert abs(found.slope) < 0.5
    assert robust_slope([[point for each in steps for point in each[100::10]]]).value * 60 > 1.5


def test_a_leak_that_each_restart_hides_is_found() -> None:
    """A saw of four lives, each of which leaks 3 MB a minute from the same level, grows."""
    draw = random.Random(5)
    found = trend([life(300 * n, 300, 40, slope=0.05, noise=0.3, draw=draw) for n in range(4)])
    assert found.slope == pytest.approx(3, rel=0.1)
    assert not found.is_level


def test_lives_that_are_too_short_say_nothing() -> None:
    """What lived between two kills while it filled its pools has no trend, alone or beside a long life."""
    draw = random.Random(6)
    short = life(30, 33, 30, slope=2.0, draw=draw)
    assert trend_of("toxiproxy", DESCRIPTORS, [short], 60) is None
    assert trend([life(0, 1200, 30, draw=draw), short], DESCRIPTORS).judged == 1
    assert trend_of("toxiproxy", DESCRIPTORS, [[(0.0, 1.0)], []], 0) is None
    assert robust_slope([]).value == robust_slope([[(0.0, 1.0)]]).value == 0


def test_only_the_settled_part_is_looked_at() -> None:
    """The first third is left out, and of a long life stretches are compared, their medians in order of time."""
    long = [(float(at), float(at >= 400)) for at in range(1200)]
    found = settled(long)
    assert len(found) == 60
    assert found == sorted(found)
    assert found[0][0] >= 400
    assert {value for _, value in found} == {1.0}


def test_samples_are_read_by_process_and_life(tmp_path: Path) -> None:
    """Each process id is a life of its kind; kinds without a life long enough are named."""
    draw = random.Random(7)
    lives = {(1, "gateway"): life(0, 100, 80, slope=0.5, draw=draw), (2, "gateway"): life(20, 30, 80, draw=draw)}
    lives[3, "redis"] = life(30, 20, 5, draw=draw)
    with (tmp_path / FILE).open("wb") as file:
        for (pid, name), points in lives.items():
            for at, value in points:
                sample = Sample(at_s=1000 + at, process=name, pid=pid, values={"memory": value})
                file.write(msgspec.json.encode(sample) + b"\n")
    (tmp_path / FILE).write_bytes(b"".join(sorted((tmp_path / FILE).read_bytes().splitlines(keepends=True))))
    (found,), unjudged = trends_in(tmp_path)
    assert (found.process, found.judged, len(found.lives)) == ("gateway", 1, 2)
    assert not found.is_level
    assert unjudged == ["redis"]


def test_processes_are_known_by_their_command_lines() -> None:
    """Supervisors, which hold the command that they keep alive in theirs, are told from it."""
    gateway = ["python", "-m", "benchmarks.soak_gateway", "--port", "0"]
    assert name_of(gateway) == "gateway"
    assert name_of(["python", "-I", "-S", "/x/seawall/supervise.py", "--", *gateway]) is None
    assert name_of(["redis-server 127.0.0.1:6379", "", ""]) == "redis"
    assert name_of(["/x/bin/toxiproxy-server", "-port", "1"]) == "toxiproxy"
    assert name_of([]) is None


def test_the_books_are_right_to_the_micro_dollar() -> None:
    """One micro-dollar too much or too little is wrong; what a killed worker may have settled untold is bounded."""
    assert Books(total=110, open=10, settled=100, unheard=0).problem is None
    for settled_micro_usd in (99, 101):
        assert Books(total=110, open=10, settled=settled_micro_usd, unheard=0).problem is not None
    assert Books(total=110, open=10, settled=95, unheard=5).problem is None
    assert Books(total=110, open=10, settled=94, unheard=5).problem is not None


@pytest.mark.parametrize("seconds", [20, 60, 300, 1200])
def test_the_scenario_is_valid_at_every_length(seconds: int) -> None:
    """It loads and ends in time; from a minute on gateway, Redis and Toxiproxy are restarted and workers killed."""
    scenario = load_text(scenario_text(seconds), "soak.yaml").scenario
    ids = {fault.id for fault in scenario.faults}
    assert {"slow", "cut", "killed", "failing", "throttled", "halfbad"} <= ids
    if seconds >= 60:
        assert {"redis", "toxiproxy", "restarted"} <= ids
        assert len(scenario.occurrences("killed")) >= 3
    for fault in scenario.faults:
        assert scenario.occurrences(fault.id)[-1] + fault.duration <= seconds - 1
