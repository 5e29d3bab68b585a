"""The layer over `toxiproxy-python`, against a real server and, for what that rarely does, scripted ones."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from faults.base import FaultError
from faults.toxiproxy import ProxyInfo, Toxiproxy, ToxiproxyError

real = pytest.mark.real
Scripted = Callable[..., AbstractContextManager[tuple[str, list[str]]]]


@contextmanager
def silent() -> Iterator[str]:
    """Listen, accept (in the kernel), and never answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@real
def test_a_proxy_is_created_listed_and_deleted(server: Toxiproxy, proxy: ProxyInfo) -> None:
    """A created proxy is in the list with a port of its own, and after its deletion it is not."""
    assert server.version()[0].isdigit() or server.version() == "git"
    assert proxy.enabled
    assert proxy.address[1] > 0
    assert server.proxies()[proxy.name] == proxy
    assert server.delete_proxy(proxy.name) == "removed"
    assert proxy.name not in server.proxies()
    assert server.proxy(proxy.name) is None
    assert server.delete_proxy(proxy.name) == "absent"


@real
def test_a_taken_name_raises_with_the_servers_words(server: Toxiproxy, proxy: ProxyInfo) -> None:
    """A refusal carries the HTTP status and what the server said, and is a FaultError."""
    with pytest.raises(ToxiproxyError, match="409") as caught:
        server.create_proxy(proxy.name, proxy.upstream)
    assert isinstance(caught.value, FaultError)
    assert caught.value.status == 409
    assert "already exists" in caught.value.words


@real
def test_two_servers_are_two(server: Toxiproxy, proxy: ProxyInfo, another_toxiproxy_url: str) -> None:
    """Host and port belong to the instance: a second server changes nothing for the first."""
    other = Toxiproxy(another_toxiproxy_url)
    assert other.proxies() == {}
    assert proxy.name in server.proxies()
    other.create_proxy("only-there", "127.0.0.1:9")
    assert "only-there" not in server.proxies()


@real
@pytest.mark.parametrize(
    ("type_", "attributes"),
    [("latency", {"latncy": 5}), ("latency", {"latency": 5, "jiter": 1}), ("timeout", {"latency": 5})],
)
def test_an_ignored_attribute_is_refused(
    server: Toxiproxy, proxy: ProxyInfo, type_: str, attributes: dict[str, int]
) -> None:
    """Toxiproxy takes a misspelt attribute with 200; we name it, and leave no toxic behind."""
    wrong = next(name for name in attributes if name in {"latncy", "jiter"} or type_ == "timeout")
    with pytest.raises(ToxiproxyError, match=f"attribute {wrong} ignored"):
        server.add_toxic(proxy.name, "typo", type_, attributes=attributes)
    assert server.proxies()[proxy.name].toxics == ()


@real
@pytest.mark.parametrize("toxicity", [7, 0, -0.5])
def test_a_toxicity_that_is_no_share_is_refused(server: Toxiproxy, proxy: ProxyInfo, toxicity: float) -> None:
    """Toxiproxy takes `toxicity: 7`; we do not."""
    with pytest.raises(ToxiproxyError, match="toxicity"):
        server.add_toxic(proxy.name, "much", "timeout", toxicity=toxicity, attributes={"timeout": 1})
    assert server.proxies()[proxy.name].toxics == ()


@real
def test_a_toxic_is_added_updated_and_deleted(server: Toxiproxy, proxy: ProxyInfo) -> None:
    """What is set is what the server has, an update keeps what it does not name, and a second deletion is fine."""
    added = server.add_toxic(proxy.name, "slow", "latency", "upstream", 0.3, {"latency": 5, "jitter": 2})
    assert (added.stream, round(added.toxicity, 6), added.attributes) == ("upstream", 0.3, {"latency": 5, "jitter": 2})
    updated = server.update_toxic(proxy.name, "slow", attributes={"latency": 9})
    assert updated.attributes == {"latency": 9, "jitter": 2}
    assert round(server.update_toxic(proxy.name, "slow", toxicity=0.5).toxicity, 6) == 0.5
    with pytest.raises(ToxiproxyError, match="attribute latncy ignored"):
        server.update_toxic(proxy.name, "slow", attributes={"latncy": 9})
    assert server.delete_toxic(proxy.name, "slow") == "removed"
    assert server.delete_toxic(proxy.name, "slow") == "absent"
    assert server.delete_toxic("no-such-proxy", "slow") == "absent"


