"""Planted bugs: every diff still applies and is still a bug, invariants see each, and the hunt finds some by itself."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hunting import hunt, seeds
from planting import BUGS, PLANT, ROOT, Bug, PlantError, bug, planted_source
from wire import FINDS, bug_of, play_on_the_wire

from seawall.plan import arrivals
from seawall.scenario import load_scenario
from seawall.verdicts.invariants import INVARIANTS
from seawall.version import commit

HERE = Path(__file__).parent
CHANGED_MAX = 15
BUGS_MIN = 24
HUNTED = ("failed-call-charged", "attempt-unreported", "breaker-never-opens")
"""Those that every schedule or every tenth shows: all are hunted by `nox -s planted`."""
SHOWN: dict[str, tuple[str, str]] = {
    "air-gap-on-first-choice": ("airgap", "no cloud call under the air gap"),
    "attempt-misreported": ("keys", "every good attempt has a completed call"),
    "attempt-unreported": ("keys", "every call a provider saw is an attempt of the router"),
    "bad-requests-counted": ("bad-requests", "only failures of the provider open a breaker"),
    "breaker-never-opens": ("keys", "a breaker opens at its threshold"),
    "budget-checked-then-added": ("burst", "spend never passes the limit"),
    "cooldown-for-everybody": ("pauses", "a provider cools down only when it asked for it"),
    "cooldown-never-set": ("pauses", "retry-after is obeyed by not calling"),
    "cooldown-without-time": ("airgap", "a request is refused at once where all providers rest"),
    "cut-passed-as-whole": ("streams-error", "no answer is cut"),
    "empty-passed-as-answer": ("streams", "no error is passed on as an answer"),
    "end-marker-not-missed": ("streams", "no broken answer makes a good attempt"),
    "error-event-ends-stream": ("streams", "no answer is cut"),
    "failed-call-charged": ("keys", "every call is settled at its price"),
    "first-cooldown-kept": ("pauses", "retry-after is obeyed by not calling"),
    "half-open-without-limit": ("dark", "a half-open breaker lets one call through at a time"),
    "html-passed-as-answer": ("streams", "no error is passed on as an answer"),
    "late-result-closes": ("dark", "only a probe closes a breaker"),
    "leaving-counted": ("leaving", "only failures of the provider open a breaker"),
    "max-tokens-lost": ("short", "every call asks for what its client asked for"),
    "midstream-error-hidden": ("streams-error", "no answer is cut"),
    "no-idle-timeout": ("dribble", "no attempt outlasts its idle timeout"),
    "open-breakers-asked": ("dark", "no call starts while its breaker is open"),
    "order-turned-after-recovery": ("keys", "failover follows the chain"),
    "recovery-not-waited-for": ("dark", "a breaker stays open for its recovery timeout"),
    "refused-key-keeps-probe": ("keys", "no provider rests for ever after the last fault"),
    "reservation-leaked": ("leaving", "every reservation is settled or expired once"),
    "retry-after-slept-between": ("pauses", "a failover is at once"),
    "retry-after-slept-inside": ("pauses", "no client sits through a retry-after"),
    "same-provider-again": ("dark", "failover follows the chain"),
    "slow-flaps": ("slow", "a slow provider is fast again only when it was measured so"),
    "slow-never-measured": ("slow", "no provider rests for ever after the last fault"),
    "store-down-unlimited": ("store-down", "every paid call is reserved for"),
    "stream-flag-lost": ("keys", "every call asks for what its client asked for"),
    "stuck-half-open": ("leaving", "no provider rests for ever after the last fault"),
    "text-repeated": ("streams", "no answer is cut"),
    "upstream-goes-on": ("dribble", "no call outlives its request"),
    "wrong-provider-reported": ("keys", "answers come from the attempt that the router names"),
}
"""By bug, a schedule written by hand that shows it, and the invariant that tells. The hunt reads none of this."""


def play(name: str, *schedules: str) -> dict[str, list[str]]:
    """Return the checks that schedules break with a bug in place, or without one for an empty name."""
    files = [str(HERE / "schedules" / f"{schedule}.yaml") for schedule in schedules]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        [sys.executable, str(HERE / "playing.py"), *files],
        env={**os.environ, PLANT: name, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def broken() -> dict[str, list[str]]:
    """Play each bug's own schedule, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        played = pool.map(lambda name: play(name, SHOWN[name][0])[SHOWN[name][0]], SHOWN)
        return dict(zip(SHOWN, played, strict=True))


