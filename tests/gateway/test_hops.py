"""What callers and gateways in front say of a request in headers."""

from __future__ import annotations

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import AllCloudsDownError, HybridRouter, Message, ModelType, Request, RequestError
from router.httpx_transport import HttpxTransport
from router.testing import Answering, ScriptedTransport, scripted_router, test_settings
from seawall.gateway.app import create_app
from seawall.gateway.config import GatewaySettings
from seawall.gateway.hops import heeded

REQUEST = Request(messages=(Message(role="user", content="hi"),))


@pytest.mark.parametrize(("text", "seconds"), [(b"2.5", 2.5), (b"300ms", 0.3), (b"2m", 120.0)])
def test_timeout_is_the_callers_patience(text: bytes, seconds: float) -> None:
    """Seconds, or a number with a unit."""
    assert heeded(REQUEST, {b"x-seawall-timeout": text}).timeout_s == seconds


@pytest.mark.parametrize("text", [b"", b"0", b"-1", b"soon", b"inf", b"\xff"])
def test_timeout_that_is_none_is_a_client_error(text: bytes) -> None:
    """Who asks for a bound that is none is told so, and gets no other one."""
    with pytest.raises(RequestError, match="X-Seawall-Timeout"):
        heeded(REQUEST, {b"x-seawall-timeout": text})


@pytest.mark.parametrize(("text", "attempts"), [(b"3", 3), (b"0", 0), (b"many", 0), (b"-1", 0), (b"99999", 0)])
def test_attempts_of_gateways_in_front_are_counted(text: bytes, attempts: int) -> None:
    """A number is taken, anything else is as if nothing were said."""
    assert heeded(REQUEST, {b"x-seawall-attempts": text}).attempts == attempts


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_any_header_is_taken_or_refused(timeout: bytes, attempts: bytes) -> None:
    """No bytes lead to anything but a request or a RequestError."""
    try:
        request = heeded(REQUEST, {b"x-seawall-timeout": timeout, b"x-seawall-attempts": attempts})
    except RequestError:
        return
    assert request.timeout_s is not None
    assert request.timeout_s > 0


def test_nothing_said_is_nothing_done() -> None:
    """Without the headers the request is the same object."""
    assert heeded(REQUEST, {}) is REQUEST


async def test_two_layers_of_gateways_do_not_multiply() -> None:
    """Everything behind the inner gateway is dead: both layers together make no more attempts than one may."""
    dead = ScriptedTransport({name: [Answering(status=500)] for name in ModelType})
    inner = create_app(lambda: scripted_router(dead, settings=test_settings(attempts_max=5)), GatewaySettings())
    settings = test_settings(
        attempts_max=5,
        airgap_mode=False,
        gemini_api_key="",
        anthropic_api_key="",
        deployments={"openai": [{"name": f"inner-{n}", "base_url": "http://inner"} for n in range(5)]},
    )
    transport = HttpxTransport(httpx.ASGITransport(inner, raise_app_exceptions=False))
    async with HybridRouter(settings, transport=transport) as outer:
        with pytest.raises(AllCloudsDownError) as caught:
            await outer.complete(msgspec.structs.replace(REQUEST, model="gpt-4o"))
    assert len(dead.calls) == 4  # what one layer makes; a second request would have met open accounts
    assert caught.value.calls == 5
