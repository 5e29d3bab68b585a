"""The air gap: whatever form an address takes, nothing but the allowed origin is called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import AllCloudsDownError, HybridRouter, Message, ModelType, Request, SecurityError
from router.airgap import GuardedTransport, origin_of
from router.errors import SeawallError
from router.httpx_transport import HttpxTransport
from router.testing import Answering, ScriptedTransport, scripted_router, test_settings
from router.transport import Call, Timeouts

HOME = "http://localhost:11434"
TIMEOUTS = Timeouts(connect_s=1, first_byte_s=1, idle_s=1)

hosts = st.sampled_from(["localhost", "127.0.0.1", "[::1]", "ollama.internal", "api.openai.com", "gpu-1"])
schemes = st.sampled_from(["http", "https"])
ports = st.none() | st.sampled_from([80, 443, 11434, 8080])
paths = st.sampled_from(["", "/", "/api/chat", "/a?b=c", "/#x", "?q", "/http://localhost:11434/"])


def call_to(url: str) -> Call:
    """Return a call to `url`."""
    return Call(method="POST", url=url, headers=(), body=b"", timeouts=TIMEOUTS)


def _case(text: str, upper: list[bool]) -> str:
    return "".join(char.upper() if up else char for char, up in zip(text, upper + [False] * len(text), strict=False))


@given(
    scheme=schemes, host=hosts, port=ports, path=paths, upper=st.lists(st.booleans(), max_size=20), dot=st.booleans()
)
def test_every_spelling_of_an_origin_is_one(
    scheme: str, host: str, port: int | None, path: str, upper: list[bool], dot: bool
) -> None:
    """Case, a dot at the end, a port that is the scheme's own, path and query make no difference."""
    number = port if port is not None else {"http": 80, "https": 443}[scheme]
    expected = (scheme, host.strip("[]"), number)
    spelled = _case(f"{scheme}://{host}", upper) + ("." if dot and "[" not in host else "")
    spellings = [spelled + (f":{port}" if port is not None else "") + path, f"{spelled}:{number}{path}"]
    assert {origin_of(spelling) for spelling in spellings} == {expected}


@given(
    allowed=st.tuples(schemes, hosts, ports),
    asked=st.tuples(schemes, hosts, ports),
    user=st.sampled_from(["", "user@", "user:pw@", "localhost:11434@", "localhost@", ":@"]),
)
def test_only_the_same_origin_passes(
    allowed: tuple[str, str, int | None], asked: tuple[str, str, int | None], user: str
) -> None:
    """Another scheme, host or port is refused, whatever user name stands in front; the same one passes."""

    def url(parts: tuple[str, str, int | None], user: str = "") -> str:
        scheme, host, port = parts
        return f"{scheme}://{user}{host}{'' if port is None else f':{port}'}"

    def full(parts: tuple[str, str, int | None]) -> tuple[str, str, int]:
        return parts[0], parts[1], parts[2] or {"http": 80, "https": 443}[parts[0]]

    inner = _Counting()
    guard = GuardedTransport(inner, [url(allowed)])
    if full(allowed) == full(asked):
        guard.send(call_to(url(asked, user)))
        assert inner.sent == [url(asked, user)]
    else:
        with pytest.raises(SecurityError):
            guard.send(call_to(url(asked, user)))
        assert not inner.sent


@given(url=st.text(max_size=60) | st.text("htps:/\\.@[]#?%lochat1234567890 \t\n", max_size=40))
def test_any_text_is_an_origin_or_refused(url: str) -> None:
    """What is no address is refused with SecurityError, and nothing else is ever raised."""
    inner = _Counting()
    try:
        GuardedTransport(inner, [HOME]).send(call_to(url))
    except SecurityError:
        assert not inner.sent
    else:
        assert origin_of(url) == ("http", "localhost", 11434)


