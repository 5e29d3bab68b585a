"""Requests in each vendor's own format, what their answers say, and emulator processes to send them to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from seawall.emulators.client import EmulatorClient
from seawall.emulators.wire import HttpRequest

TOKEN = "the-token-of-this-test"


class Chat(NamedTuple):
    """A chat request: where it goes and what it holds."""

    url: str
    headers: dict[str, str]
    body: dict[str, Any]

    def request(self) -> HttpRequest:
        """Return it as the emulator's parser sees it."""
        return HttpRequest.of("POST", self.url, self.headers.items(), json.dumps(self.body).encode())

    def bytes(self, *, connection: str = "keep-alive") -> bytes:
        """Return it as it goes over the wire."""
        body = json.dumps(self.body).encode()
        headers = {**self.headers, "host": "x", "connection": connection, "content-length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {self.url} HTTP/1.1\r\n{head}\r\n".encode() + body


def make_chat(
    provider: str, prompt: str, *, stream: bool = False, max_tokens: int = 64, prior: str | None = None
) -> Chat:
    """Return a chat request to `provider`; `prior` is what the assistant has said so far, and shall go on from."""
    turns = [("user", prompt)] + ([("assistant", prior), ("user", "Go on.")] if prior else [])
    if provider == "gemini":
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        roles = {"user": "user", "assistant": "model"}
        contents = [{"role": roles[role], "parts": [{"text": text}]} for role, text in turns]
        body = {"contents": contents, "generationConfig": {"maxOutputTokens": max_tokens}}
        return Chat(f"/v1beta/models/gemini-2.5-flash:{method}", {"x-goog-api-key": "k"}, body)
    messages = [{"role": role, "content": text} for role, text in turns]
    body = {"model": "a-model", "messages": messages, "stream": stream}
    if provider == "local":
        return Chat("/api/chat", {}, {**body, "options": {"num_predict": max_tokens}})
    body["max_tokens"] = max_tokens
    if provider == "claude":
        return Chat("/v1/messages", {"x-api-key": "k", "anthropic-version": "2023-06-01"}, body)
    return Chat("/v1/chat/completions", {"authorization": "Bearer k"}, body)


def read_text(provider: str, body: bytes, *, stream: bool) -> str:
    """Return the text of an answer, read without the code under test."""
    if not stream:
        return _text(provider, json.loads(body), stream=False)
    lines = body.decode().splitlines()
    if provider != "local":
        lines = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]
    return "".join(_text(provider, json.loads(line), stream=True) for line in lines if line)


def _text(provider: str, content: dict[str, Any], *, stream: bool) -> str:
    if provider == "gemini":
        return content["candidates"][0]["content"]["parts"][0]["text"]
    if provider == "local":
        return content["message"]["content"]
    if provider == "claude":
        return content.get("delta", {}).get("text", "") if stream else content["content"][0]["text"]
    choices = content["choices"]
    return choices[0]["delta" if stream else "message"].get("content", "") if choices else ""


@pytest.fixture(scope="session")
def chat() -> Callable[..., Chat]:
    """Make a chat request to a provider."""
    return make_chat


@pytest.fixture(scope="session")
def text_in() -> Callable[..., str]:
    """Read the text of an answer's body."""
    return read_text


class Emulators(NamedTuple):
    """A running emulator process."""

    process: subprocess.Popen[str]
    ports: dict[str, int]
    client: EmulatorClient
    events: Path

    def url(self, provider: str) -> str:
        """Return where `provider` listens."""
        return f"http://127.0.0.1:{self.ports[provider]}"


@pytest.fixture(scope="module")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    """All four providers, fast, in a process of their own."""
    folder = tmp_path_factory.mktemp("emulators")
    healthy = {"first_token_p50_s": 0.005, "first_token_p99_s": 0.01, "tokens_per_second": 1000, "tokens": 8}
    config = folder / "config.json"
    config.write_text(
        json.dumps({"seed": 3, "providers": dict.fromkeys(("gemini", "claude", "openai", "local"), healthy)})
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "seawall.emulators", "--config", str(config)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "SEAWALL_TOKEN": TOKEN, "SEAWALL_EVENTS": str(folder)},
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        client = EmulatorClient(f"http://127.0.0.1:{ready['admin']}", TOKEN)
        yield Emulators(process, ready["ports"], client, folder)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        if process.stdout is not None:
            process.stdout.close()
