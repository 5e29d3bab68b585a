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
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import msgspec

from router.adapters.calls import SAYING, CallNumbers
from router.adapters.failures import calls_told, error_of
from router.capabilities import left_out
from router.errors import InvalidAnswer, ProviderError, TransportError, TruncatedBody
from router.models import Asked, Message, ModelType, StopReason, ToolCallDelta, Usage
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
    "given",
    "named",
    "spoken",
    "turns",
]

CONTINUE_INSTRUCTION = (
    "Your answer was cut off. Go on with it exactly where it stops, from the very next character, "
    "without repeating anything and without any remark."
)
_T = TypeVar("_T")
_encode = msgspec.json.Encoder().encode
_ERROR_BYTES_MAX = 64 * 1024
_IDENTITY = ("identity", "")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")


class Prompt(Asked, frozen=True, kw_only=True):
    """What one provider is asked. `so_far` is the text that was already delivered and is to be continued."""

    model: str
    max_tokens: int
    stream: bool
    so_far: str = ""


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """
    A part of an answer. `stop_reason` is set when the provider has said that the text is complete.

    Text is passed on as it comes, also when a provider sends it twice: no vendor numbers its events, and a model that
    repeats itself sends equal bytes, so a repetition by mistake cannot be told from one that is meant.
    """

    text: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    refusal: str = ""
    stop_reason: StopReason | None = None
    usage: Usage | None = None
    model: str | None = None
    """
    The model that the provider names as the writer, where it does; often not by the name that was asked for.

    An answer by another model is taken: vendors answer for `gpt-4o` as `gpt-4o-2024-08-06`, so names cannot be
    compared, and a whole answer that is paid for is worth more than a second one. The caller is told this name, and the
    attempt keeps the one that was asked for: a model that was swapped shows. It is paid at the price asked for.
    """

    @property
    def size(self) -> int:
        """How many bytes of answer it carries, in whatever form."""
        if self.text and not self.tool_calls and not self.refusal and self.text.isascii():
            return len(self.text)
        size = len(self.text.encode()) + len(self.refusal.encode())
        return size + sum(len(call.arguments.encode()) for call in self.tool_calls)

    @property
    def says_something(self) -> bool:
        """Whether there is anything of an answer in it."""
        return bool(self.text or self.refusal or self.tool_calls)


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
    auth: ClassVar[tuple[tuple[str, str], ...]] = ()
    """The headers that carry the key, which is put in the place of `{key}`."""
    health_path: ClassVar[str]
    """What answers a GET with 200 when address and key are right, and costs nothing."""

    def __init__(self, base_url: str, api_key: Secret) -> None:
        self._base_url = base_url
        key = api_key.reveal()
        # Without identity a provider may compress, and a compressed stream hides where it was cut.
        self._headers = (
            ("accept-encoding", "identity"),
            ("user-agent", "seawall"),
            *((name, value.replace("{key}", key)) for name, value in self.auth),
        )
        asking = (("content-type", "application/json"), *self._headers)
        self._json_headers = (*asking, ("accept", "application/json"))
        self._stream_headers = (*asking, ("accept", self.stream_type))

    @abstractmethod
    def target(self, prompt: Prompt) -> tuple[str, Any]:
        """Return the path, with its query, and the body as JSON data."""

    @abstractmethod
    def parse(self, body: bytes) -> Piece:
        """Return the whole answer of a JSON exchange. Raises InvalidAnswer."""

    @abstractmethod
    def parse_event(self, name: bytes | None, data: bytes) -> Piece | None:
        """Return what one event of a stream carries, None for nothing. Raises ProviderError for an error event."""

    def call(self, prompt: Prompt, timeouts: Timeouts, told: tuple[tuple[str, str], ...] = ()) -> Call:
        """Return the call that asks `prompt`, with the headers `told` beside our own."""
        if left := left_out(self.model_type, prompt.model, prompt):
            prompt = msgspec.structs.replace(prompt, **dict.fromkeys(left))
        path, body = self.target(prompt)
        headers = (self._stream_headers if prompt.stream else self._json_headers) + told
        return Call(method="POST", url=self._base_url + path, headers=headers, body=_encode(body), timeouts=timeouts)

    def health_call(self, timeouts: Timeouts) -> Call:
        """Return the call that finds out whether the provider can be reached."""
        url = self._base_url + self.health_path
        return Call(method="GET", url=url, headers=self._headers, body=b"", timeouts=timeouts)


def turns(prompt: Prompt) -> Sequence[Message]:
    """
    Return the conversation, and after a cut stream the text so far with the request to go on.

    Legal for every vendor: the last turn is the user's (Anthropic refuses a last one of the assistant's that ends in a
    space), none is blank (so do Anthropic and Gemini), and a text that the caller had begun for the assistant stays one
    turn with what was added to it. Of blank text alone there is nothing to go on from: the answer begins anew after it.
    """
    if not prompt.so_far.strip():
        return prompt.messages
    messages = list(prompt.messages)
    begun = messages.pop().text if messages and messages[-1].role == "assistant" else ""
    messages.append(Message(role="assistant", content=begun + prompt.so_far))
    messages.append(Message(role="user", content=CONTINUE_INSTRUCTION))
    return messages


