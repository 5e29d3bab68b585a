"""
Helpers for tests of code that uses the router: a clock that is moved by hand, scripted providers, captured events.

    script = ScriptedTransport({"gemini": [Answering(status=503)], "claude": [Answering(text="hello")]})
    router = scripted_router(script)

Nothing here opens a socket or waits: see docs/testing.md.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import msgspec

from router.data import data_file
from router.errors import FirstByteTimeout, TransportError
from router.events import Event
from router.hybrid import HybridRouter
from router.models import ModelType
from router.settings import Secret, Settings
from router.transport import Answer, Call

__all__ = ["Answering", "CapturedEvents", "FakeClock", "ScriptedTransport", "scripted_router", "test_settings"]

_HOSTS = {ModelType.GEMINI: 1, ModelType.CLAUDE: 2, ModelType.OPENAI: 3, ModelType.LOCAL: 4}


class FakeClock:
    """Seconds that pass only when `advance` is called."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


class CapturedEvents(list[Event]):
    """A sink that keeps every event: pass it as `sink`."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the events of one kind, in order."""
        return [event for event in self if isinstance(event, kind)]


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """
    One scripted answer. `text` is given in the vendor's own format, JSON or stream as it was asked for.

    `cut_after` breaks a stream after so many pieces of the text with `error`; with `text` None, `error` is raised at
    once. `body` replaces the vendor's format by these bytes. `delay_s` passes first: on the transport's clock, where it
    has one, and otherwise in real time. One longer than the router's first-byte timeout ends in that timeout.
    """

    status: int = 200
    text: str | None = "ok"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    content_type: str | None = None
    error: TransportError | None = None
    cut_after: int | None = None
    delay_s: float = 0.0


class ScriptedTransport:
    """
    A `Transport` that plays a script a provider: the n-th call gets the n-th answer, and the last one for ever.

    A key such as `openai/2` is what listens at port 2 of OpenAI's address in `test_settings`, for deployments. With a
    `clock`, delays make it advance and take no real time: give the router the same. `calls` keeps (provider, call) in
    the order of sending; `open_calls` counts those not yet left.
    """

    def __init__(self, script: Mapping[str, Sequence[Answering]], *, clock: FakeClock | None = None) -> None:
        unknown = {name.partition("/")[0] for name in script} - set(ModelType)
        if unknown:
            raise ValueError(f"no provider is called {sorted(unknown)}; known are {', '.join(ModelType)}")
        self._script = {name: list(answers) for name, answers in script.items()}
        self._clock = clock
        self._played: Counter[str] = Counter()
        self.calls: list[tuple[ModelType, Call]] = []
        self.open_calls = 0

    def calls_to(self, provider: str) -> list[Call]:
        """Return the calls that a provider got, or a part of it (`openai/2`)."""
        return [call for name, call in self.calls if provider in (name, f"{name}/{urlsplit(call.url).port}")]

    async def aclose(self) -> None:
        """See `router.transport.Transport`."""

    async def _wait(self, delay_s: float, patience_s: float) -> None:
        if self._clock is None:
            await asyncio.sleep(min(delay_s, patience_s))
        else:
            await asyncio.sleep(0)
            self._clock.advance(min(delay_s, patience_s))
        if delay_s > patience_s:
            raise FirstByteTimeout(f"no byte came within {patience_s:g} s")

    @asynccontextmanager
    async def send(self, call: Call) -> AsyncGenerator[Answer]:
        """See `router.transport.Transport`."""
        provider = next(name for name, host in _HOSTS.items() if f"127.0.0.{host}:" in call.url)
        self.calls.append((provider, call))
        exact = f"{provider}/{urlsplit(call.url).port}"
        name = exact if exact in self._script else str(provider)
        answers = self._script.get(name, [Answering()])
        answer = answers[min(self._played[name], len(answers) - 1)]
        self._played[name] += 1
        self.open_calls += 1
        try:
            await self._wait(answer.delay_s, call.timeouts.first_byte_s)
            if answer.error is not None and answer.text is None:
                raise answer.error
            yield _ScriptedAnswer(provider, call, answer)
        finally:
            self.open_calls -= 1


