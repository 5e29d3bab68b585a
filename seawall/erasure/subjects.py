"""Whose conversation a request is part of: told by a header, or by the request's own `user`."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

__all__ = ["naming_subjects", "subject_of"]

_named: ContextVar[str] = ContextVar("seawall_subject", default="")


def naming_subjects(app: Callable[..., Any], header: str) -> Callable[..., Any]:
    """Return the ASGI app that knows the subject of each request in its task; the header goes no further."""
    wanted = header.encode()

    async def named(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            _named.set(
                next((value.decode("utf-8", "replace") for name, value in scope["headers"] if name == wanted), "")
            )
        await app(scope, receive, send)

    return named


def subject_of(user: str | None) -> str:
    """Return the subject of the request under way, whose `user` is given; an empty text when nobody is named."""
    return (_named.get() or user or "").strip()
