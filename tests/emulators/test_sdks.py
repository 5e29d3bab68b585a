"""
The emulators as the vendors' own SDKs see them, over real sockets.

What these accept and understand is what a router's hand-written adapters may rely on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anthropic
import ollama
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

from seawall.answers import judge_text
from seawall.emulators.steps import Behaviour

pytestmark = pytest.mark.real

PROMPT = "[sw:000042] What does a seawall do?"
PROMPT_TOKENS = 9
TOKENS = 8
BUSY = Behaviour(fault_id="busy", status=429, retry_after_s=7)


@contextmanager
def busy(emulators, provider: str) -> Iterator[None]:
    """Have the provider throttle everybody."""
    emulators.client.put_behaviour(provider, BUSY)
    try:
        yield
    finally:
        emulators.client.delete_behaviour(provider, BUSY.fault_id)


def assert_whole(text: str, provider: str, tokens: int = TOKENS) -> None:
    """Make sure that the text is this provider's whole answer."""
    verdict = judge_text(text, "000042")
    assert (verdict.problem, verdict.tokens, verdict.providers) == (None, tokens, (provider,))


@pytest.fixture
def openai_client(emulators) -> Iterator[openai.OpenAI]:
    """OpenAI's client, without retries."""
    with openai.OpenAI(api_key="k", base_url=f"{emulators.url('openai')}/v1", max_retries=0) as client:
        yield client


@pytest.fixture
def claude_client(emulators) -> Iterator[anthropic.Anthropic]:
    """Anthropic's client, without retries."""
    with anthropic.Anthropic(api_key="k", base_url=emulators.url("claude"), max_retries=0) as client:
        yield client


@pytest.fixture
def gemini_client(emulators) -> Iterator[genai.Client]:
    """Google's client, which does not retry unless told to."""
    client = genai.Client(api_key="k", http_options=genai_types.HttpOptions(base_url=emulators.url("gemini")))
    yield client
    client.close()


@pytest.fixture
def ollama_client(emulators) -> Iterator[ollama.Client]:
    """Ollama's client, which never retries."""
    with ollama.Client(host=emulators.url("local")) as client:
        yield client


def test_openai_json(openai_client: openai.OpenAI):
    """OpenAI's SDK reads the JSON answer: text, finish reason, usage, request id."""
    answer = openai_client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": PROMPT}], max_tokens=64
    )
    assert_whole(answer.choices[0].message.content or "", "openai")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (PROMPT_TOKENS, TOKENS)
    assert answer.model == "gpt-4o"
    assert answer._request_id is not None


def test_openai_stream(openai_client: openai.OpenAI):
    """OpenAI's SDK reads the stream: one event a token, the finish reason, usage last when asked for."""
    stream = openai_client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": PROMPT}],
        max_completion_tokens=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(texts) == 3
    assert_whole("".join(texts), "openai", 3)
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["length"]
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.completion_tokens, chunks[-1].choices) == (3, [])


def test_openai_errors_and_models(emulators, openai_client: openai.OpenAI):
    """OpenAI's SDK raises its own errors for 429 and 401, with code and pause, and lists the models."""
    with busy(emulators, "openai"), pytest.raises(openai.RateLimitError) as caught:
        openai_client.chat.completions.create(model="m", messages=[{"role": "user", "content": PROMPT}])
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.BadRequestError, match="messages"):
        openai_client.chat.completions.create(model="m", messages=[])
    assert "gpt-4o" in [model.id for model in openai_client.models.list()]


def test_claude_json(claude_client: anthropic.Anthropic):
    """Anthropic's SDK reads the JSON answer: text, stop reason, usage."""
    answer = claude_client.messages.create(
        model="claude-haiku-4-5", max_tokens=64, system="Be brief.", messages=[{"role": "user", "content": PROMPT}]
    )
    assert answer.content[0].type == "text"
    assert_whole(answer.content[0].text, "claude")
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens == TOKENS
    assert answer.usage.input_tokens > PROMPT_TOKENS
    assert answer._request_id is not None


def test_claude_stream(claude_client: anthropic.Anthropic):
    """Anthropic's SDK builds the message from the stream: text deltas, stop reason, usage from `message_delta`."""
    with claude_client.messages.stream(
        model="claude-haiku-4-5", max_tokens=3, messages=[{"role": "user", "content": PROMPT}]
    ) as stream:
        texts = list(stream.text_stream)
        message = stream.get_final_message()
    assert len(texts) == 3
    assert_whole("".join(texts), "claude", 3)
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)
    assert message.usage.input_tokens == PROMPT_TOKENS


def test_claude_errors_and_models(emulators, claude_client: anthropic.Anthropic):
    """Anthropic's SDK raises its own errors for 429 and 400, with type and pause, and lists the models."""
    hello = [{"role": "user", "content": PROMPT}]
    with busy(emulators, "claude"), pytest.raises(anthropic.RateLimitError) as caught:
        claude_client.messages.create(model="m", max_tokens=1, messages=hello)
    assert caught.value.body["error"]["type"] == "rate_limit_error"
    assert caught.value.response.headers["retry-after"] == "7"
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        claude_client.messages.create(model="m", max_tokens=0, messages=hello)
    assert "claude-haiku-4-5" in [model.id for model in claude_client.models.list()]


def test_gemini_json(gemini_client: genai.Client):
    """Google's SDK reads the JSON answer: text, finish reason, usage."""
    answer = gemini_client.models.generate_content(
        model="gemini-2.5-flash", contents=PROMPT, config=genai_types.GenerateContentConfig(max_output_tokens=64)
    )
    assert_whole(answer.text or "", "gemini")
    assert answer.candidates is not None
    assert answer.candidates[0].finish_reason == genai_types.FinishReason.STOP
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.prompt_token_count == PROMPT_TOKENS
    assert answer.usage_metadata.candidates_token_count == TOKENS


