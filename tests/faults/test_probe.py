"""Evidence through a real Toxiproxy and a real emulator: seen when the fault is there, and only then."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from faults import registry
from faults.base import FaultError
from faults.down import DownFault
from faults.probe import Baseline, Evidence, ProbePlan, baseline, probe, probe_plan, wait_active, wait_healed
from faults.toxic import ToxicFault
from faults.toxiproxy import ProxyInfo, Toxiproxy
from seawall.arenas.toxics import ping_witness

pytestmark = pytest.mark.real

SLACK_S = 3.0
"""What a busy machine may add to any wait."""

TABLE = [
    ("latency", "downstream", {"latency": 300}, "delayed"),
    ("latency", "upstream", {"latency": 300, "jitter": 20}, "delayed"),
    ("timeout", "downstream", {"timeout": 0}, "silent"),
    ("timeout", "upstream", {"timeout": 0}, "silent"),
    ("timeout", "downstream", {"timeout": 400}, "no_answer"),
    ("timeout", "upstream", {"timeout": 400}, "no_answer"),
    ("timeout", "downstream", {"timeout": 30_000}, "silent"),
    ("reset_peer", "downstream", {"timeout": 0}, "reset"),
    ("reset_peer", "upstream", {"timeout": 0}, "reset"),
    ("reset_peer", "downstream", {"timeout": 200}, "reset"),
    ("reset_peer", "upstream", {"timeout": 200}, "reset"),
    ("bandwidth", "downstream", {"rate": 10}, "delayed"),
    ("bandwidth", "downstream", {"rate": 1000}, "delayed"),
    ("bandwidth", "upstream", {"rate": 100}, "delayed"),
    ("slicer", "downstream", {"average_size": 20, "delay": 10_000}, "spread"),
    ("slicer", "downstream", {"average_size": 1000, "size_variation": 500, "delay": 10_000}, "spread"),
    ("slicer", "upstream", {"average_size": 20, "delay": 10_000}, "delayed"),
    ("limit_data", "downstream", {"bytes": 700}, "exact_bytes"),
    ("limit_data", "downstream", {"bytes": 10}, "exact_bytes"),
    ("limit_data", "upstream", {"bytes": 700}, "no_answer"),
    ("slow_close", "downstream", {"delay": 500}, "late_close"),
]


async def seen(proxy: ProxyInfo, plan: ProbePlan, base: Baseline, within_s: float) -> Evidence | None:
    """Wait for evidence with nobody to stop us."""
    return await wait_active(proxy.address, plan, base, within_s, asyncio.Event())


async def healed(proxy: ProxyInfo, plan: ProbePlan, base: Baseline, within_s: float = 2 + SLACK_S) -> Evidence | None:
    """Wait for the end of the fault with nobody to stop us."""
    return await wait_healed(proxy.address, plan, base, within_s, asyncio.Event())


@pytest.mark.parametrize(("type_", "stream", "attributes", "criterion"), TABLE)
async def test_a_toxic_is_seen_when_it_bites_and_only_then(
    server: Toxiproxy, proxy: ProxyInfo, type_: str, stream: str, attributes: dict[str, int], criterion: str
) -> None:
    """No evidence before, evidence by the planned criterion in the planned time during, two clean probes after."""
    plan = probe_plan(type_, stream, attributes)
    base = await baseline(proxy.address, plan)
    assert await seen(proxy, plan, base, 0.5) is None
    fault = ToxicFault(
        id="f",
        target="gemini",
        run="t",
        proxy=proxy.name,
        url=server.url,
        type=type_,
        stream=stream,  # type: ignore[arg-type]
        attributes=attributes,
    )
    await asyncio.to_thread(fault.inject)
    began_ns = time.monotonic_ns()
    active = await seen(proxy, plan, base, plan.budget_s + SLACK_S)
    assert active is not None
    assert active.criterion == criterion
    assert active.waited_ms / 1000 < plan.expected_s + 0.2 + SLACK_S
    assert began_ns <= active.started_ns < active.ended_ns
    await asyncio.to_thread(registry.undo, fault.prepare())
    assert server.proxy(proxy.name) is not None, "the undo hung and had to take the proxy along"
    after = await healed(proxy, plan, base)
    assert after is not None
    assert after.probes >= 2
    assert registry.verify(fault.prepare())


async def test_a_late_end_upstream_is_seen_by_the_provider(server: Toxiproxy, proxy: ProxyInfo, emulator: Any) -> None:
    """`slow_close` upstream, which no client can see, is proven by when the emulator saw the end of a ping."""
    witness = ping_witness(emulator.admin_url, emulator.token, "gemini")
    plan = probe_plan("slow_close", "upstream", {"delay": 400})
    base = await baseline(proxy.address, plan, witness=witness)
    stop = asyncio.Event()
    assert await wait_active(proxy.address, plan, base, 0.5, stop, witness=witness) is None
    server.add_toxic(proxy.name, "late", "slow_close", "upstream", attributes={"delay": 400})
    active = await wait_active(proxy.address, plan, base, plan.budget_s + SLACK_S, stop, witness=witness)
    assert active is not None
    assert active.criterion == "late_fin"
    assert active.sample["fin_ms"] >= 320
    assert await wait_healed(proxy.address, plan, base, 1.0, stop, witness=witness) is None
    server.delete_toxic(proxy.name, "late")
    assert await wait_healed(proxy.address, plan, base, 2 + SLACK_S, stop, witness=witness) is not None


@pytest.mark.parametrize(
    ("type_", "attributes", "criterion"),
    [
        ("latency", {"latency": 200}, "delayed"),
        ("timeout", {"timeout": 0}, "silent"),
        ("reset_peer", {"timeout": 0}, "reset"),
        ("down", {}, "refused"),
    ],
)
async def test_redis_is_proven_by_its_pong(
    server: Toxiproxy, redis_port: int, type_: str, attributes: dict[str, int], criterion: str
) -> None:
    """At a real Redis a toxic is seen through PING and PONG while it is there, and not before or after."""
    proxy = server.create_proxy(f"redis-{time.monotonic_ns()}", f"127.0.0.1:{redis_port}")
    try:
        plan = probe_plan(type_, "downstream", attributes, 1.0, "resp")
        base = await baseline(proxy.address, plan)
        assert await seen(proxy, plan, base, 0.3) is None
        if type_ == "down":
            server.set_enabled(proxy.name, False)
        else:
            server.add_toxic(proxy.name, "t", type_, attributes=attributes)
        active = await seen(proxy, plan, base, plan.budget_s + SLACK_S)
        assert active is not None
        assert active.criterion == criterion
        assert await healed(proxy, plan, base, 0.5) is None
        if type_ == "down":
            server.set_enabled(proxy.name, True)
        else:
            server.delete_toxic(proxy.name, "t")
        assert await healed(proxy, plan, base) is not None
    finally:
        server.delete_proxy(proxy.name)


async def test_a_redis_that_answers_otherwise_is_not_clean() -> None:
    """Only PONG is a healthy answer: a Redis that is loading, or wants a password, is not."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"PING\r\n"
        writer.write(b"-NOAUTH Authentication required.\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        address = listener.sockets[0].getsockname()
        plan = probe_plan("latency", "downstream", {"latency": 300}, 1.0, "resp")
        sample = await probe(address, plan.shape)
        assert (sample.ended, sample.status) == ("whole", 500)
        with pytest.raises(FaultError, match="status 500"):
            await baseline(address, plan)


async def test_a_disabled_proxy_is_seen(server: Toxiproxy, proxy: ProxyInfo) -> None:
    """`down` is proven by a refused connection."""
    plan = probe_plan("down", "downstream", {})
    base = await baseline(proxy.address, plan)
    fault = DownFault(id="d", target="gemini", proxy=proxy.name, url=server.url)
    fault.inject()
    active = await seen(proxy, plan, base, plan.budget_s + SLACK_S)
    assert active is not None
    assert active.sample["ended"] == "refused"
    registry.undo(fault.prepare())
    assert await healed(proxy, plan, base) is not None


@pytest.mark.parametrize(
    "toxic",
    [
        {"type": "latency", "attributes": {"latncy": 300}},
        {"type": "latency", "attributes": {"latency": 0}},
        {"type": "slicer", "attributes": {"average_size": 1_000_000, "delay": 10}},
        None,
    ],
    ids=["misspelt", "zero", "too large", "none"],
)
async def test_a_toxic_without_effect_is_not_seen(
    server: Toxiproxy, proxy: ProxyInfo, toxic: dict[str, object] | None
) -> None:
    """A toxic that the server took but that does nothing leaves no evidence: the run will be invalid, not passed."""
    plan = probe_plan("latency", "downstream", {"latency": 300})
    base = await baseline(proxy.address, plan)
    if toxic is not None:  # past our own checks, as somebody else's client would
        server._call("toxic", server._consumer.post, f"/proxies/{proxy.name}/toxics", json={"name": "noop", **toxic})
        assert [found.name for found in server.proxies()[proxy.name].toxics] == ["noop"]
    assert await seen(proxy, plan, base, plan.budget_s) is None


@pytest.mark.parametrize("type_", ["latency", "timeout", "reset_peer", "bandwidth", "limit_data", "slow_close"])
async def test_a_toxic_on_another_proxy_is_not_seen(
    server: Toxiproxy, proxy: ProxyInfo, emulator: object, type_: str
) -> None:
    """Evidence is of one proxy: a toxic next door neither shows here nor touches a pooled connection here."""
    attributes = {"latency": 300, "rate": 10, "bytes": 100, "delay": 500, "timeout": 200}
    own = {"latency": "latency", "bandwidth": "rate", "limit_data": "bytes", "slow_close": "delay"}.get(
        type_, "timeout"
    )
    plan = probe_plan(type_, "downstream", {own: attributes[own]})
    base = await baseline(proxy.address, plan)
    next_door = server.create_proxy(f"{proxy.name}-next", proxy.upstream)
    try:
        with socket.create_connection(proxy.address, timeout=5) as pooled:
            assert _ping(pooled) < 1
            server.add_toxic(next_door.name, "theirs", type_, attributes={own: attributes[own]})
            assert await seen(next_door, plan, base, plan.budget_s + SLACK_S) is not None
            assert await seen(proxy, plan, base, 0.3) is None
            assert _ping(pooled) < 1
        assert server.proxies()[proxy.name].toxics == ()
    finally:
        server.delete_proxy(next_door.name)


async def test_half_the_connections_are_seen_in_time(server: Toxiproxy, proxy: ProxyInfo) -> None:
    """With toxicity 50% the budget holds enough probes for one to meet it."""
    plan = probe_plan("reset_peer", "downstream", {"timeout": 0}, 0.5)
    base = await baseline(proxy.address, plan)
    server.add_toxic(proxy.name, "half", "reset_peer", toxicity=0.5, attributes={"timeout": 0})
    assert await seen(proxy, plan, base, plan.budget_s + SLACK_S) is not None


async def test_a_fault_that_stays_is_not_called_healed(server: Toxiproxy, proxy: ProxyInfo) -> None:
    """As long as the toxic is there no two probes are clean."""
    plan = probe_plan("latency", "downstream", {"latency": 100})
    base = await baseline(proxy.address, plan)
    server.add_toxic(proxy.name, "stays", "latency", attributes={"latency": 100})
    assert await healed(proxy, plan, base, 1.0) is None


async def test_the_unprovable_is_not_waited_for(proxy: ProxyInfo) -> None:
    """Without a proof there is no evidence and no waiting, but the end of the fault can still be seen."""
    plan = probe_plan("slicer", "upstream", {"average_size": 20})
    base = await baseline(proxy.address, plan)
    began = time.monotonic()
    assert await seen(proxy, plan, base, 60) is None
    assert time.monotonic() - began < 1
    assert await healed(proxy, plan, base) is not None


async def test_a_stop_ends_the_wait(proxy: ProxyInfo) -> None:
    """Whoever sets the event gets None at once, and no probe is left behind."""
    plan = probe_plan("latency", "downstream", {"latency": 300})
    base = await baseline(proxy.address, plan)
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, stop.set)
    began = time.monotonic()
    assert await wait_active(proxy.address, plan, base, 60, stop) is None
    assert time.monotonic() - began < 5
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_slow_probes_overlap(server: Toxiproxy, proxy: ProxyInfo) -> None:
    """A probe that takes a second does not hold up the next: one is sent every 200 ms all the same."""
    plan = probe_plan("timeout", "downstream", {"timeout": 0})
    base = await baseline(proxy.address, plan)
    server.add_toxic(proxy.name, "dark", "timeout", attributes={"timeout": 0})
    active = await seen(proxy, plan, base, plan.budget_s + SLACK_S)
    assert active is not None
    assert active.probes >= 4
    assert active.waited_ms >= 990


