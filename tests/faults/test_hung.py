"""A toxic that Toxiproxy does not let go of: its links are cut, it is waited for, and the proxy is deleted last."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import msgspec
import pytest

from faults import registry
from faults.down import DownFault, holders
from faults.hung import remove_toxic
from faults.toxic import ToxicFault, give_up_proxies
from faults.toxiproxy import Toxiproxy, ToxiproxyError

Scripted = Callable[..., AbstractContextManager[tuple[str, list[str]]]]
PROXY = '{"name":"a","listen":"127.0.0.1:1","upstream":"127.0.0.1:2","enabled":%s,"toxics":[]}'
DISABLE, ENABLE = PROXY % "false", PROXY % "true"


class Api:
    """Answers as a Toxiproxy whose first `hangs` deletions of a toxic hang."""

    def __init__(self, hangs: int) -> None:
        self.left = hangs
        self.switched = 0

    def __call__(self, verb: str, path: str) -> tuple[int, str] | None:
        """Answer one call."""
        if path.endswith("/toxics/b"):
            self.left -= 1
            return None if self.left >= 0 else (404, '{"error":"toxic not found"}')
        if verb == "POST":
            self.switched += 1
            return 200, (DISABLE if self.switched == 1 else ENABLE)
        return 204, ""


def test_a_deletion_that_hangs_once_leaves_the_proxy(scripted: Scripted) -> None:
    """The links are cut, the deletion is tried again, the proxy listens again, and the answer says all of that."""
    with scripted(Api(hangs=1)) as (url, calls):
        done = remove_toxic(Toxiproxy(url, deadline_s=0.3), "a", "b", owned=True)
    assert done is not None
    assert "disabled, which cut its links, and the toxic was deleted; the proxy was enabled again" in done
    assert calls == ["DELETE /proxies/a/toxics/b", "POST /proxies/a", "DELETE /proxies/a/toxics/b", "POST /proxies/a"]


def test_only_a_deletion_that_never_ends_takes_the_proxy_along(scripted: Scripted) -> None:
    """When the patient deletion hangs too, an owned proxy is deleted, and the answer says so."""
    with scripted(Api(hangs=50)) as (url, calls):
        done = remove_toxic(Toxiproxy(url, deadline_s=0.15), "a", "b", owned=True)
    assert done is not None
    assert "the proxy was deleted" in done
    assert calls[-3:] == ["DELETE /proxies/a/toxics/b", "POST /proxies/a", "DELETE /proxies/a"]


def test_without_patience_there_is_no_second_try(scripted: Scripted) -> None:
    """A recovery deletes the proxy of a dead run at once, and leaves somebody else's alone."""
    record = ToxicFault(id="b", target="gemini", run="r", proxy="a", url="u", type="timeout").prepare()
    for owned in (True, False):
        with scripted(lambda verb, path: None if "toxics" in path else (200, DISABLE)) as (url, calls):
            left = msgspec.structs.replace(record, arguments={**record.arguments, "url": url, "owns_proxy": owned})
            if owned:
                assert "the proxy was deleted" in (registry.undo(left, deadline_s=0.3) or "")
                assert calls[1:] == ["POST /proxies/a", "DELETE /proxies/a"]
            else:
                with pytest.raises(ToxiproxyError):
                    registry.undo(left, deadline_s=0.3)
                assert len(calls) == 1


def test_a_run_that_is_broken_off_does_not_wait_for_its_proxy(scripted: Scripted) -> None:
    """Once nobody needs the proxy, the try under way is the last: the proxy goes, and the toxic with it."""
    with scripted(lambda verb, path: None if "toxics" in path else (200, DISABLE)) as (url, calls):
        fault = ToxicFault(id="b", target="gemini", run="r", proxy="a", url=url, type="timeout")
        with pytest.raises(ToxiproxyError):
            fault.inject()
        began = time.monotonic()
        threading.Timer(1.0, give_up_proxies).start()
        assert "the proxy was deleted" in (registry.undo(fault.prepare(), deadline_s=0.5) or "")
    assert calls[-2:] == ["POST /proxies/a", "DELETE /proxies/a"]
    assert 1.0 <= time.monotonic() - began < 5.0


