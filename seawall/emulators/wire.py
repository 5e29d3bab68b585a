"""
What a vendor's wire format is made of: requests, replies, calls and answers, as plain data.

A vendor module (`openai`, `claude`, `gemini`, `ollama`) is a set of pure functions of one shape, `Vendor`: it reads a
request into an `EmulatedCall` and writes answers, streams and errors as that vendor does. Nothing here does I/O.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from seawall.answers import last_token, request_id_of
from seawall.emulators.steps import Body, End, Head, Step

__all__ = [
    "BODY_LIMIT",
    "EPOCH",
    "Answer",
    "CallPart",
    "EmulatedCall",
    "HttpRequest",
    "Message",
    "OfferedTool",
    "Part",
    "Reply",
    "Token",
    "Vendor",
    "call_of",
    "is_base64",
    "reply_json",
    "retry_header",
    "server_sent_event",
    "steps_of",
    "text_of",
]

BODY_LIMIT = 1024 * 1024
"""The largest request body that is read, in bytes; a larger one is answered with 413."""

EPOCH = 1_735_689_600
"""The `created` time that every answer tells, in seconds: answers depend on nothing but the call and the seed."""

_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_IMAGE = 258


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request as a vendor sees it: `path` and `query` decoded, header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    too_large: bool = False
    """The body was over `BODY_LIMIT`; `body` holds nothing."""

    @classmethod
    def of(
        cls, method: str, url: str, headers: Iterable[tuple[str, str]], body: bytes, *, too_large: bool = False
    ) -> HttpRequest:
        """Return the request to `url`, absolute or in origin form. Raises ValueError when it cannot be read."""
        parts = urlsplit(url)
        return cls(
            method=method,
            path=unquote(parts.path),
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in headers},
            body=body,
            too_large=too_large,
        )


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is known at once: an error, or a list of models."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a message's content; parts that are no text count as empty."""

    text: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a conversation; `assistant` is the role of the model whatever the vendor calls it."""

    role: str = ""
    content: str | list[Part] | None = None


class OfferedTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that a call offers: its name and the JSON Schema of its arguments."""

    name: str
    schema: dict[str, Any] | None = None


class CallPart(msgspec.Struct, frozen=True, kw_only=True):
    """A token of a tool call, the `n`-th of its answer from 0: the beginning, with its name, or some arguments."""

    n: int
    name: str
    arguments: str
    first: bool = False


Token = str | CallPart
"""The unit in which a stream is sent: a piece of text or of a tool call."""


class EmulatedCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call to a provider, read from its own wire format."""

    provider: str
    model: str
    stream: bool
    request_id: str | None
    """From the `[sw:…] ` mark in the prompt, or None."""
    prompt: str
    prior_text: str = ""
    """The last assistant message, if it holds tokens of this request: the answer goes on after its last token."""
    max_tokens: int | None = None
    prompt_tokens: int = 1
    include_usage: bool = True
    """Whether a stream tells its usage at the end."""
    tools: tuple[OfferedTool, ...] = ()
    tool_choice: Literal["auto", "none", "required"] = "auto"
    forced_tool: str | None = None
    """The one tool that must be called."""
    one_tool_call: bool = False
    """Whether more than one call at once is unwanted."""
    has_results: bool = False
    """Whether the conversation ends with what tools have answered."""
    json_schema: dict[str, Any] | None = None
    """The schema of an answer in JSON, empty for any; None: a text is wanted."""
    format: str = ""
    """The provider whose wire format is spoken, where that is not its own."""

    @property
    def answer_id(self) -> str:
        """The id that the answer's tokens carry: the request's, or one made from the prompt."""
        return self.request_id or "h" + hashlib.blake2b(self.prompt.encode(), digest_size=8).hexdigest()


class Answer(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What a healthy provider says to a call; `tokens` are those that are still owed, each ending in a space."""

    call: EmulatedCall
    id: str
    tokens: tuple[Token, ...]
    finish: Literal["stop", "length", "content_filter", "tool_calls"]
    duration_s: float
    model: str
    """The model that it names."""
    usage: tuple[int, int] | None
    """Tokens of prompt and answer as it tells them; None: it tells none."""

    @cached_property
    def text(self) -> str:
        """The whole text of this answer."""
        return "".join(token for token in self.tokens if isinstance(token, str))

    @cached_property
    def calls(self) -> list[CallPart]:
        """The tool calls of this answer, each with all of its arguments."""
        found: dict[int, CallPart] = {}
        for token in self.tokens:
            if isinstance(token, CallPart):
                before = found.get(token.n)
                arguments = token.arguments if before is None else before.arguments + token.arguments
                found[token.n] = CallPart(n=token.n, name=token.name, arguments=arguments, first=True)
        return list(found.values())


