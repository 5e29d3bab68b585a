"""
What every provider's adapter has in common.

An adapter is sans-I/O: it turns a `Prompt` into a `Call`, and bytes of an answer into `Piece`s. `converse` owns the one
exchange on the wire: it checks status and content type, splits the stream, and makes sure that an answer is only ever
reported whole when its vendor's own end marker has come.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Literal, Protocol, TypeVar, cast

import msgspec

from router.errors import (
    AuthenticationFailed,
    InvalidAnswer,
    ModelNotFound,
    ProviderError,
    ProviderOverloaded,
    RateLimited,
    RequestError,
    TransportError,
    TruncatedBody,
)
from router.models import Message, ModelType, StopReason, Usage
from router.settings import Secret
from router.sse import LineSplitter, SseSplitter
from router.transport import Answer, Call, Timeouts, Transport

__all__ = [
    "CONTINUE_INSTRUCTION",
    "Adapter",
    "LLMProvider",
    "Piece",
    "Prompt",
    "converse",
    "counted",
    "decoded",
    "named",
    "turns",
]

CONTINUE_INSTRUCTION = (
    "Your answer was cut off. Go on with it exactly where it stops, from the very next character, "
    "without repeating anything and without any remark."
)
_T = TypeVar("_T")
_ERROR_BYTES_MAX = 64 * 1024
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """What one provider is asked. `so_far` is the text that was already delivered and is to be continued."""

    messages: tuple[Message, ...]
    model: str
    max_tokens: int
    stream: bool
    so_far: str = ""
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """
    A part of an answer. `stop_reason` is set when the provider has said that the text is complete.

    Text is passed on as it comes, also when a provider sends it twice: no vendor numbers its events, and a model that
    repeats itself sends equal bytes, so a repetition by mistake cannot be told from one that is meant.
    """

    text: str = ""
    stop_reason: StopReason | None = None
    usage: Usage | None = None
    model: str | None = None
    """
    The model that the provider names as the writer, where it does; often not by the name that was asked for.

    An answer by another model is taken: vendors answer for `gpt-4o` as `gpt-4o-2024-08-06`, so names cannot be
    compared, and a whole answer that is paid for is worth more than a second one. The caller is told this name, and the
    attempt keeps the one that was asked for: a model that was swapped shows. It is paid at the price asked for.
    """


class LLMProvider(Protocol):
    """Anything that answers a prompt piece by piece."""

    model_type: ModelType

    def chat(self, prompt: Prompt, timeouts: Timeouts) -> AsyncIterator[Piece]:
        """Yield the answer; raise ProviderError or RequestError. The last pieces carry stop reason and usage."""
        ...


class Adapter(ABC):
    """A provider's wire format, bound to its address and key."""

    model_type: ClassVar[ModelType]
    stream_format: ClassVar[Literal["sse", "lines"]] = "sse"
    stream_type: ClassVar[str] = "text/event-stream"

    def __init__(self, base_url: str, api_key: Secret) -> None:
        self._base_url = base_url
        self._api_key = api_key

    @abstractmethod
    def target(self, prompt: Prompt) -> tuple[str, Any]:
        """Return the path, with its query, and the body as JSON data."""

    @abstractmethod
    def auth_headers(self) -> tuple[tuple[str, str], ...]:
        """Return the headers that carry the key."""

    @abstractmethod
    def health_path(self) -> str:
        """Return a path that answers a GET with 200 when address and key are right, and costs nothing."""

    @abstractmethod
    def parse(self, body: bytes) -> Piece:
        """Return the whole answer of a JSON exchange. Raises InvalidAnswer."""

    @abstractmethod
    def parse_event(self, name: bytes | None, data: bytes) -> Piece | None:
        """Return what one event of a stream carries, None for nothing. Raises ProviderError for an error event."""

    def call(self, prompt: Prompt, timeouts: Timeouts) -> Call:
        """Return the call that asks `prompt`."""
        path, body = self.target(prompt)
        accept = self.stream_type if prompt.stream else "application/json"
        headers = (("content-type", "application/json"), ("accept", accept), *self._common_headers())
        return Call(
            method="POST",
            url=self._base_url + path,
            headers=headers,
            body=msgspec.json.encode(body),
            timeouts=timeouts,
        )

    def health_call(self, timeouts: Timeouts) -> Call:
        """Return the call that finds out whether the provider can be reached."""
        url = self._base_url + self.health_path()
        return Call(method="GET", url=url, headers=self._common_headers(), body=b"", timeouts=timeouts)

    def _common_headers(self) -> tuple[tuple[str, str], ...]:
        # Without identity a provider may compress, and a compressed stream hides where it was cut.
        return (("accept-encoding", "identity"), ("user-agent", "seawall"), *self.auth_headers())