@given(
    url=st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["http://", "HTTP://", "http:\\\\", "http:/", " http://", "http://\t"]),
        st.sampled_from(["", "evil.example", "evil.example\\@", "a@", "a:b@", "localhost:11434@", "localhost:11434\\"]),
        st.sampled_from(
            ["localhost", "localhost.", "LOCALHOST", "localhost\u3002", "\u24db\u24deocalhost", "evil.example"]
        ),
        st.sampled_from(
            [":11434", ":11434/", ":11434@evil.example", ":011434", ":\u0661\u0661\u0664\u0663\u0664", ":0", ""]
        ),
    )
)
def test_guard_and_transport_read_an_address_alike(url: str) -> None:
    """No address that the guard lets through is understood as another host or port by httpx."""
    try:
        GuardedTransport(_Counting(), [HOME]).send(call_to(url))
    except SecurityError:
        return
    try:
        seen = httpx.URL(url)
    except httpx.InvalidURL:
        return
    assert (seen.scheme, seen.host.rstrip("."), seen.port) == ("http", "localhost", 11434)


@pytest.mark.parametrize(
    "url", ["http://[0:0:0:0:0:0:0:1]:80/", "http://[::1]", "http://[::0001]:80", "HTTP://[0::1]/x"]
)
def test_one_address_of_version_six_is_one(url: str) -> None:
    """The spellings of one IPv6 address are one host."""
    assert origin_of(url) == ("http", "::1", 80)


def test_port_zero_is_not_the_default_port() -> None:
    """`:0` is no way to say 80."""
    with pytest.raises(SecurityError):
        GuardedTransport(_Counting(), ["http://localhost"]).send(call_to("http://localhost:0/"))


@pytest.mark.parametrize(
    "url", ["http://[1:2]:80", "http://[::1]evil", "http://[::g]", "http://", "localhost", "http://:80"]
)
def test_host_that_is_none_is_refused(url: str) -> None:
    """Where no host can be read there is none that is allowed."""
    with pytest.raises(SecurityError):
        GuardedTransport(_Counting(), [HOME]).send(call_to(url))


async def test_redirect_out_of_the_house_is_not_followed(peer: Callable[..., AbstractAsyncContextManager[Any]]) -> None:
    """An Ollama that points to a cloud is an answer that makes no sense; nobody calls the cloud."""

    async def cloud(wire: Any) -> None:
        await wire.request()

    async with peer(cloud) as outside:

        async def local(wire: Any) -> None:
            await wire.request()
            location = outside.url.replace("127.0.0.1", "127.0.0.2").encode()
            await wire.send(b"HTTP/1.1 307 Go\r\nlocation: %b/\r\ncontent-length: 0\r\n\r\n" % location)

        async with peer(local) as home:
            settings = test_settings(airgap_mode=True, ollama_host=home.url)
            async with HybridRouter(settings, transport=HttpxTransport()) as router:
                with pytest.raises(AllCloudsDownError):
                    await router.route_request("hi")
        assert (home.connections, outside.connections) == (1, 0)


@given(
    model=st.sampled_from([*ModelType, "gpt-4o", "claude-haiku", "gemini-pro", "llama3", "llama3:8b"]) | st.none(),
    broken=st.booleans(),
    stream=st.booleans(),
)
def test_no_request_ever_leaves_the_house(model: str | None, broken: bool, stream: bool) -> None:
    """Whatever model is asked for, whether local answers or not: only the local provider is called."""

    async def check() -> None:
        script = ScriptedTransport({"local": [Answering(status=500 if broken else 200)]})
        router = scripted_router(script, settings=test_settings(airgap_mode=True))
        asked = {} if model is None else {"model": model}
        request = Request(messages=(Message(role="user", content="hi"),), **asked)
        try:
            if stream:
                [chunk async for chunk in router.stream(request)]
            else:
                await router.complete(request)
        except SeawallError:
            pass
        await router.health_check()
        assert {name for name, _ in script.calls} <= {ModelType.LOCAL}

    asyncio.run(check())


async def test_guard_closes_what_it_guards() -> None:
    """Closing the guard closes the transport inside."""
    inner = _Counting()
    await GuardedTransport(inner, [HOME]).aclose()
    assert inner.closed


class _Counting:
    """A transport that only notes what reaches it."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.closed = False

    def send(self, call: Call) -> Any:
        self.sent.append(call.url)

    async def aclose(self) -> None:
        self.closed = True
