"""
The textbook gateway: FastAPI, pydantic and httpx, put together as tutorials do it. No routing, no budget.

`python -m benchmarks.textbook UPSTREAM_URL` prints the port.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from benchmarks.floor import serve_app

__all__ = ["create_app", "main"]


class Message(BaseModel):
    """One turn."""

    role: str
    content: str


class ChatRequest(BaseModel):
    """What is asked."""

    model: str
    messages: list[Message]
    stream: bool = False
    max_tokens: int | None = None


class Choice(BaseModel):
    """One answer."""

    index: int
    message: Message
    finish_reason: str


class Completion(BaseModel):
    """What is answered."""

    id: str
    object: str
    created: int
    model: str
    choices: list[Choice]
    usage: dict[str, int]


def create_app(url: str) -> FastAPI:
    """Return the app in front of `url`."""
    app = FastAPI()
    headers = {"authorization": "Bearer benchmark"}
    client = httpx.AsyncClient(timeout=60, headers=headers)

    @app.post("/v1/chat/completions", response_model=Completion)
    async def chat(request: ChatRequest) -> Any:
        body = request.model_dump(exclude_none=True)
        if request.stream:
            return StreamingResponse(_stream(body), media_type="text/event-stream")
        answer = await client.post(url, json=body)
        return answer.json()

    async def _stream(body: dict[str, Any]) -> AsyncIterator[bytes]:
        async with client.stream("POST", url, json=body) as answer:
            async for chunk in answer.aiter_bytes():
                yield chunk

    return app


def main(url: str) -> int:
    """Serve the textbook gateway in front of `url`."""
    serve_app(create_app(url))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