def test_there_are_enough_bugs_and_each_has_its_schedule() -> None:
    """At least 24, each with a schedule by hand."""
    assert len(BUGS) >= BUGS_MIN
    assert set(SHOWN) == set(BUGS)


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_is_a_small_change_of_the_code_as_it_is(name: str) -> None:
    """Its diff applies today, changes at most 15 lines, and what comes out is Python that differs."""
    one = bug(name)
    assert 1 <= one.changed <= CHANGED_MAX
    for path in one.hunks:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert ast.dump(ast.parse(planted_source(one, path, source))) != ast.dump(ast.parse(source))


def test_neighbouring_lines_may_change_and_the_bug_s_own_may_not() -> None:
    """A hunk is found by its text wherever it stands; one that fits nowhere, or twice, is an error by name."""
    one = bug("half-open-without-limit")
    ((path, (hunk,)),) = one.hunks.items()
    source = (ROOT / path).read_text(encoding="utf-8")
    gone = next(line for line in hunk.old if line not in hunk.new)
    come = next(line for line in hunk.new if line not in hunk.old)
    assert come in planted_source(one, path, "\n" * 7 + source).splitlines()
    assert come in planted_source(one, path, source.replace(hunk.old[0], f"{hunk.old[0]}  # other")).splitlines()
    with pytest.raises(PlantError, match="does not fit router/breaker"):
        planted_source(one, path, source.replace(gone, "                return False"))
    with pytest.raises(PlantError, match="in 2 places"):
        planted_source(one, path, source + source)


def test_what_is_no_bug_is_told() -> None:
    """A name without a file, and a bug whose module is imported already, are errors."""
    with pytest.raises(PlantError, match="there is no nothing"):
        bug("nothing")
    code = "import router.breaker, planting; planting.sow('half-open-without-limit')"
    path = os.pathsep.join([str(HERE), str(ROOT)])
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "router.breaker is imported already" in run.stderr
    assert isinstance(bug(BUGS[0]), Bug)


@pytest.mark.real
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SHOWN)
def test_an_invariant_sees_the_bug(name: str, broken: dict[str, list[str]]) -> None:
    """A schedule written by hand breaks the invariant that is there for it."""
    assert SHOWN[name][1] in broken[name], broken[name]


@pytest.mark.real
def test_without_a_bug_the_same_schedules_break_nothing() -> None:
    """It is the bug that the invariants see."""
    assert INVARIANTS
    played = play("", *sorted({schedule for schedule, _ in SHOWN.values()}))
    assert not any(played.values()), played


@pytest.mark.real
@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", HUNTED)
def test_the_hunt_finds_a_bug_that_it_knows_nothing_of(name: str) -> None:
    """Within 25 s of a default hunt an invariant is broken, and the schedule is small: 3 faults and 10 requests."""
    (seed,) = seeds(name, commit() or "unknown", 1)
    found = hunt(name, seed, 25.0)
    assert found.check is not None, found
    assert found.faults <= 3
    assert found.requests <= 10
    assert found.text


@pytest.mark.real
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["cut-passed-as-whole", "open-breakers-asked"])
def test_what_the_hunt_found_fails_on_the_wire_too(name: str) -> None:
    """A find, as the hunt wrote it, breaks the same invariant in a real gateway with the bug."""
    played = play_on_the_wire(FINDS / f"{name}.yaml", name)
    assert played.verdict == "fail", played
    assert SHOWN[name][1] in played.broken


def test_every_find_is_named_after_its_bug_and_is_small() -> None:
    """At least ten bugs have a find to be played on the wire, each of at most 3 faults and 10 requests."""
    finds = sorted(FINDS.glob("*.yaml"))
    assert len({bug_of(path) for path in finds}) >= 10
    for path in finds:
        scenario = load_scenario(path).scenario
        assert "wire" in scenario.arenas
        assert len(scenario.faults) <= 3
        assert len(list(arrivals(scenario.load.plan(scenario.seed)))) <= 10
