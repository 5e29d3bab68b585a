"""The admin port and its client."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest

from seawall.emulators.client import EmulatorClient, EmulatorError
from seawall.emulators.config import Config
from seawall.emulators.server import EmulatorServer
from seawall.emulators.steps import Behaviour, Healthy

TOKEN = "a-secret-word"
ONE = Behaviour(fault_id="one", status=503, retry_after_s=1.5, injection_rate=0.25)
TWO = Behaviour(fault_id="two", hang=True)


@pytest.fixture
async def server() -> AsyncIterator[EmulatorServer]:
    """A running server with two providers."""
    one = EmulatorServer(Config(providers={"gemini": Healthy(), "claude": Healthy()}), TOKEN)
    await one.start()
    yield one
    await one.stop()


def client_of(server: EmulatorServer, token: str = TOKEN) -> EmulatorClient:
    """Return a client of the server's admin port."""
    return EmulatorClient(f"http://127.0.0.1:{server.admin_port}", token)


@contextmanager
def peer(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve one connection with `serve` and give its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with listener.accept()[0] as wire:
                serve(wire)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(5)


async def test_behaviours_are_installed_and_taken_out(server: EmulatorServer):
    """What is put is in force, in order, there only; the same id replaces in place; deleting twice is fine."""
    client = client_of(server)
    other = Behaviour(fault_id="one", first_token_s=2)

    def session() -> None:
        client.ping()
        for behaviour in (ONE, TWO, TWO):
            client.put_behaviour("gemini", behaviour)
        assert client.behaviours("gemini") == [ONE, TWO]
        client.put_behaviour("gemini", other)
        assert client.behaviours("gemini") == [other, TWO]
        assert client.behaviours("claude") == []
        for _ in range(2):
            client.delete_behaviour("gemini", "one")
        assert client.behaviours("gemini") == [TWO]

    await asyncio.to_thread(session)


async def test_the_token_is_needed_and_never_told(server: EmulatorServer):
    """A wrong token changes nothing and is refused; neither token shows up in the error or the representation."""
    wrong = client_of(server, "wrong-word")
    for call in (wrong.ping, lambda: wrong.put_behaviour("gemini", ONE), lambda: wrong.delete_behaviour("gemini", "x")):
        with pytest.raises(EmulatorError, match="401") as caught:
            await asyncio.to_thread(call)
        assert "-word" not in f"{caught.value!r} {wrong!r}"
    assert await asyncio.to_thread(client_of(server).behaviours, "gemini") == []
    assert TOKEN not in repr(client_of(server))


@pytest.mark.parametrize(
    ("behaviour", "word"),
    [
        (Behaviour(fault_id="f", status=200), "status"),
        (Behaviour(fault_id="f", injection_rate=1.1), "injection_rate"),
        (Behaviour(fault_id="f", first_token_s=-1), "first_token_s"),
        (Behaviour(fault_id="f", cut_after_chunks=-1), "cut_after_chunks"),
        (Behaviour(fault_id="f", dribble_s=-0.1), "dribble_s"),
        (Behaviour(fault_id="f", content_type="text/plain\r\nx-more: 1"), "content_type"),
        (Behaviour(fault_id="f", content_type=""), "content_type"),
    ],
)
async def test_impossible_behaviours_are_refused(server: EmulatorServer, behaviour: Behaviour, word: str):
    """A value out of range is refused with a message that names it."""
    with pytest.raises(EmulatorError, match=f"400: {word}"):
        await asyncio.to_thread(client_of(server).put_behaviour, "gemini", behaviour)


async def test_an_unknown_provider_is_an_error(server: EmulatorServer):
    """A provider that this process does not serve is an error for every call but deleting."""
    client = client_of(server)
    with pytest.raises(EmulatorError, match="no provider 'openai'"):
        await asyncio.to_thread(client.put_behaviour, "openai", ONE)
    with pytest.raises(EmulatorError, match="no provider 'openai'"):
        await asyncio.to_thread(client.behaviours, "openai")
    await asyncio.to_thread(client.delete_behaviour, "openai", "one")


async def test_odd_ids_stay_in_their_path(server: EmulatorServer):
    """A fault id with spaces, question marks or letters beyond ASCII names one behaviour and no other path."""
    client = client_of(server)
    odd = Behaviour(fault_id="a ?b#ü%2F", status=500)
    await asyncio.to_thread(client.put_behaviour, "gemini", odd)
    assert await asyncio.to_thread(client.behaviours, "gemini") == [odd]
    await asyncio.to_thread(client.delete_behaviour, "gemini", odd.fault_id)
    assert await asyncio.to_thread(client.behaviours, "gemini") == []


def test_nobody_there_is_an_error():
    """A port where nobody listens is an EmulatorError that says where."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(EmulatorError, match=f"127.0.0.1:{port}.*refused"):
        EmulatorClient(f"http://127.0.0.1:{port}", TOKEN).ping()


def test_a_trickle_does_not_outlast_the_deadline():
    """The deadline is for the whole call: an answer that comes byte by byte does not stretch it."""

    def trickle(wire: socket.socket) -> None:
        try:
            for _ in range(40):
                wire.sendall(b"x")
                time.sleep(0.05)
        except OSError:
            pass

    with peer(trickle) as url:
        began = time.monotonic()
        with pytest.raises(EmulatorError, match=r"within 0\.3 s"):
            EmulatorClient(url, TOKEN, deadline_s=0.3).ping()
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("answer", [b"", b"hello", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"])
def test_half_an_answer_is_an_error(answer: bytes):
    """An answer that ends early, or is no HTTP, is never taken for success."""

    def serve(wire: socket.socket) -> None:
        wire.recv(65_536)
        wire.sendall(answer)

    with peer(serve) as url, pytest.raises(EmulatorError, match="incomplete"):
        EmulatorClient(url, TOKEN).ping()


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1"])
def test_only_plain_urls_are_taken(url: str):
    """Anything but http://host:port is refused before a call."""
    with pytest.raises(ValueError, match="http://host:port"):
        EmulatorClient(url, TOKEN)


def test_the_client_does_not_load_the_server():
    """Importing the client loads neither the server's code nor an event loop."""
    code = (
        "import sys, seawall.emulators.client\n"
        "heavy = {'asyncio', 'uvloop', 'httptools', 'httpx', 'seawall.emulators.server', 'seawall.emulators.wire'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