async def test_a_baseline_that_is_not_whole_is_refused(server: Toxiproxy, proxy: ProxyInfo) -> None:
    """A fault cannot be proven where something else is wrong already."""
    plan = probe_plan("latency", "downstream", {"latency": 300})
    server.set_enabled(proxy.name, False)
    with pytest.raises(FaultError, match="refused"):
        await baseline(proxy.address, plan)
    server.set_enabled(proxy.name, True)
    server.add_toxic(proxy.name, "earlier", "limit_data", attributes={"bytes": 10})
    with pytest.raises(FaultError, match="eof"):
        await baseline(proxy.address, plan)


async def test_a_baseline_as_wide_as_the_fault_is_refused(server: Toxiproxy, proxy: ProxyInfo) -> None:
    """Where probes differ by more than half of what would prove the fault, noise would be taken for it."""
    plan = probe_plan("latency", "downstream", {"latency": 10})
    server.add_toxic(proxy.name, "noise", "latency", attributes={"latency": 30, "jitter": 30})
    with pytest.raises(FaultError, match="differ by"):
        await baseline(proxy.address, plan)


async def test_evidence_is_plain_data_in_milliseconds(server: Toxiproxy, proxy: ProxyInfo) -> None:
    """The journal gets numbers and words, and the deciding sample with them."""
    plan = probe_plan("latency", "downstream", {"latency": 100})
    base = await baseline(proxy.address, plan)
    server.add_toxic(proxy.name, "slow", "latency", attributes={"latency": 100})
    active = await seen(proxy, plan, base, plan.budget_s + SLACK_S)
    assert active is not None
    data = active.data()
    assert data["criterion"] == "delayed"
    assert data["sample"]["ended"] == "whole"
    assert data["sample"]["last_byte_ms"] >= 80
    assert data["baseline_ms"] < data["sample"]["last_byte_ms"]


async def test_a_probe_keeps_the_connection_open_unless_it_asks(proxy: ProxyInfo) -> None:
    """The emulator answers a ping with exactly the bytes asked for."""
    plan = probe_plan("limit_data", "downstream", {"bytes": 700})
    sample = await probe(proxy.address, plan.shape)
    assert (sample.ended, sample.status) == ("whole", 200)
    assert sample.bytes > 1_400


def _ping(wire: socket.socket) -> float:
    began = time.monotonic()
    wire.sendall(b"POST /_seawall/ping?reply_bytes=5 HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
    received = b""
    while not received.endswith(b"....."):
        data = wire.recv(4096)
        assert data, "the pooled connection died"
        received += data
    return time.monotonic() - began