@real
def test_a_proxy_is_disabled_and_enabled(server: Toxiproxy, proxy: ProxyInfo) -> None:
    """A disabled proxy refuses connections, and listens on the same port again when it is enabled."""
    assert not server.set_enabled(proxy.name, False).enabled
    with pytest.raises(ConnectionRefusedError), socket.create_connection(proxy.address, timeout=2):
        pass
    assert server.set_enabled(proxy.name, True).listen == proxy.listen


@real
def test_proxy_variables_are_not_read(server: Toxiproxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls go to the server itself, whatever http_proxy names."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert server.version()


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.version(),
        lambda s: s.proxies(),
        lambda s: s.create_proxy("a", "127.0.0.1:9"),
        lambda s: s.delete_proxy("a"),
        lambda s: s.set_enabled("a", False),
        lambda s: s.add_toxic("a", "b", "timeout", attributes={"timeout": 1}),
        lambda s: s.update_toxic("a", "b", toxicity=0.5),
    ],
)
def test_no_call_outlasts_its_deadline(call: Callable[[Toxiproxy], object]) -> None:
    """A server that accepts and never answers costs one deadline, and the error says that it was time."""
    with silent() as url:
        began = time.monotonic()
        with pytest.raises(ToxiproxyError, match=r"no answer within 0\.3 s") as caught:
            call(Toxiproxy(url, deadline_s=0.3))
        assert caught.value.timed_out
        assert time.monotonic() - began < 1.5


def test_the_servers_own_patience_is_a_timeout_too(scripted: Scripted) -> None:
    """After 30 s Toxiproxy itself answers 503 `Timeout`: the call may yet be carried out, as after our deadline."""
    with scripted(lambda verb, path: (503, "<html><h1>Timeout</h1></html>")) as (url, _):
        with pytest.raises(ToxiproxyError, match="gave up") as caught:
            Toxiproxy(url).delete_toxic("a", "b")
        assert caught.value.timed_out


@pytest.mark.parametrize("status", [500, 503, 403, 302])
def test_every_status_but_success_raises(status: int, scripted: Scripted) -> None:
    """Statuses that the library lets through raise here, with the server's words."""
    with scripted(lambda verb, path: (status, '{"error":"the disk is full"}')) as (url, _):
        with pytest.raises(ToxiproxyError, match="the disk is full") as caught:
            Toxiproxy(url).delete_proxy("a")
        assert caught.value.status == status


def test_a_server_that_is_no_toxiproxy_is_told_apart(scripted: Scripted) -> None:
    """A 200 that is no Toxiproxy's answer raises instead of being taken for an empty list."""
    with (
        scripted(lambda verb, path: (200, "<html>hello</html>")) as (url, _),
        pytest.raises(ToxiproxyError, match="no Toxiproxy"),
    ):
        Toxiproxy(url).proxies()


def test_a_refused_connection_means_gone() -> None:
    """Where nobody listens the error says so: such a server has no proxies."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ToxiproxyError, match="nobody listens") as caught:
        Toxiproxy(url).version()
    assert caught.value.gone


@pytest.mark.parametrize("url", ["http://192.0.2.1:8474", "http://example.com:8474", "http://10.0.0.1"])
def test_a_server_elsewhere_is_refused(url: str) -> None:
    """A Toxiproxy that is not on this machine needs to be allowed."""
    with pytest.raises(FaultError, match="not on this machine"):
        Toxiproxy(url)
    assert Toxiproxy(url, allow_remote=True).url == url


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:1", "127.0.0.1:8474", "http://", "http://127.0.0.1:x", "http://a@[::1]"]
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    """Only plain http to a host and a port is an API's address."""
    with pytest.raises(FaultError):
        Toxiproxy(url)


@pytest.mark.parametrize("name", ["a/b", "", "..", "a b", "ä"])
def test_a_name_that_could_never_be_deleted_is_refused(name: str) -> None:
    """Toxiproxy accepts a name with a slash, and then no path leads to it."""
    with pytest.raises(ToxiproxyError, match="is no name"):
        Toxiproxy("http://127.0.0.1:9").create_proxy(name, "127.0.0.1:9")
