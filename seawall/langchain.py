"""
The router as a LangChain chat model, in this process: no gateway, one budget, breakers and failover included.

    model = ChatSeawall(model="gemini", temperature=0)
    model.invoke("Hello").content
    async for chunk in model.astream("Hello"): ...
    model.bind_tools([get_weather]).invoke("How is the weather?").tool_calls

A router serves one event loop, LangChain is called from any: so the router lives in a loop of its own, on a thread of
its own, for synchronous and asynchronous callers alike. `pip install 'seawall[langchain]'`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import queue
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import Any, TypeVar, cast

import msgspec
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    InvalidToolCall,
    convert_to_openai_messages,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCall, invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field, PrivateAttr

from router.hybrid import HybridRouter
from router.models import Chunk, Reply, Request, Usage
from seawall.gateway.wire import DEFAULT_MODEL, parse_request

__all__ = ["ChatSeawall"]

_CLOSE_S = 5.0
_T = TypeVar("_T")


class ChatSeawall(BaseChatModel):
    """
    A chat model that fails over between providers.

    `model` is a provider, a model, an alias or `auto`; the default leaves the choice to the failover chain. The other
    fields, and what is bound (`tools`, `tool_choice`, `response_format` …), are those of OpenAI's Chat Completions.
    `make_router` makes the router, when it is first needed; by default it reads its settings from the environment.
    Raises what `HybridRouter.complete` raises. Close it with `close`, or leave that to the end of the program.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: str = DEFAULT_MODEL
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: list[str] | None = None
    make_router: Callable[[], HybridRouter] = Field(default=HybridRouter, exclude=True, repr=False)
    _home: _Home | None = PrivateAttr(default=None)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    def close(self) -> None:
        """Close the router and end its thread. Idempotent; another call makes a new one."""
        with self._lock:
            home, self._home = self._home, None
        if home is not None:
            home.close()

    def bind_tools(
        self,
        tools: Sequence[Any],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """
        Return a model that may call these tools: functions, pydantic models, LangChain tools or OpenAI's own form.

        `tool_choice` is `auto`, `none`, `any` (also `required`, True), or the name of the one that must be called.
        """
        choice: Any = tool_choice
        if tool_choice is True or tool_choice == "any":
            choice = "required"
        elif isinstance(tool_choice, str) and tool_choice not in ("auto", "none", "required"):
            choice = {"type": "function", "function": {"name": tool_choice}}
        more = {} if choice in (None, False) else {"tool_choice": choice}
        return cast(
            "Runnable[LanguageModelInput, AIMessage]",
            self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **more, **kwargs),
        )

    @property
    def _llm_type(self) -> str:
        return "seawall"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return self._said()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request = self._request(messages, stop, kwargs)
        return _result(self._at_home().run(lambda router: router.complete(request)).result())

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request = self._request(messages, stop, kwargs)
        return _result(await asyncio.wrap_future(self._at_home().run(lambda router: router.complete(request))))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        arrived: queue.SimpleQueue[Chunk | None] = queue.SimpleQueue()
        work = self._begin_stream(self._request(messages, stop, kwargs), arrived.put)
        try:
            while (chunk := arrived.get()) is not None:
                yield _generation_chunk(chunk)
            work.result()
        finally:
            work.cancel()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        arrived: asyncio.Queue[Chunk | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(chunk: Chunk | None) -> None:
            with suppress(RuntimeError):  # the caller's loop is closed: nobody waits any more
                loop.call_soon_threadsafe(arrived.put_nowait, chunk)

        work = self._begin_stream(self._request(messages, stop, kwargs), put)
        try:
            while (chunk := await arrived.get()) is not None:
                yield _generation_chunk(chunk)
            await asyncio.wrap_future(work)
        finally:
            work.cancel()

    def _begin_stream(self, request: Request, put: Callable[[Chunk | None], None]) -> concurrent.futures.Future[None]:
        """Have the answer's chunks `put` from the router's thread, and None after the last or an error."""

        async def stream(router: HybridRouter) -> None:
            try:
                chunks: AsyncGenerator[Chunk] = router.stream(request)
                async with aclosing(chunks):
                    async for chunk in chunks:
                        put(chunk)
            finally:
                put(None)

        return self._at_home().run(stream)

    def _at_home(self) -> _Home:
        with self._lock:
            if self._home is None:
                self._home = _Home(self.make_router)
                weakref.finalize(self, self._home.close)  # at the end of the program, too
            return self._home

    def _said(self) -> dict[str, Any]:
        names = ("model", "temperature", "top_p", "max_tokens", "stop")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def _request(self, messages: list[BaseMessage], stop: list[str] | None, more: dict[str, Any]) -> Request:
        """Return the request by way of OpenAI's format, which LangChain writes and the gateway reads."""
        body = {**self._said(), **more, "messages": convert_to_openai_messages(messages)}
        if stop is not None:
            body["stop"] = stop
        return parse_request(msgspec.json.encode(body), "")[1]


class _Home:
    """A thread with an event loop and a router in it."""

    def __init__(self, make_router: Callable[[], HybridRouter]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="seawall-router", daemon=True)
        self._thread.start()
        self._closed = False

        async def make() -> HybridRouter:
            return make_router()

        try:
            self._router = asyncio.run_coroutine_threadsafe(make(), self._loop).result()
        except BaseException:
            self._stop()
            raise

    def run(self, work: Callable[[HybridRouter], Coroutine[Any, Any, _T]]) -> concurrent.futures.Future[_T]:
        """Begin `work` in the loop."""
        return asyncio.run_coroutine_threadsafe(work(self._router), self._loop)

    def close(self) -> None:
        """Close the router, end the loop. Idempotent."""
        if self._closed:
            return
        self._closed = True
        with suppress(concurrent.futures.TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_CLOSE_S)
        self._stop()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {cast("asyncio.Task[Any]", asyncio.current_task())}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._router.aclose()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_S)
        if not self._thread.is_alive():
            self._loop.close()


