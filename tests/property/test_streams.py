"""Streams as vendors send them, cut at every byte: what comes out does not depend on where packets end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext

import pytest

from router.adapters import Adapter, ClaudeAdapter, GeminiAdapter, OllamaAdapter, OpenAIAdapter, Piece, Prompt, converse
from router.errors import ProviderError, TruncatedBody
from router.models import Message
from router.settings import Secret
from router.transport import Answer, Call, Timeouts
from seawall.emulators.behaviour import EmulatedCall, respond
from seawall.emulators.steps import Body, Head, Healthy

ADAPTERS: dict[str, type[Adapter]] = {
    "gemini": GeminiAdapter,
    "claude": ClaudeAdapter,
    "openai": OpenAIAdapter,
    "local": OllamaAdapter,
}
TIMEOUTS = Timeouts(connect_s=1.0, first_byte_s=1.0, idle_s=1.0)
PROMPT = Prompt(model="m", max_tokens=64, stream=True, messages=(Message(role="user", content="[sw:000001] hello"),))


class Parts:
    """A transport that answers every call with the same bytes, in these parts, and ends in order or with an error."""

    def __init__(self, headers: Mapping[str, tuple[str, ...]], parts: list[bytes], error: Exception | None = None):
        self.status = 200
        self.headers = headers
        self.body = self._body(parts, error)

    def send(self, _call: Call) -> AbstractAsyncContextManager[Answer]:
        return nullcontext(self)

    async def aclose(self) -> None:
        pass

    async def _body(self, parts: list[bytes], error: Exception | None) -> AsyncIterator[bytes]:
        for part in parts:
            yield part
        if error is not None:
            raise error


def stream_of(provider: str) -> tuple[dict[str, tuple[str, ...]], bytes]:
    """Return headers and body of a healthy stream of two tokens."""
    call = EmulatedCall(provider=provider, model="m", stream=True, request_id="000001", prompt="hello", max_tokens=64)
    healthy = Healthy(first_token_p50_s=0.01, first_token_p99_s=0.02, tokens_per_second=100.0, tokens=2)
    headers: dict[str, tuple[str, ...]] = {}
    body = b""
    for step in respond(call, healthy, [], 1, 1):
        if isinstance(step, Head):
            headers = {name.lower(): (value,) for name, value in step.headers}
        elif isinstance(step, Body):
            body += step.data
    return headers, body


def read(provider: str, parts: list[bytes], error: Exception | None = None) -> tuple[str, bool]:
    """Return the text of the answer, and whether it ended as a whole one does."""

    async def run() -> tuple[str, bool]:
        adapter, text = ADAPTERS[provider]("http://provider", Secret("k")), ""
        transport = Parts(stream_of(provider)[0], parts, error)

        async def take(piece: Piece) -> None:
            nonlocal text
            text += piece.text

        try:
            await converse(adapter, transport, PROMPT, TIMEOUTS, take, answer_bytes_max=1_000_000)
        except ProviderError:
            return text, False
        return text, True

    return asyncio.run(run())


@pytest.mark.parametrize("provider", ADAPTERS)
def test_where_packets_end_does_not_matter(provider: str) -> None:
    """Two packets, cut at every byte in turn, and one packet a byte: the same text, and a whole answer."""
    _, body = stream_of(provider)
    whole = read(provider, [body])
    assert whole[1]
    assert len(whole[0].split()) == 2
    for cut in range(1, len(body)):
        assert read(provider, [body[:cut], body[cut:]]) == whole, cut
    assert read(provider, [bytes([byte]) for byte in body]) == whole


@pytest.mark.parametrize("provider", ADAPTERS)
@pytest.mark.parametrize("error", [None, TruncatedBody("cut")], ids=["in order", "cut"])
def test_a_stream_that_ends_early_is_never_whole(provider: str, error: Exception | None) -> None:
    """Ended after any of its bytes, in order or not, the text is a beginning, whole only when all has come."""
    _, body = stream_of(provider)
    text, _ = read(provider, [body])
    for end in range(len(body)):
        part, is_whole = read(provider, [body[:end]], error)
        assert text.startswith(part), end
        assert not is_whole or part == text, end
