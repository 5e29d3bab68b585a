"""The search: the same for the same seed, quiet about a sound router, and short about a broken one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from router.errors import AllCloudsDownError
from router.hybrid import HybridRouter
from seawall.hunt import HuntResult, search
from seawall.hunt.document import (
    Document,
    Unusable,
    arrivals_of,
    requests_in,
    scenario_of,
    with_arrivals,
    yaml_of,
)
from seawall.hunt.draw_load import REQUESTS_MAX
from seawall.hunt.schedules import schedules
from seawall.hunt.trial import play
from seawall.hunt.writing import Unsure, write
from seawall.scenario import load_text
from seawall.simulation import simulate
from seawall.verdicts.judge import judge_scenario

SLOW = settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much),
)


class Hasty(HybridRouter):
    """A router that gives up when the first provider fails."""

    async def complete(self, request: Any) -> Any:
        """Answer, or refuse after the first failure."""
        reply = await super().complete(request)
        if len(reply.attempts) > 1:
            raise AllCloudsDownError("the first provider failed", attempts=list(reply.attempts))
        return reply


def hasty(*arguments: Any, **named: Any) -> Hasty:
    """Make one."""
    return Hasty(*arguments, **named)


hasty.observes = ["request", "call", "attempt"]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def found() -> HuntResult:
    """What a search finds in a router that does not fail over."""
    return search(seed=4, schedules=200, make_router=hasty)


def clashes(document: Document) -> bool:
    """Whether two of its faults exclude each other, which a hunt passes over."""
    try:
        scenario_of(document)
    except Unusable as reason:
        return "at the same time" in str(reason)
    return False


@given(document=schedules())
@SLOW
def test_what_is_drawn_is_a_scenario_that_the_loader_takes(document: Document) -> None:
    """But for a clash of faults, its text loads without an error to the same scenario, of at most 200 requests."""
    if clashes(document):
        return
    scenario = scenario_of(document)
    assert load_text(yaml_of(document), "drawn.yaml").scenario == scenario
    assert 1 <= requests_in(document) <= REQUESTS_MAX


def test_the_same_seed_searches_the_same() -> None:
    """Two searches of a seed play as many requests and see as many states; another seed's are others."""
    first, again, other = (search(seed=seed, schedules=12) for seed in (5, 5, 6))
    assert (first.requests, first.states, first.unusable) == (again.requests, again.states, again.unusable)
    assert (first.requests, first.states) != (other.requests, other.states)


def test_the_router_is_searched_for_nothing() -> None:
    """In our own router a short search finds nothing, having seen breakers move."""
    result = search(seed=7, schedules=60)
    assert (result.found, result.text, result.check) == (None, "", None), result.text
    assert result.schedules == 60
    assert result.states > 20


def test_a_find_is_small(found: HuntResult) -> None:
    """A router that does not fail over is found out with one fault and one request, and default settings."""
    assert found.found is not None
    assert (found.faults_found, found.requests_found) == (1, 1)
    assert set(found.found.system.settings) <= {"TOTAL_TIMEOUT", "FIRST_BYTE_TIMEOUT", "IDLE_TIMEOUT"}
    assert found.found.seed == 1


def test_a_find_is_written_with_its_story_and_fails_again(found: HuntResult, tmp_path: Path) -> None:
    """The file says what happens, how it was found and how to play it; played again it breaks the same check."""
    path = write(found, tmp_path, commit="abc", command="seawall hunt --seed 4", make_router=hasty)
    text = path.read_text("utf-8")
    for words in (
        "What happens: at",
        "seawall hunt --seed 4",
        "commit abc",
        "seawall run --arena simulation",
        found.check,
    ):
        assert words is not None
        assert words in text.replace("\n# ", " ")
    scenario = load_text(text, path.name).scenario
    verdict = judge_scenario(simulate(scenario, make_router=hasty), scenario)
    assert found.check in [check.name for check in verdict.checks if check.verdict == "fail"]
    assert write(found, tmp_path, commit="abc", command="again", make_router=hasty) == path
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_what_does_not_fail_again_is_not_written(found: HuntResult, tmp_path: Path) -> None:
    """With our own router the same schedule breaks nothing: nothing is written, and it is said."""
    with pytest.raises(Unsure, match="does not break"):
        write(found, tmp_path / "finds", commit=None, command="x")
    assert not (tmp_path / "finds").exists()


@pytest.mark.usefixtures("open_for_ever")
def test_a_breaker_that_stays_open_is_found() -> None:
    """Liveness is judged too: nothing wrong is done here, only nothing right any more."""
    result = search(seed=2, schedules=300)
    assert result.check == "no provider rests for ever after the last fault"
    assert (result.faults_found, result.requests_found <= 10) == (1, True)


def test_a_router_that_waits_for_ever_is_found() -> None:
    """A request that nobody ends is a find, even where virtual time has nothing to wait for."""

    class Silent(HybridRouter):
        async def complete(self, request: Any) -> Any:
            raise RuntimeError("not an answer, and not an error of ours")

    result = search(seed=1, schedules=5, make_router=Silent)
    assert (result.check, result.requests_found, result.faults_found) == ("no request hangs", 1, 0)


def test_a_search_has_an_end() -> None:
    """Without a budget or a number of anything it is refused; with no time at all it plays nothing."""
    with pytest.raises(ValueError, match="give one of the three"):
        search(seed=1)
    assert search(seed=1, budget_s=0).schedules == 0
    counted = search(seed=1, requests=50)
    assert counted.requests >= 50 > counted.requests - REQUESTS_MAX


def test_settings_can_be_fixed() -> None:
    """What the user sets is in every schedule, and is not drawn."""
    played: list[str] = []

    def noting(settings_: Any, **named: Any) -> HybridRouter:
        played.append(settings_.midstream)
        return HybridRouter(settings_, **named)

    search(seed=2, schedules=15, settings={"MIDSTREAM": "error"}, make_router=noting)
    assert set(played) == {"error"}


def test_arrivals_survive_writing() -> None:
    """Requests written as entries with counts are the same requests."""
    arrivals = [(0.0, False), (0.0, False), (0.5, True), (2.0, False)]
    document = with_arrivals({"load": {}}, arrivals)
    assert arrivals_of(document) == arrivals
    assert len(document["load"]["arrivals"]) == 3


def test_a_healthy_schedule_breaks_nothing() -> None:
    """A run without faults has no broken check, and shows no state of a breaker."""
    from seawall.hunt.document import blank

    trial = play(scenario_of(blank()))
    assert (trial.broken, trial.requests) == ((), 1)
    assert not [feature for feature in trial.features if feature[0] == "breakers"]
