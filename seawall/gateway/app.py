"""
The gateway: an OpenAI-compatible HTTP face of the router.

FastAPI owns the app, its documentation and the small routes; the chat route is a bare ASGI callable (`chat.py`).
"""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute

from router.errors import SeawallError
from router.hybrid import HybridRouter
from seawall.gateway.auth import authenticate
from seawall.gateway.chat import CHAT_PATH, ChatEndpoint
from seawall.gateway.config import GatewaySettings
from seawall.gateway.logs import Log
from seawall.gateway.metrics import Metrics
from seawall.gateway.schema import CHAT_ANSWERS, CHAT_SCHEMA, answers
from seawall.gateway.wire import DEFAULT_MODEL, error_json

__all__ = ["create_app"]

_CHAT_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": CHAT_SCHEMA}}}
}


class _Gateway(FastAPI):
    """FastAPI, but a chat request does not wait while its route is looked for: that takes longer than to serve it."""

    chat: ChatEndpoint

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection of a server."""
        if scope["type"] == "http" and scope["path"] == CHAT_PATH and scope["method"] == "POST":
            await self.chat(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(
    make_router: Callable[[], HybridRouter],
    settings: GatewaySettings | None = None,
    *,
    is_draining: Callable[[], bool] = lambda: False,
    metrics: Metrics | None = None,
    log: Log | None = None,
) -> FastAPI:
    """
    Return the ASGI app around the router that `make_router` makes when the app starts, in its event loop.

    `is_draining` tells `/readyz` that the process was asked to stop. The chat endpoint is `app.state.chat`.
    """
    router = make_router()
    settings = settings or GatewaySettings.from_environment()
    metrics = metrics or Metrics()
    endpoint = ChatEndpoint(router, settings, metrics, log)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with router:
            # Everything loaded by now lives as long as the process: keep the collector from walking it (p99 25 → 9 ms).
            # A request leaves no cycles unless it fails, so that looking for some every 700 objects finds nothing.
            gc.collect()
            gc.freeze()
            gc.set_threshold(20_000, 50, 100)
            yield

    app = _Gateway(title="Seawall gateway", lifespan=lifespan)
    app.state.chat = app.chat = endpoint
    app.add_exception_handler(SeawallError, _refuse)
    keys = settings.api_key_sha256
    metrics_keys = (*keys, *settings.metrics_key_sha256)

    async def readyz() -> JSONResponse:
        """Whether new requests are welcome: 503 while draining."""
        draining = is_draining()
        return JSONResponse({"status": "draining" if draining else "ready"}, status_code=503 if draining else 200)

    async def status() -> JSONResponse:
        """Breakers, cooldowns, latencies and today's spend, as the router knows them without asking anybody."""
        return JSONResponse({"providers": router.status(), "spent_usd": await router.spent_usd()})

    async def figures() -> Response:
        """The figures of all workers, in Prometheus's text format."""
        spent = ("seawall_budget_spent_usd", "Spend of this UTC day, settled and reserved.", await router.spent_usd())
        limit_usd = router.settings.daily_spend_limit_usd
        limit = ("seawall_budget_limit_usd", "Limit of the spend of a UTC day.", limit_usd)
        return Response(metrics.render((spent, limit)), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.add_api_route("/healthz", _healthz, methods=["GET"], responses=answers("state"))
    draining = {503: answers("state")[200] | {"description": "It is being stopped"}}
    app.add_api_route("/readyz", readyz, methods=["GET"], responses=answers("state") | draining)

    async def models() -> JSONResponse:
        """The names that `model` takes, in OpenAI's form."""
        names = [DEFAULT_MODEL, *router.models()]
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "seawall"} for name in names]
        return JSONResponse({"object": "list", "data": data})

    def add(path: str, serve: Callable[..., Any], keys: Sequence[str], **documented: Any) -> None:
        app.add_api_route(path, serve, methods=["GET"], dependencies=_guarded_by(keys), **documented)

    add("/v1/models", models, keys, responses=answers("models", 401))
    add("/v1/router/status", status, keys, responses=answers("status", 401))
    refusals = {401: answers("state", 401)[401]}
    add("/metrics", figures, metrics_keys, response_class=PlainTextResponse, responses=refusals)
    _add_chat(app, endpoint)
    return app


def _guarded_by(keys: Sequence[str]) -> list[Any]:
    """Return what lets a request pass only with one of these keys, where there are any."""

    async def check(request: Request) -> None:
        authenticate(request.headers.get("authorization", "").encode("latin-1"), keys)

    return [Depends(check)]


async def _refuse(_request: Request, error: Exception) -> Response:
    """Answer an error of ours as the chat route does."""
    status = error.status if isinstance(error, SeawallError) else 500
    content = error_json(error) if isinstance(error, SeawallError) else b""
    return Response(content, status_code=status, media_type="application/json")


def _add_chat(app: FastAPI, endpoint: ChatEndpoint) -> None:
    """Add the chat route: in the API's documentation like any other, but served by the bare callable."""

    async def chat_completions() -> None:
        """Answer a conversation, whole or as server-sent events, in OpenAI's format."""

    documented: dict[str, Any] = {"openapi_extra": _CHAT_BODY, "responses": CHAT_ANSWERS}
    app.add_api_route(CHAT_PATH, chat_completions, methods=["POST"], response_model=None, **documented)
    route = app.routes[-1]
    assert isinstance(route, APIRoute)  # noqa: S101 - the one just added
    route.app = endpoint


async def _healthz() -> JSONResponse:
    """Whether the process lives."""
    return JSONResponse({"status": "ok"})