def test_a_proxy_that_is_not_ours_is_only_waited_for(scripted: Scripted) -> None:
    """Somebody else's proxy is neither disabled nor deleted, whether the deletion ends or not."""
    with scripted(Api(hangs=1)) as (url, calls):
        assert "waited for" in (remove_toxic(Toxiproxy(url, deadline_s=0.15), "a", "b", owned=False) or "")
    assert calls == ["DELETE /proxies/a/toxics/b"] * 2
    with scripted(Api(hangs=50)) as (url, calls), pytest.raises(ToxiproxyError) as caught:
        remove_toxic(Toxiproxy(url, deadline_s=0.15), "a", "b", owned=False)
    assert caught.value.timed_out
    assert set(calls) == {"DELETE /proxies/a/toxics/b"}


def test_a_wholly_silent_server_bounds_it(scripted: Scripted) -> None:
    """Of a server that answers nothing the removal of a toxic costs ten deadlines at most."""
    with scripted(lambda verb, path: None) as (url, _):
        began = time.monotonic()
        with pytest.raises(ToxiproxyError) as caught:
            remove_toxic(Toxiproxy(url, deadline_s=0.2), "a", "b", owned=True)
        assert caught.value.timed_out
        assert time.monotonic() - began < 10 * 0.2 + 1.5


@contextlib.contextmanager
def bulky_upstream() -> Iterator[str]:
    """Serve 400 kB to whoever says anything."""

    def serve(wire: socket.socket) -> None:
        with wire, contextlib.suppress(OSError):
            wire.recv(10)
            wire.sendall(b"." * 400_000)
            wire.recv(10)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.real
@pytest.mark.timeout(60)
def test_a_real_hanging_deletion_is_mended(another_toxiproxy_url: str) -> None:
    """Clients that leave large answers just before the deletion hold Toxiproxy up; the proxy works again after it."""
    server = Toxiproxy(another_toxiproxy_url, deadline_s=2.5)
    with bulky_upstream() as upstream:
        proxy = server.create_proxy("p", upstream)
        server.add_toxic("p", "narrow", "bandwidth", attributes={"rate": 1000})
        clients = [socket.create_connection(proxy.address) for _ in range(4)]
        for client in clients:
            client.sendall(b"x")
        time.sleep(0.15)  # as long as it takes until Toxiproxy is in the middle
        for client in clients:
            client.close()
        done = remove_toxic(server, "p", "narrow", owned=True)
        # A machine that is slow at this very moment lets the clients' end come through first.
        assert done is None or "enabled again" in done
        found = server.proxy("p")
        assert found is not None
        assert (found.enabled, found.toxics, found.listen) == (True, (), proxy.listen)
        with socket.create_connection(proxy.address, timeout=5) as client:
            client.sendall(b"x")
            assert client.recv(10)


@pytest.mark.real
def test_a_proxy_that_two_hold_down_is_let_go_by_the_last(another_toxiproxy_url: str) -> None:
    """Of two faults `down` at one proxy the end of the first leaves the second in force, and both are verified."""
    server = Toxiproxy(another_toxiproxy_url)
    server.create_proxy("p", "127.0.0.1:9")
    first, second = (DownFault(id=name, target="gemini", proxy="p", url=server.url) for name in ("one", "two"))
    for fault in (first, second):
        fault.inject()
    assert "two" in (registry.undo(first.prepare()) or "")
    assert registry.verify(first.prepare())
    assert not registry.verify(second.prepare())
    assert server.proxies()["p"].enabled is False
    assert registry.undo(second.prepare()) is None
    assert registry.verify(second.prepare())
    assert server.proxies()["p"].enabled is True
    assert holders(server.url, "p") == frozenset()
