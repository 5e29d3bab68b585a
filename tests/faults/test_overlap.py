"""What can be told of a fault among others: by probes where they can tell, else by what Toxiproxy has."""

from __future__ import annotations

from typing import Any

import pytest

from faults import registry
from faults.criteria import probe_plan
from faults.down import DownFault
from faults.overlap import Around, look, plan_among, read_back
from faults.toxic import ToxicFault
from faults.toxiproxy import ProxyInfo, ToxicInfo, Toxiproxy

ATTRIBUTES: dict[str, dict[str, int]] = {
    "latency": {"latency": 400},
    "bandwidth": {"rate": 10},
    "slicer": {"average_size": 20, "delay": 1000},
    "slow_close": {"delay": 300},
    "timeout": {"timeout": 0},
    "reset_peer": {"timeout": 0},
    "limit_data": {"bytes": 100},
    "down": {},
}
DELAYING = ("latency", "bandwidth", "slicer", "slow_close")


def beside(*types: str, blocked: tuple[str, ...] = ()) -> Around:
    """Return the surroundings of a fault that is there among toxics of these types."""
    toxics = tuple(
        ToxicInfo(
            name=f"seawall-r-1-{type_}", type=type_, stream="downstream", toxicity=1.0, attributes=ATTRIBUTES[type_]
        )
        for type_ in types
    )
    return Around(mine=True, toxics=toxics, blocked=blocked)


@pytest.mark.parametrize("type_", ATTRIBUTES)
def test_alone_the_plan_stays_as_it_is(type_: str) -> None:
    """Without company nothing changes, neither for the beginning nor for the end."""
    plan = probe_plan(type_, "downstream", ATTRIBUTES[type_])
    assert plan_among(plan, beside()) is plan
    assert plan_among(plan, beside(), healing=True) is plan


@pytest.mark.parametrize("other", DELAYING)
@pytest.mark.parametrize("type_", ATTRIBUTES)
def test_an_end_is_told_from_a_delay(type_: str, other: str) -> None:
    """What ends connections is proven beside what only delays, with that much more patience; a delay is not."""
    plan = probe_plan(type_, "downstream", ATTRIBUTES[type_])
    found = plan_among(plan, beside(other))
    if type_ in DELAYING:
        assert found is None
        return
    assert found is not None
    assert found.criterion == plan.criterion
    longer_s = found.shape.deadline_s - plan.shape.deadline_s
    assert longer_s >= probe_plan(other, "downstream", ATTRIBUTES[other]).expected_s or type_ == "down"


@pytest.mark.parametrize("other", ["timeout", "reset_peer", "limit_data"])
@pytest.mark.parametrize("type_", ATTRIBUTES)
def test_two_ends_are_not_told_apart(type_: str, other: str) -> None:
    """Beside another end only a refused connection is proof, and of no fault the end can be seen."""
    plan = probe_plan(type_, "downstream", ATTRIBUTES[type_])
    assert (plan_among(plan, beside(other)) is None) is (type_ != "down")
    assert plan_among(plan, beside(other), healing=True) is None


@pytest.mark.parametrize("type_", ATTRIBUTES)
def test_nothing_is_told_of_what_lets_nothing_through(type_: str) -> None:
    """Where the proxy is down, or its upstream, no probe proves anything."""
    plan = probe_plan(type_, "downstream", ATTRIBUTES[type_])
    assert plan_among(plan, beside(blocked=("down (fault gone)",))) is None


def test_a_delay_that_cannot_be_told_is_not_waited_for() -> None:
    """A neighbour whose delay nobody knows leaves the reading back."""
    plan = probe_plan("timeout", "downstream", {"timeout": 0})
    endless = Around(
        mine=True,
        toxics=(ToxicInfo(name="t", type="latency", stream="upstream", toxicity=1, attributes={"latency": 10**7}),),
    )
    assert plan_among(plan, endless) is None


def test_evidence_by_reading_back_names_who_is_in_the_way() -> None:
    """The criterion says that it was read back, and while what was in force, by the fault's id or somebody's name."""
    around = beside("latency", blocked=("down (fault gone)",))
    told = read_back(around, phase="active")
    assert told["criterion"] == "read_back while latency (fault latency), down (fault gone) is in force"
    assert "is there" in told["wanted"]
    theirs = ToxicInfo(name="theirs", type="latency", stream="upstream", toxicity=1, attributes={})
    told = read_back(Around(mine=False, toxics=(theirs,)), phase="healed")
    assert told["criterion"] == "read_back while latency (somebody else's theirs) is in force"
    assert "not there" in told["wanted"]


def at(proxy: ProxyInfo, url: str, **options: Any) -> ToxicFault:
    """Return a latency at a proxy."""
    values = {"id": "slow", "type": "latency", "attributes": {"latency": 50}, **options}
    return ToxicFault(target="gemini", run="r", proxy=proxy.name, url=url, **values)


@pytest.mark.real
def test_a_look_tells_mine_from_others(server: Toxiproxy, proxy: ProxyInfo) -> None:
    """What a real server has at the proxy is split into the fault itself, other toxics, and who keeps it down."""
    slow, second = at(proxy, server.url), at(proxy, server.url, id="second")
    down = DownFault(id="gone", target="gemini", proxy=proxy.name, url=server.url)
    assert look(slow) == Around(mine=False)
    slow.inject()
    found = look(slow)
    assert found is not None
    assert (found.mine, found.others) == (True, ())
    second.inject()
    down.inject()
    try:
        found, from_down = look(slow), look(down)
        assert found is not None
        assert from_down is not None
        assert found.others == ("latency (fault second)", "down (fault gone)")
        assert (from_down.mine, len(from_down.toxics), from_down.blocked) == (True, 2, ())
    finally:
        registry.undo(down.prepare())
    server.set_enabled(proxy.name, False)
    found = look(slow)
    assert found is not None
    assert found.blocked == ("down (the proxy)",)
    gone = look(at(proxy, "http://127.0.0.1:9"))
    assert gone is not None
    assert gone.gone