def test_settings(**values: object) -> Settings:
    """Return settings with keys for every provider and addresses that `ScriptedTransport` knows."""
    base: dict[str, object] = {
        "gemini_api_key": Secret("gemini-key"),
        "anthropic_api_key": Secret("claude-key"),
        "openai_api_key": Secret("openai-key"),
        "gemini_base_url": "http://127.0.0.1:1",
        "anthropic_base_url": "http://127.0.0.2:1",
        "openai_base_url": "http://127.0.0.3:1",
        "ollama_host": "http://127.0.0.4:1",
    }
    return Settings.from_mapping(base | values)


test_settings.__test__ = False  # type: ignore[attr-defined]  # pytest must not collect it where it is imported


def scripted_router(
    transport: ScriptedTransport,
    *,
    settings: Settings | None = None,
    clock: FakeClock | None = None,
    wall: FakeClock | None = None,
    sink: CapturedEvents | None = None,
    draw: Callable[[], float] = lambda: 0.0,
) -> HybridRouter:
    """
    Return a router on `transport`, with a clock that stands still, no jitter and ids that count from 1.

    `settings` are those of `test_settings`, `wall` is the calendar's clock (Retry-After dates, the day of the budget),
    `sink` keeps what the router reports; `draw` replaces the random source, whose 0 means no jitter.
    """
    numbers = itertools.count(1)
    return HybridRouter(
        settings or test_settings(),
        transport=transport,
        clock=clock or FakeClock(),
        wall=wall or FakeClock(1_700_000_000.0),
        draw=draw,
        new_id=lambda: f"id{next(numbers)}",
        sink=sink if sink is not None else CapturedEvents(),
    )


class _Format(msgspec.Struct, frozen=True):
    """How one vendor says a text: `$text` and `$tokens` stand for what is said."""

    whole: msgspec.Raw
    piece: msgspec.Raw
    last: list[msgspec.Raw]
    """The events that end a stream."""
    done: str = ""
    """What follows them, where the vendor has such a word."""


@cache
def _formats() -> dict[ModelType, _Format]:
    return data_file("scripted", dict[ModelType, _Format])


class _ScriptedAnswer:
    def __init__(self, provider: ModelType, call: Call, answer: Answering) -> None:
        stream = _is_stream(provider, call)
        stream_type = "application/x-ndjson" if provider is ModelType.LOCAL else "text/event-stream"
        kind = answer.content_type or (stream_type if stream and answer.status == 200 else "application/json")
        self.status = answer.status
        self.headers: Mapping[str, tuple[str, ...]] = {"content-type": (kind,)} | {
            name: (value,) for name, value in answer.headers
        }
        self.body = self._chunks(provider, stream, answer)

    @staticmethod
    async def _chunks(provider: ModelType, stream: bool, answer: Answering) -> AsyncIterator[bytes]:
        form, text = _formats()[provider], answer.text or ""
        words = re.findall(r"[^ ]* |[^ ]+$", text) or [""]
        if answer.body is not None:
            yield answer.body
        elif answer.status != 200:
            yield msgspec.json.encode({"error": {"message": "scripted", "type": "scripted"}})
        elif not stream:
            yield _filled(form.whole, text, len(words))
        else:
            for word in words[: answer.cut_after]:
                yield _event(provider, _filled(form.piece, word))
                await asyncio.sleep(0)
            if answer.cut_after is None:
                for each in form.last:
                    yield _event(provider, _filled(each, tokens=len(words)))
                if form.done:
                    yield _event(provider, form.done.encode())
            elif answer.error is not None:
                raise answer.error


def _is_stream(provider: ModelType, call: Call) -> bool:
    if provider is ModelType.GEMINI:
        return "streamGenerateContent" in call.url
    return bool(call.body) and bool(msgspec.json.decode(call.body).get("stream"))


def _event(provider: ModelType, data: bytes) -> bytes:
    return data + b"\n" if provider is ModelType.LOCAL else b"data: " + data + b"\n\n"


def _filled(form: msgspec.Raw, text: str = "", tokens: int = 0) -> bytes:
    said = bytes(form).replace(b'"$tokens"', str(tokens).encode())
    return said.replace(b'"$text"', msgspec.json.encode(text))