def test_gemini_stream(gemini_client: genai.Client):
    """Google's SDK reads the stream: one event a token, finish reason and usage in the last."""
    chunks = list(
        gemini_client.models.generate_content_stream(
            model="gemini-2.5-flash",
            contents=PROMPT,
            config=genai_types.GenerateContentConfig(max_output_tokens=3, system_instruction="Be brief."),
        )
    )
    texts = [chunk.text for chunk in chunks if chunk.text]
    assert len(texts) == 3
    assert_whole("".join(texts), "gemini", 3)
    assert chunks[-1].candidates is not None
    assert chunks[-1].candidates[0].finish_reason == genai_types.FinishReason.MAX_TOKENS
    assert chunks[-1].usage_metadata is not None
    assert chunks[-1].usage_metadata.candidates_token_count == 3


def test_gemini_errors_and_models(emulators, gemini_client: genai.Client):
    """Google's SDK raises its own error for 429, with status name and pause, and lists the models."""
    with busy(emulators, "gemini"), pytest.raises(genai_errors.ClientError) as caught:
        gemini_client.models.generate_content(model="gemini-2.5-flash", contents=PROMPT)
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
    assert caught.value.details["error"]["details"][0]["retryDelay"] == "7s"
    assert caught.value.response.headers["retry-after"] == "7"
    assert "models/gemini-2.5-flash" in [model.name for model in gemini_client.models.list()]


def test_ollama_json(ollama_client: ollama.Client):
    """Ollama's SDK reads the JSON answer: text, done reason, counts."""
    answer = ollama_client.chat(model="llama3", messages=[{"role": "user", "content": PROMPT}], stream=False)
    assert_whole(answer.message.content or "", "local")
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert (answer.prompt_eval_count, answer.eval_count) == (PROMPT_TOKENS, TOKENS)


def test_ollama_stream(ollama_client: ollama.Client):
    """Ollama's SDK reads the stream: one line a token, done reason and counts in the last."""
    chunks = list(
        ollama_client.chat(
            model="llama3",
            messages=[{"role": "user", "content": PROMPT}],
            stream=True,
            options={"num_predict": 3},
        )
    )
    assert len(chunks) == 4
    assert_whole("".join(chunk.message.content or "" for chunk in chunks), "local", 3)
    assert (chunks[-1].done_reason, chunks[-1].eval_count) == ("length", 3)


def test_ollama_errors_and_models(emulators, ollama_client: ollama.Client):
    """Ollama's SDK raises its own error for 429 and lists the models."""
    with busy(emulators, "local"), pytest.raises(ollama.ResponseError) as caught:
        ollama_client.chat(model="llama3", messages=[{"role": "user", "content": PROMPT}])
    assert (caught.value.status_code, caught.value.error) == (429, "too many requests")
    assert "llama3:8b" in [model.model for model in ollama_client.list().models]


ODD = {
    "filter": Behaviour(fault_id="odd", content_filter=True),
    "error": Behaviour(fault_id="odd", error_event=True),
}


@contextmanager
def odd(emulators, provider: str, name: str) -> Iterator[None]:
    """Have the provider misbehave."""
    emulators.client.put_behaviour(provider, ODD[name])
    try:
        yield
    finally:
        emulators.client.delete_behaviour(provider, "odd")


def test_openai_filter_and_error_event(emulators, openai_client: openai.OpenAI):
    """OpenAI's SDK reads the filter's finish reason, and raises an error inside a 200 stream."""
    hello = [{"role": "user", "content": PROMPT}]
    with odd(emulators, "openai", "filter"):
        answer = openai_client.chat.completions.create(model="m", messages=hello)
    assert_whole(answer.choices[0].message.content or "", "openai", TOKENS // 2)
    assert answer.choices[0].finish_reason == "content_filter"
    with odd(emulators, "openai", "error"), pytest.raises(openai.APIError, match="server had an error"):
        list(openai_client.chat.completions.create(model="m", messages=hello, stream=True))


def test_claude_filter_and_error_event(emulators, claude_client: anthropic.Anthropic):
    """Anthropic's SDK reads the refusal, and raises an error inside a 200 stream."""
    hello = [{"role": "user", "content": PROMPT}]
    with odd(emulators, "claude", "filter"):
        answer = claude_client.messages.create(model="m", max_tokens=64, messages=hello)
    assert_whole(answer.content[0].text, "claude", TOKENS // 2)
    assert answer.stop_reason == "refusal"
    with odd(emulators, "claude", "error"), pytest.raises(anthropic.APIError, match="Overloaded"):
        list(claude_client.messages.create(model="m", max_tokens=64, messages=hello, stream=True))


def test_gemini_filter_and_error_event(emulators, gemini_client: genai.Client):
    """Google's SDK reads the finish reason SAFETY, and raises an error inside a 200 stream."""
    with odd(emulators, "gemini", "filter"):
        answer = gemini_client.models.generate_content(model="gemini-2.5-flash", contents=PROMPT)
    assert answer.candidates is not None
    assert answer.candidates[0].finish_reason == genai_types.FinishReason.SAFETY
    with odd(emulators, "gemini", "error"), pytest.raises(genai_errors.APIError, match="overloaded"):
        list(gemini_client.models.generate_content_stream(model="gemini-2.5-flash", contents=PROMPT))


def test_ollama_error_line(emulators, ollama_client: ollama.Client):
    """Ollama's SDK raises the error that comes in place of a line."""
    stream = ollama_client.chat(model="llama3", messages=[{"role": "user", "content": PROMPT}], stream=True)
    with odd(emulators, "local", "error"), pytest.raises(ollama.ResponseError, match="error was encountered"):
        list(stream)
