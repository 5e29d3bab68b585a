"""LangChain: its own clients against the gateway and the emulators, and our chat model on a router in this process."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from router.errors import AllCloudsDownError, RequestError
from router.hybrid import HybridRouter
from router.settings import Settings
from seawall.answers import judge_text, marked
from seawall.langchain import ChatSeawall

# LangChain's clients cannot be closed: they leave their connections to the garbage collector.
pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
# LangChain's clients keep connections for the life of the process, whatever loop they belong to.
one_loop = pytest.mark.asyncio(loop_scope="module")

Emulators = Gateway = Any  # see conftest.py
Asked = Callable[..., tuple[str, dict[str, Any]]]


def get_weather(city: str, days: int = 1) -> str:
    """Return the weather of a city for some days."""
    return f"{city}: wind for {days} days"


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    days: int


def settings_of(emulators: Emulators, **values: object) -> Settings:
    """Return a router's settings in front of the emulators."""
    urls = {name: f"http://127.0.0.1:{port}" for name, port in emulators.ports.items()}
    addresses = {
        "gemini_base_url": urls["gemini"],
        "anthropic_base_url": urls["claude"],
        "openai_base_url": urls["openai"],
        "ollama_host": urls["local"],
    }
    keys = dict.fromkeys(("gemini_api_key", "anthropic_api_key", "openai_api_key"), "a-key")
    return Settings.from_mapping({**addresses, **keys, **values})


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect what a test has left before the next one, in another file, is blamed for it."""
    yield
    gc.collect()


@pytest.fixture(params=["gateway", "openai", "claude", "gemini", "ours"])
def model(request: pytest.FixtureRequest, emulators: Emulators, gateway: Gateway) -> Iterator[Any]:
    """LangChain's client of our gateway, those of the vendors on emulators, and our own chat model."""
    urls = {name: f"http://127.0.0.1:{port}" for name, port in emulators.ports.items()}
    if request.param == "gateway":
        yield ChatOpenAI(base_url=f"{gateway.url}/v1", api_key="any", model="claude", max_retries=0, stream_usage=True)
    elif request.param == "openai":
        yield ChatOpenAI(
            base_url=f"{urls['openai']}/v1", api_key="any", model="gpt-4o", max_retries=0, stream_usage=True
        )
    elif request.param == "claude":
        yield ChatAnthropic(
            base_url=urls["claude"], api_key="any", model_name="claude-opus-4-8", timeout=20, stop=None, max_retries=0
        )
    elif request.param == "gemini":
        yield ChatGoogleGenerativeAI(base_url=urls["gemini"], api_key="any", model="gemini-2.5-flash", max_retries=0)
    else:
        ours = ChatSeawall(make_router=lambda: HybridRouter(settings_of(emulators)), model="claude")
        yield ours
        ours.close()


def prompts(asked: Asked) -> tuple[str, list[Any]]:
    """Return a request's id and its messages: a system prompt and several turns."""
    request_id, body = asked()
    (user,) = body["messages"]
    turns = [SystemMessage("Be brief."), HumanMessage("Hello"), AIMessage("Yes?"), HumanMessage(user["content"])]
    return request_id, turns


@one_loop
async def test_invoke_is_whole(model: Any, asked: Asked) -> None:
    """One answer, synchronous and asynchronous, with the provider's usage."""
    for answer in (model.invoke((first := prompts(asked))[1]), await model.ainvoke((second := prompts(asked))[1])):
        request_id = first[0] if answer.text.count(first[0]) else second[0]
        assert judge_text(str(answer.text), request_id).whole
        assert answer.usage_metadata["output_tokens"] == 6
        assert answer.usage_metadata["input_tokens"] > 0


@one_loop
async def test_stream_is_whole(model: Any, asked: Asked) -> None:
    """Several chunks that add up to the answer, its usage and its metadata, synchronous and asynchronous."""
    request_id, turns = prompts(asked)
    total = None
    count = 0
    for chunk in model.stream(turns):
        total = chunk if total is None else total + chunk
        count += bool(chunk.text)
    assert total is not None
    assert judge_text(str(total.text), request_id).whole
    assert count > 1
    assert total.usage_metadata["output_tokens"] == 6
    request_id, turns = prompts(asked)
    text = "".join([str(chunk.text) async for chunk in model.astream(turns)])
    assert judge_text(text, request_id).whole