def turns(prompt: Prompt) -> Iterable[Message]:
    """
    Yield the conversation, and after a cut stream the text so far with the request to go on.

    Legal for every vendor: the last turn is the user's (Anthropic refuses a last one of the assistant's that ends in a
    space), none is blank (so do Anthropic and Gemini), and a text that the caller had begun for the assistant stays one
    turn with what was added to it. Of blank text alone there is nothing to go on from: the answer begins anew after it.
    """
    messages = list(prompt.messages)
    if prompt.so_far.strip():
        begun = messages.pop().content if messages and messages[-1].role == "assistant" else ""
        messages.append(Message(role="assistant", content=begun + prompt.so_far))
        messages.append(Message(role="user", content=CONTINUE_INSTRUCTION))
    yield from messages


def decoded(data: bytes, kind: type[_T], words: str) -> _T:
    """Return `data` as `kind`. Raises InvalidAnswer that names `words` and not the data."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidAnswer(f"{words} cannot be read: {error}") from None


def counted(value: object) -> int:
    """Return a number of tokens as a provider tells it; 0, which stands for "not told", for all that can be none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def named(value: object) -> str | None:
    """Return the model that a provider names, None for what is no name: it goes into headers and reports."""
    return value if isinstance(value, str) and _MODEL_NAME.fullmatch(value) else None


async def converse(
    adapter: Adapter,
    transport: Transport,
    prompt: Prompt,
    timeouts: Timeouts,
    *,
    answer_bytes_max: int,
    wall_s: Callable[[], float] = time.time,
) -> AsyncGenerator[Piece]:
    """
    Yield the pieces of one answer. Raises ProviderError or RequestError; never ends before the answer did.

    A connection that breaks after the provider has said that its text is complete loses nothing, and is no error.
    """
    async with transport.send(adapter.call(prompt, timeouts)) as answer:
        if answer.status != 200:
            raise error_of(adapter.model_type, answer.status, answer.headers, await _head_of(answer), wall_s)
        _check_type(answer, adapter.stream_type if prompt.stream else "application/json")
        if not prompt.stream:
            piece = adapter.parse(await _whole(answer, answer_bytes_max))
            if not (piece.text or prompt.so_far) and piece.stop_reason == "stop":
                raise InvalidAnswer("the answer has no text")
            yield piece
            return
        finished, has_text = False, bool(prompt.so_far.strip())
        try:
            async with aclosing(_events(adapter, answer, answer_bytes_max)) as pieces:
                async for piece in pieces:
                    finished = finished or piece.stop_reason is not None
                    has_text = has_text or bool(piece.text) or piece.stop_reason not in (None, "stop")
                    yield piece
        except TransportError:
            if not finished:
                raise
        if not finished:
            raise TruncatedBody("the stream ended without its end marker")
        if not has_text:
            raise InvalidAnswer("the stream has no text")


