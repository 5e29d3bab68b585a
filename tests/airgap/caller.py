"""What the air-gap tests run in a network with nothing but loopback: a router, and an Ollama that leads elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from router import HybridRouter, Message, Request, SeawallError
from seawall.equipped import EquippedRouter
from seawall.transports import transport_named

PROMPT = Request(messages=(Message(role="user", content="Who goes there?"),))


async def _asked(router: HybridRouter) -> list[str]:
    """Ask in every way a caller has, and return what came of each."""
    found: list[str] = []

    async def note(what: Any) -> None:
        try:
            await what
            found.append("answered")
        except SeawallError as error:
            found.append(error.code)

    async def streamed(request: Request) -> None:
        async for _ in router.stream(request):
            pass

    async with router:
        for model in ("", "gemini", "claude", "openai", "gpt-4o", "local", "auto"):
            request = Request(messages=PROMPT.messages, model=model) if model else PROMPT
            await note(router.complete(request))
            await note(streamed(request))
        await router.health_check()
        await router.is_local_available()
    return found


async def main(names: list[str]) -> None:
    """Ask a router on each transport of `names`; print what came of it as JSON."""
    found: dict[str, list[str]] = {}
    for name in names:
        kind = EquippedRouter if name == "equipped" else HybridRouter
        options = {} if name in ("equipped", "plain") else {"transport": transport_named(name)}
        found[name] = await _asked(kind(**options))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    # A network of its own begins with loopback down.
    assert os.environ["OLLAMA_HOST"]
    asyncio.run(main(sys.argv[1:]))