class Vendor(Protocol):
    """The shape that every vendor module has. All functions are pure."""

    PROVIDER: str
    OTHER_MODEL: str
    """A model that an answer names when it names a wrong one."""
    WHOLE_CALLS: bool
    """Whether a stream carries a tool call in one piece."""

    def parse(self, request: HttpRequest) -> EmulatedCall | Reply:
        """Return the call, or the reply to what is no call: an error in the vendor's format, a list of models."""
        ...

    def error(self, status: int, message: str | None = None, retry_after_s: float | None = None) -> Reply:
        """Return the vendor's error with this HTTP status."""
        ...

    def headers(self, answer: Answer) -> tuple[tuple[str, str], ...]:
        """Return the headers of the answer, JSON or stream as the call asked."""
        ...

    def whole(self, answer: Answer) -> bytes:
        """Return the body of the JSON answer."""
        ...

    def prologue(self, answer: Answer) -> bytes:
        """Return what a stream begins with before its first token; may be empty."""
        ...

    def event(self, answer: Answer, token: Token) -> bytes:
        """Return the event of one token."""
        ...

    def epilogue(self, answer: Answer) -> bytes:
        """Return what a stream ends with: stop reason, usage, the vendor's end mark."""
        ...

    def failure(self) -> bytes:
        """Return the event by which a stream that has begun tells that it cannot go on."""
        ...


def text_of(content: str | list[Part] | None) -> str:
    """Return the text of a message's content, parts joined by lines."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.text for part in content if part.text)


def call_of(
    provider: str,
    messages: Sequence[Message],
    *,
    model: str,
    stream: bool,
    max_tokens: int | None,
    include_usage: bool = True,
    images: int = 0,
    more: dict[str, Any] | None = None,
) -> EmulatedCall:
    """
    Return the call that these messages make; the last mark outside the assistant's words names the request.

    `more` are fields of `EmulatedCall` that a vendor's request has beyond texts.
    """
    texts = [(message.role, text_of(message.content)) for message in messages]
    asked = [text for role, text in texts if role != "assistant"]
    spoken = [text for role, text in texts if role == "assistant"]
    prompt = next((text for text in reversed(asked) if request_id_of(text)), asked[-1] if asked else "")
    call = EmulatedCall(
        provider=provider,
        model=model,
        stream=stream,
        request_id=request_id_of(prompt),
        prompt=prompt,
        max_tokens=max_tokens,
        prompt_tokens=max(1, -(-sum(len(text) for _, text in texts) // _CHARACTERS_PER_TOKEN))
        + images * _TOKENS_PER_IMAGE,
        include_usage=include_usage,
        has_results=bool(texts) and texts[-1][0] == "tool",
        **(more or {}),
    )
    prior = _prior(spoken[-1], call.answer_id) if spoken else ""
    return msgspec.structs.replace(call, prior_text=prior) if prior else call


def _prior(text: str, answer_id: str) -> str:
    """
    Return `text` when it holds tokens of this request, else nothing.

    A router may have trimmed the space at the end (Anthropic refuses a final assistant message that ends in one), so
    a last token without it counts when it belongs to the same answer; a torn one does not.
    """
    sure = last_token(text, answer_id)
    padded = last_token(text + " ", answer_id)
    if padded is not None and (sure is None or sure[1] == padded[1]):
        return text if sure == padded else text + " "
    return text if sure is not None else ""


def is_base64(data: str) -> bool:
    """Return whether `data` is base64 of something."""
    try:
        return bool(binascii.a2b_base64(data, strict_mode=True))
    except (ValueError, binascii.Error):
        return False


def reply_json(status: int, content: Any, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """Return `content` as a JSON reply."""
    return Reply(
        status=status,
        body=msgspec.json.encode(content),
        headers=(("content-type", "application/json"), *headers),
    )


def retry_header(retry_after_s: float | None) -> tuple[tuple[str, str], ...]:
    """Return the `retry-after` header, in seconds, or none."""
    return () if retry_after_s is None else (("retry-after", f"{retry_after_s:g}"),)


def server_sent_event(content: Any, event: str | None = None) -> bytes:
    """Return one server-sent event with `content` as JSON."""
    data = b"data: " + msgspec.json.encode(content) + b"\n\n"
    return data if event is None else b"event: " + event.encode() + b"\n" + data


def steps_of(reply: Reply) -> Iterator[Step]:
    """Yield the steps that send `reply` at once."""
    yield Head(status=reply.status, headers=reply.headers, length=len(reply.body))
    yield Body(data=reply.body)
    yield End()