def error_of(
    provider: ModelType,
    status: int,
    headers: Mapping[str, tuple[str, ...]],
    body: bytes,
    wall_s: Callable[[], float] = time.time,
) -> ProviderError | RequestError:
    """Return the error that an HTTP status means. The vendor's own words are bounded and kept short."""
    words = f"{provider} answered {status}"
    detail = _vendor_message(body)
    if detail:
        words = f"{words}: {detail}"
    if status in (401, 403) or (status == 400 and provider is ModelType.GEMINI and _blames_key(body)):
        return AuthenticationFailed(f"{provider} refuses our key ({status})", upstream_status=status)
    if status == 404:
        return ModelNotFound(words, upstream_status=status)
    if status in (400, 413, 422):
        return RequestError(words, status=status)
    pause_s = retry_after_s(headers.get("retry-after", ()), wall_s)
    if status == 429:
        return RateLimited(words, upstream_status=status, retry_after_s=pause_s)
    if status == 408 or status >= 500:
        return ProviderOverloaded(words, upstream_status=status, retry_after_s=pause_s)
    return InvalidAnswer(words, upstream_status=status)


def retry_after_s(values: tuple[str, ...], wall_s: Callable[[], float] = time.time) -> float | None:
    """Return the pause, in seconds, that a Retry-After header asks for (seconds or an HTTP date), else None."""
    for value in values:
        text = value.strip()
        try:
            seconds = float(text)
        except ValueError:
            pass
        else:
            return seconds if 0 <= seconds < float("inf") else None
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            continue
        if moment.tzinfo is None:  # "-0000": UTC by RFC 5322, not this machine's zone
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - wall_s())
    return None


async def _events(adapter: Adapter, answer: Answer, bytes_max: int) -> AsyncGenerator[Piece]:
    sse, lines, size = SseSplitter(), LineSplitter(), 0
    async for chunk in answer.body:
        size += len(chunk)
        if size > bytes_max:
            raise InvalidAnswer(f"the stream is longer than {bytes_max} bytes")
        if adapter.stream_format == "sse":
            events = sse.feed(chunk)
        else:
            events = [(None, line) for line in lines.feed(chunk) if line.strip()]
        for name, data in events:
            piece = adapter.parse_event(name, data)
            if piece is not None:
                yield piece
    rest = lines.rest().strip()
    if rest:
        # A last line without its line end is a whole one, or a half one that nobody can parse.
        try:
            piece = adapter.parse_event(None, rest)
        except InvalidAnswer:
            raise TruncatedBody("the stream ended in the middle of a line") from None
        if piece is not None:
            yield piece


async def _whole(answer: Answer, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in answer.body:
        size += len(chunk)
        if size > bytes_max:
            raise InvalidAnswer(f"the answer is longer than {bytes_max} bytes")
        parts.append(chunk)
    return b"".join(parts)


async def _head_of(answer: Answer) -> bytes:
    """Return the beginning of an error body; how the body ends does not matter."""
    parts: list[bytes] = []
    try:
        async for chunk in answer.body:
            parts.append(chunk)
            if sum(map(len, parts)) > _ERROR_BYTES_MAX:
                break
    except ProviderError:
        pass
    return b"".join(parts)[:_ERROR_BYTES_MAX]


def _check_type(answer: Answer, wanted: str) -> None:
    encoding = (answer.headers.get("content-encoding") or ("identity",))[0]
    if encoding not in ("", "identity"):
        raise InvalidAnswer(f"the answer is encoded as {encoding!r}, which was not asked for")
    found = (answer.headers.get("content-type") or ("",))[0].partition(";")[0].strip().lower()
    if found != wanted:
        raise InvalidAnswer(f"the answer is {found or 'of no type'!r}, not {wanted!r}")


class _Detail(msgspec.Struct, frozen=True):
    reason: str = ""


class _Explained(msgspec.Struct, frozen=True):
    details: list[_Detail]


class _Refusal(msgspec.Struct, frozen=True):
    error: _Explained


def _blames_key(body: bytes) -> bool:
    """Whether Google's error names a wrong key: it answers 400 to one, as to a bad request."""
    try:
        details = msgspec.json.decode(body, type=_Refusal).error.details
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return any(detail.reason == "API_KEY_INVALID" for detail in details)


def _vendor_message(body: bytes) -> str:
    """Return the vendor's error message in at most 200 characters, or nothing."""
    try:
        data = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    error: object = cast("dict[str, object]", data).get("error") if isinstance(data, dict) else None
    message: object = cast("dict[str, object]", error).get("message") if isinstance(error, dict) else error
    return message[:200] if isinstance(message, str) else ""