def test_tool_is_called_and_its_result_taken(model: Any, asked: Asked) -> None:
    """A forced call comes with arguments that fit; its result goes back, and a whole text comes."""
    _, turns = prompts(asked)
    called = model.bind_tools([get_weather], tool_choice="any").invoke(turns)
    (call,) = called.tool_calls
    assert call["name"] == "get_weather"
    assert isinstance(call["args"]["city"], str)
    result = ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"])
    answer = model.bind_tools([get_weather]).invoke([*turns, called, result])
    assert answer.text
    assert not answer.tool_calls


def test_streamed_tool_call_adds_up(model: Any, asked: Asked) -> None:
    """The pieces of a streamed call are merged to the call by LangChain itself."""
    _, turns = prompts(asked)
    total = None
    for chunk in model.bind_tools([get_weather], tool_choice="any").stream(turns):
        total = chunk if total is None else total + chunk
    assert total is not None
    (call,) = total.tool_calls
    assert call["name"] == "get_weather"
    assert isinstance(call["args"]["city"], str)


def test_structured_output_is_parsed(emulators: Emulators, asked: Asked) -> None:
    """`with_structured_output` gives an object of the caller's class."""
    model = ChatSeawall(make_router=lambda: HybridRouter(settings_of(emulators)), model="openai")
    found = model.with_structured_output(Weather).invoke(prompts(asked)[1])
    assert isinstance(found, Weather)
    model.close()


async def test_our_model_fails_over_and_keeps_its_books(emulators: Emulators, asked: Asked) -> None:
    """One router for all callers, on whatever loop or thread: the metadata says who answered and what it cost."""
    model = ChatSeawall(make_router=lambda: HybridRouter(settings_of(emulators)), model="gemini")
    with emulators.misbehaving("gemini", status=500):
        answers = await asyncio.gather(*(model.ainvoke(prompts(asked)[1]) for _ in range(4)))
        answers.append(await asyncio.to_thread(model.invoke, prompts(asked)[1]))
    assert {answer.response_metadata["model_provider"] for answer in answers} == {"claude"}
    assert answers[0].response_metadata["attempts"] == 2
    assert all(answer.response_metadata["cost_usd"] > 0 for answer in answers)
    # The breaker has opened over the five: the next call does not ask Gemini at all.
    assert model.invoke(prompts(asked)[1]).response_metadata["attempts"] == 1
    model.close()


def test_our_model_raises_the_routers_errors(emulators: Emulators, asked: Asked) -> None:
    """What the router refuses reaches the caller as it is, in the middle of a stream's setup, too."""
    model = ChatSeawall(make_router=lambda: HybridRouter(settings_of(emulators)), model="gpt-99")
    with pytest.raises(RequestError):
        model.invoke("hi")
    with pytest.raises(RequestError):
        list(model.stream("hi"))
    model.close()
    down = ChatSeawall(make_router=lambda: HybridRouter(settings_of(emulators)))
    with (
        emulators.misbehaving("gemini", "claude", "openai", "local", status=500),
        pytest.raises(AllCloudsDownError),
    ):
        down.invoke("hi")
    down.close()


async def test_caller_who_leaves_ends_the_upstream_call(slow_emulators: Emulators, asked: Asked) -> None:
    """A stream that is not read on, and a call that is cancelled, cost nothing more."""
    model = ChatSeawall(make_router=lambda: HybridRouter(settings_of(slow_emulators)), model="openai")
    first, second = asked(), asked()
    chunks = model.stream(first[1]["messages"])
    assert next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    task = asyncio.create_task(model.ainvoke(second[1]["messages"]))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for request_id, _ in (first, second):
        assert not slow_emulators.calls(request_id, 1)[0]["completed"]
    model.close()


def test_our_model_leaves_no_thread(emulators: Emulators) -> None:
    """Closed or forgotten, its thread ends; a closed one can be used again."""

    def threads() -> int:
        return sum(thread.name == "seawall-router" for thread in threading.enumerate())

    model = ChatSeawall(make_router=lambda: HybridRouter(settings_of(emulators)))
    for _ in range(2):
        assert model.invoke(marked("g0", "hi")).text
        assert threads() == 1
        model.close()
        assert threads() == 0
    model.invoke(marked("g0", "hi"))
    del model
    deadline = time.monotonic() + 5
    while threads():
        gc.collect()
        assert time.monotonic() < deadline
