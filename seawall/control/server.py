"""
The control API on the wire: JSON over HTTP on loopback, for the live report and the chaos page of Locust's web UI.

    GET  /v1/state                 how the run stands: phase, faults, breakers, providers, spend, rates
    GET  /v1/events?since=N&wait=S what is new on the timeline from entry N on, waited for at most S seconds
    POST /v1/faults                put a fault in force: the words of a scenario's fault, without `at`
    POST /v1/faults/ID/heal        take it back before its time
    POST /v1/abort                 end the run as Ctrl-C would: undone, verified, reported
    GET  /v1/journal, /v1/report, /v1/scenario    downloads

A bad request is answered with `{"errors": [{"field", "message", "fix"}]}`. Nothing of a request is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse

from seawall.control.access import Access, Denied
from seawall.control.byhand import Flaw, Refused, Unfit
from seawall.control.steering import Steering
from seawall.journal.merge import JOURNAL_NAME
from seawall.journal.read import JournalError

__all__ = ["ControlServer", "Handler", "answer", "read_json"]

BODY_BYTES_MAX = 64 * 1024
_WAIT_MAX_S = 10.0
_POLL_S = 0.25
_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
Handler = Callable[[Request], Awaitable[Response]]


class ControlServer:
    """
    Serve the control API of the run that `steering` returns; use as an asynchronous context manager.

    Routes of one's own are added with `route` before it is entered.
    """

    def __init__(self, steering: Callable[[], Steering]) -> None:
        self._steering = steering
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.access = Access(self._socket.getsockname()[1])
        self.app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        config = uvicorn.Config(
            self.app,
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None
        self.route("/v1/state", self._state)
        self.route("/v1/events", self._events)
        self.route("/v1/faults", self._inject, "POST")
        self.route("/v1/faults/{fault_id}/heal", self._heal, "POST")
        self.route("/v1/abort", self._abort, "POST")
        self.route("/v1/journal", self._journal)
        self.route("/v1/report", self._report)
        self.route("/v1/scenario", self._scenario)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.access.port}"

    async def __aenter__(self) -> Self:
        """Start to serve."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        return self  # it listens already: who connects before uvicorn is up waits a moment

    async def __aexit__(self, *_: object) -> None:
        """End the answers under way and stop listening."""
        self._server.should_exit = True
        if self._serving is not None:
            await asyncio.gather(self._serving, return_exceptions=True)
        self._socket.close()

    def route(self, path: str, handler: Handler, method: str = "GET", *, guarded: bool = True) -> None:
        """Serve `path` by `handler`, which may raise Refused, Unfit or Denied. `guarded`: only with the token."""

        async def serve(request: Request) -> Response:
            try:
                if guarded:
                    self.access.require(request.method, request.headers)
                else:
                    self.access.require_names(request.headers)
                reply = await handler(request)
            except Denied as error:
                reply = _told(error.status, "request", str(error), "")
            except Refused as error:
                reply = answer({"errors": error.flaws}, 422)
            except Unfit as error:
                reply = _told(409, "run", str(error), "")
            for name, value in _HEADERS.items():
                reply.headers.setdefault(name, value)
            return reply

        self.app.add_api_route(path, serve, methods=[method], response_model=None)

    async def _state(self, _request: Request) -> Response:
        return answer(self._steering().state())

    async def _events(self, request: Request) -> Response:
        since, wait_s = _number(request, "since"), min(_number(request, "wait"), _WAIT_MAX_S)
        loop = asyncio.get_running_loop()
        due_s = loop.time() + wait_s
        while True:
            steering = self._steering()
            found = steering.since(int(since))
            if found["next"] > since or steering.phase == "ended" or loop.time() >= due_s:
                return answer(found)
            await asyncio.sleep(_POLL_S)

    async def _inject(self, request: Request) -> Response:
        return answer(await self._steering().inject(await read_json(request)), 201)

    async def _heal(self, request: Request) -> Response:
        return answer(await self._steering().heal(str(request.path_params["fault_id"])))

    async def _abort(self, _request: Request) -> Response:
        self._steering().abort()
        return answer({"aborting": True}, 202)

    async def _journal(self, _request: Request) -> Response:
        run = self._steering().run
        path = run.folder / JOURNAL_NAME
        if not path.is_file():
            return await asyncio.to_thread(_journal_so_far, run.folder, run.name)
        return _download(path, f"{run.name}.jsonl", "application/jsonl")

    async def _report(self, _request: Request) -> Response:
        run = self._steering().run
        path = run.folder / "index.html"
        if not path.is_file():
            raise Unfit("the report is written when the run has ended; end the load, or abort")
        return _download(path, f"{run.name}.html", "text/html; charset=utf-8")

    async def _scenario(self, _request: Request) -> Response:
        run = self._steering().run
        text = await asyncio.to_thread(_scenario_in, run.folder / JOURNAL_NAME, run.loaded.text)
        disposition = {"content-disposition": f'attachment; filename="{run.name}.yaml"'}
        return Response(text, media_type="application/yaml", headers=disposition)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the signals are the run's."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals alone."""
        yield


def answer(value: Any, status: int = 200) -> Response:
    """Return `value` as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def read_json(request: Request) -> Any:
    """Return the body. Raises Refused when it is no JSON, or too large, or said to be something else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/json":
        # A foreign page's form cannot say this without asking first.
        raise Refused([Flaw(field="content-type", message="the body is not said to be JSON", fix="application/json")])
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            raise Refused([Flaw(field="body", message=f"it is over {BODY_BYTES_MAX} bytes", fix="send less")])
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused([Flaw(field="body", message=f"it is no JSON: {error}", fix="send an object")]) from None


def _number(request: Request, name: str) -> float:
    text = request.query_params.get(name, "0")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e9:
        raise Refused([Flaw(field=name, message=f"{text[:40]!r} is no number from 0 up", fix=f"write {name}=0")])
    return value


def _told(status: int, field: str, message: str, fix: str) -> Response:
    message, _, after = message.partition("; ")
    return answer({"errors": [Flaw(field=field, message=message, fix=fix or after)]}, status)


def _download(path: Path, name: str, kind: str) -> Response:
    # The page has a policy of its own inside it; ours would forbid its very style.
    policy = "frame-ancestors 'none'; sandbox allow-scripts"
    return FileResponse(path, media_type=kind, filename=name, headers={"content-security-policy": policy})


def _journal_so_far(folder: Path, name: str) -> Response:
    lines: list[bytes] = []
    for path in sorted(folder.glob("events-*.jsonl")):
        with contextlib.suppress(OSError):
            lines += [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    disposition = {"content-disposition": f'attachment; filename="{name}-so-far.jsonl"'}
    return Response(b"".join(lines), media_type="application/jsonl", headers=disposition)


def _scenario_in(journal: Path, default: str) -> str:
    from seawall.journal.read import load_journal  # noqa: PLC0415 - reads a journal only when asked to

    try:
        header = load_journal(journal).header
    except (JournalError, OSError):
        return default
    return default if header is None else header.scenario
