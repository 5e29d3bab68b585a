"""The faults of the wire: their options, their words, and the records that undo them."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from faults import registry
from faults.base import Fault, FaultError, Undo
from faults.down import DownFault
from faults.toxic import ToxicFault
from faults.toxiproxy import ProxyInfo, Toxiproxy, ToxiproxyError

URL = "http://127.0.0.1:8474"


def fault(type_: str = "timeout", *, url: str = URL, proxy: str = "p", **options: Any) -> ToxicFault:
    """Return a toxic on a proxy."""
    values = {"attributes": {"timeout": 0}, **options}
    return ToxicFault(id="dark", target="gemini", run="r1", proxy=proxy, url=url, type=type_, **values)


def test_the_name_carries_run_and_fault() -> None:
    """The toxic's name on the server can be no other run's."""
    assert fault().toxic == "seawall-r1-dark"
    assert fault().prepare().arguments["toxic"] == "seawall-r1-dark"


def test_a_fault_says_what_it_does() -> None:
    """The description has type, attributes with units, stream and share."""
    assert fault().describe() == "toxic timeout (timeout 0 ms, downstream)"
    sliced = fault("slicer", attributes={"average_size": 20, "delay": 10}, stream="upstream", toxicity=0.5)
    assert sliced.describe() == "toxic slicer (average_size 20 B, delay 10 µs, upstream, 50% of connections)"
    assert DownFault(id="d", target="gemini", proxy="p", url=URL).describe().startswith("down")


@pytest.mark.parametrize(
    ("type_", "options", "words"),
    [
        ("latncy", {}, "there is no toxic"),
        ("latency", {"attributes": {"latncy": 5}}, "has no attribute latncy"),
        ("timeout", {"attributes": {"timeout": -1}}, "from 0 up"),
        ("timeout", {"stream": "sideways"}, "downstream or upstream"),
        ("timeout", {"toxicity": 7}, "toxicity is 7"),
        ("bandwidth", {"attributes": {"rate": 0}}, "at least 1 KB/s"),
        ("slicer", {"attributes": {"delay": 5}}, "average_size of at least 1"),
        ("slicer", {"attributes": {"average_size": 5, "size_variation": 5}}, "below its average_size"),
    ],
)
def test_bad_options_are_refused(type_: str, options: dict[str, Any], words: str) -> None:
    """What Toxiproxy would ignore, spin on or die of is refused before it gets there."""
    with pytest.raises(FaultError, match=words):
        fault(type_, **options)


def test_all_violations_are_told_together() -> None:
    """One error names every violation."""
    with pytest.raises(FaultError, match=r"sideways.*toxicity"):
        fault(stream="sideways", toxicity=2)


def test_records_are_plain_data() -> None:
    """A record survives JSON, for it is read by another process."""
    faults: list[Fault] = [fault(), DownFault(id="d", target="gemini", proxy="p", url=URL)]
    for each in faults:
        record = each.prepare()
        assert msgspec.json.decode(msgspec.json.encode(record), type=Undo) == record


@pytest.mark.parametrize("kind", ["nonsense", "base", "undo", "../evil", ""])
def test_an_unknown_kind_is_refused(kind: str) -> None:
    """A record of a kind that nobody registered raises, whatever modules there are."""
    with pytest.raises(FaultError, match="nobody knows"):
        registry.undo(Undo(kind=kind, arguments={}))


@pytest.mark.parametrize("kind", ["toxic", "proxy", "down", "respond"])
def test_an_incomplete_record_is_refused(kind: str) -> None:
    """A record without its arguments raises a FaultError that says so."""
    with pytest.raises(FaultError, match="incomplete"):
        registry.undo(Undo(kind=kind, arguments={}))
    with pytest.raises(FaultError, match="incomplete"):
        registry.verify(Undo(kind=kind, arguments={}))


@pytest.mark.parametrize("kind", ["toxic", "proxy", "down"])
def test_a_server_elsewhere_is_not_touched_by_an_undo(kind: str) -> None:
    """A record that names another host without leave is refused."""
    arguments = {"url": "http://192.0.2.1:1", "proxy": "p", "toxic": "t", "was": True}
    with pytest.raises(FaultError, match="not on this machine"):
        registry.undo(Undo(kind=kind, arguments=arguments))


@pytest.mark.parametrize("kind", ["toxic", "proxy", "down"])
def test_a_server_that_is_gone_is_clean(kind: str) -> None:
    """Proxies and toxics live in the server's memory: no server, nothing to undo."""
    record = Undo(kind=kind, arguments={"url": "http://127.0.0.1:9", "proxy": "p", "toxic": "t", "was": True})
    registry.undo(record)
    assert registry.verify(record)


@pytest.mark.real
def test_undo_takes_the_toxic_and_nothing_else(server: Toxiproxy, proxy: ProxyInfo) -> None:
    """Undo removes our toxic, leaves a neighbour on the same proxy, and may be repeated."""
    ours = fault(url=server.url, proxy=proxy.name)
    server.add_toxic(proxy.name, "neighbour", "latency", attributes={"latency": 1})
    record = ours.prepare()
    registry.undo(record)  # valid though it was never injected
    assert registry.verify(record)
    ours.inject()
    assert not registry.verify(record)
    registry.undo(record)
    registry.undo(record)
    assert registry.verify(record)
    assert [toxic.name for toxic in server.proxies()[proxy.name].toxics] == ["neighbour"]


@pytest.mark.real
@pytest.mark.parametrize("was", [True, False])
def test_undo_restores_enabled_as_it_was(server: Toxiproxy, proxy: ProxyInfo, was: bool) -> None:
    """After the undo of `down` the proxy is enabled or not, as the record says it was."""
    server.set_enabled(proxy.name, was)
    down = DownFault(id="d", target="gemini", proxy=proxy.name, url=server.url, was=was)
    down.inject()
    record = down.prepare()
    assert registry.verify(record) is not was
    registry.undo(record)
    assert registry.verify(record)
    assert server.proxies()[proxy.name].enabled is was


@pytest.mark.real
def test_an_injection_that_is_refused_raises(server: Toxiproxy, proxy: ProxyInfo) -> None:
    """The same fault twice, or a proxy that is not there, raises with the server's words."""
    ours = fault(url=server.url, proxy=proxy.name)
    ours.inject()
    with pytest.raises(ToxiproxyError, match="already exists"):
        ours.inject()
    with pytest.raises(ToxiproxyError, match="proxy not found"):
        fault(url=server.url, proxy=f"absent-{time.monotonic_ns()}").inject()