def _result(reply: Reply) -> ChatResult:
    good: list[ToolCall] = []
    bad: list[InvalidToolCall] = []
    for call in reply.tool_calls:
        arguments = _arguments(call.arguments)
        if arguments is None:
            bad.append(invalid_tool_call(name=call.name, args=call.arguments, id=call.id))
        else:
            good.append(tool_call(name=call.name, args=arguments, id=call.id))
    message = AIMessage(
        content=reply.text or reply.refusal,
        tool_calls=good,
        invalid_tool_calls=bad,
        usage_metadata=_usage(reply.usage),
        response_metadata=_metadata(reply),
    )
    return ChatResult(generations=[ChatGeneration(message=message)])


def _generation_chunk(chunk: Chunk) -> ChatGenerationChunk:
    calls = [tool_call_chunk(name=c.name, args=c.arguments, id=c.id, index=c.index) for c in chunk.tool_calls]
    is_last = chunk.stop_reason is not None
    message = AIMessageChunk(
        content=chunk.text or chunk.refusal,
        tool_call_chunks=calls,
        usage_metadata=_usage(chunk.usage) if is_last and chunk.usage is not None else None,
        response_metadata=_metadata(chunk) if is_last else {},
        chunk_position="last" if is_last else None,
    )
    return ChatGenerationChunk(message=message)


def _arguments(text: str) -> dict[str, Any] | None:
    """Return the arguments of a tool call, None where the model wrote no JSON object."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _usage(usage: Usage) -> UsageMetadata:
    total = usage.prompt_tokens + usage.completion_tokens
    return UsageMetadata(input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, total_tokens=total)


def _metadata(answered: Reply | Chunk) -> dict[str, Any]:
    return {
        "model_name": answered.model,
        "model_provider": str(answered.provider),
        "finish_reason": answered.stop_reason,
        "attempts": len(answered.attempts),
        "cost_usd": answered.cost_usd,
    }