def decoded(data: bytes, kind: type[_T], words: str) -> _T:
    """Return `data` as `kind`. Raises InvalidAnswer that names `words` and not the data."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidAnswer(f"{words} cannot be read: {error}") from None


def counted(value: object) -> int:
    """Return a number of tokens as a provider tells it; 0, which stands for "not told", for all that can be none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def named(value: object) -> str | None:
    """Return the model that a provider names, None for what is no name: it goes into headers and reports."""
    return value if isinstance(value, str) and _MODEL_NAME.fullmatch(value) else None


def given(**fields: Any) -> dict[str, Any]:
    """Return the fields that have a value: a vendor's default is what is not sent."""
    return {name: value for name, value in fields.items() if value is not None}


def spoken(
    prompt: Prompt, part: str, say: Callable[[Message], dict[str, Any]], result: Callable[[Message], dict[str, Any]]
) -> list[dict[str, Any]]:
    """
    Return the turns but the system's, for vendors that have no role for tools.

    The results of calls that were made at once are one turn of the user's, with all of them as its `part`.
    """
    found: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for turn in turns(prompt):
        if turn.role == "tool":
            if not results:
                found.append({"role": "user", part: results})
            results.append(result(turn))
        elif turn.role != "system":
            results = []
            found.append(say(turn))
    return found


async def converse(
    adapter: Adapter,
    transport: Transport,
    prompt: Prompt,
    timeouts: Timeouts,
    take: Callable[[Piece], Awaitable[None]],
    *,
    answer_bytes_max: int,
    wall_s: Callable[[], float] = time.time,
    told: tuple[tuple[str, str], ...] = (),
) -> None:
    """
    Hand the pieces of one answer to `take`. Raises ProviderError or RequestError; never ends before the answer did.

    `told` are headers for a gateway that may stand behind the provider's address.
    A connection that breaks after the provider has said that its text is complete loses nothing, and is no error.
    """
    async with transport.send(adapter.call(prompt, timeouts, told)) as answer:
        if answer.status != 200:
            error = error_of(adapter.model_type, answer.status, answer.headers, await _head_of(answer), wall_s)
            if isinstance(error, ProviderError):
                error.calls = calls_told(answer.headers)
            raise error
        _check_type(answer, adapter.stream_type if prompt.stream else "application/json")
        if not prompt.stream:
            piece = adapter.parse(await _whole(answer, answer_bytes_max))
            piece = CallNumbers().number(piece) if piece.tool_calls else piece
            if not (piece.says_something or prompt.so_far) and piece.stop_reason in SAYING:
                raise InvalidAnswer("the answer has no text")
            await take(piece)
            return
        stream = _Stream(adapter, answer_bytes_max, has_text=bool(prompt.so_far.strip()))
        try:
            async for chunk in answer.body:
                for name, data in stream.events(chunk):
                    piece = stream.piece(name, data)
                    if piece is not None:
                        await take(piece)
            piece = stream.rest()
            if piece is not None:
                await take(piece)
        except TransportError:
            if not stream.finished:
                raise
        if not stream.finished:
            raise TruncatedBody("the stream ended without its end marker")
        if not stream.has_text:
            raise InvalidAnswer("the stream has no text")


class _Stream:
    """What the pieces of one streamed answer have in common: their splitter, their numbers, what has been said."""

    __slots__ = ("_adapter", "_bytes_max", "_calls", "_lines", "_size", "_sse", "finished", "has_text")

    def __init__(self, adapter: Adapter, bytes_max: int, *, has_text: bool) -> None:
        self._adapter = adapter
        self._bytes_max = bytes_max
        self._sse = SseSplitter() if adapter.stream_format == "sse" else None
        self._lines = LineSplitter()
        self._size = 0
        self._calls = CallNumbers()
        self.finished = False
        self.has_text = has_text

    def events(self, chunk: bytes) -> Sequence[tuple[bytes | None, bytes]]:
        """Return the events that `chunk` completes. Raises InvalidAnswer for a stream over its limit."""
        self._size += len(chunk)
        if self._size > self._bytes_max:
            raise InvalidAnswer(f"the stream is longer than {self._bytes_max} bytes")
        if self._sse is not None:
            return self._sse.feed(chunk)
        return [(None, line) for line in self._lines.feed(chunk) if line.strip()]

    def piece(self, name: bytes | None, data: bytes) -> Piece | None:
        """Return what an event carries, its tool calls numbered in the order of this answer."""
        piece = self._adapter.parse_event(name, data)
        if piece is not None:
            if piece.tool_calls or self._calls.count:
                piece = self._calls.number(piece)
            if piece.stop_reason is not None:
                self.finished = True
            if not self.has_text:
                self.has_text = piece.says_something or piece.stop_reason not in (None, *SAYING)
        return piece

    def rest(self) -> Piece | None:
        """Return what a last line carries that has no line end: a whole one, or a half one that nobody can parse."""
        data = self._lines.rest().strip()
        try:
            return self.piece(None, data) if data else None
        except InvalidAnswer:
            raise TruncatedBody("the stream ended in the middle of a line") from None


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
    headers = answer.headers
    encoding = headers.get("content-encoding", _IDENTITY)[0]
    if encoding not in _IDENTITY:
        raise InvalidAnswer(f"the answer is encoded as {encoding!r}, which was not asked for")
    found = (headers.get("content-type") or ("",))[0]
    if found == wanted:
        return
    found = found.partition(";")[0].strip().lower()
    if found != wanted:
        raise InvalidAnswer(f"the answer is {found or 'of no type'!r}, not {wanted!r}")
