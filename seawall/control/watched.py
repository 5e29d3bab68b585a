"""
`seawall run --live`: the report of a run as it grows, on loopback, with a strip that shows how it stands and aborts it.

The page is the report itself, of the journal so far, in a frame; it is made anew when somebody looks and it is old.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from seawall.control.access import Denied
from seawall.control.byhand import Unfit
from seawall.control.server import ControlServer
from seawall.control.steering import Steering
from seawall.journal.events import End
from seawall.journal.merge import merge
from seawall.journal.read import JournalError
from seawall.journal.writer import EventWriter
from seawall.outcome import Render

__all__ = ["watched"]

_EVERY_S = 3.0
_SHARE = 5.0
"""Between two pages at least so many times as long as making one takes: the run must not feel it."""
_LAST_S = 4.0
"""How long a page that is open has to fetch the end."""
_PAGE = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FRAME = "frame-ancestors 'self'"
_KINDS = {"css": "text/css", "js": "text/javascript"}
# What a journal without its end cannot say yet. A page that looks otherwise is shown as it is.
_UNJUDGED = re.compile(rb'<section class="verdict.*?</section>|<p class="alarm".*?</p>', re.DOTALL)


@asynccontextmanager
async def watched(steering: Steering, render: Render, tell: Callable[[str], None]) -> AsyncGenerator[None]:
    """Serve the page of the run while the block lasts, and until an open page has seen the end; `tell` its address."""
    page = _Page(steering, render)
    server = ControlServer(lambda: steering)
    page.server = server
    server.route("/", page.index, guarded=False)
    server.route("/page", page.report)
    server.route("/live/{name}", page.asset, guarded=False)
    async with server:
        tell(f"live report: {server.url}/?token={server.access.token}")
        try:
            yield
        finally:
            await page.seen_out()


class _Page:
    """The page and its parts."""

    server: ControlServer

    def __init__(self, steering: Steering, render: Render) -> None:
        self._steering = steering
        self._render = render
        self._lock = asyncio.Lock()
        self._made = b""
        self._made_s = float("-inf")
        self._took_s = 0.0
        self._looked_s = float("-inf")
        self._has_seen_end = asyncio.Event()

    async def index(self, request: Request) -> Response:
        """Show the strip and the frame; with the token in the address, keep it as a cookie and forget the address."""
        access = self.server.access
        given = request.query_params.get("token")
        if given is not None:
            if not access.is_token(given):
                raise Denied(401, "the token is wrong; open the address that was printed")
            moved = RedirectResponse("/", 303)
            moved.set_cookie(access.cookie, access.token, httponly=True, samesite="strict")
            return moved
        access.require("GET", request.headers)
        return Response(_asset("live.html"), media_type="text/html", headers={"content-security-policy": _PAGE})

    async def asset(self, request: Request) -> Response:
        """Serve the style or the script of the strip."""
        name = str(request.path_params["name"])
        if name not in ("live.css", "live.js"):
            raise Denied(404, "there is no such file")
        return Response(_asset(name), media_type=_KINDS[name.rpartition(".")[2]])

    async def report(self, _request: Request) -> Response:
        """Show the report so far; when the run has ended, the report."""
        self._looked_s = time.monotonic()
        steering = self._steering
        if steering.phase == "ended":
            path = steering.run.folder / "index.html"
            if not path.is_file():
                raise Unfit(f"this run has no report; {steering.detail}")
            body = await asyncio.to_thread(path.read_bytes)
            self._has_seen_end.set()
            return _framed(body)
        async with self._lock:
            if time.monotonic() - self._made_s >= max(_EVERY_S, _SHARE * self._took_s):
                await self._make()
        if not self._made:
            raise Unfit("there is nothing to report yet; wait for the load")
        return _framed(self._made)

    async def seen_out(self) -> None:
        """Wait a moment until a page that was looked at lately has the end."""
        if time.monotonic() - self._looked_s < 2 * max(_EVERY_S, _SHARE * self._took_s):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._has_seen_end.wait(), _LAST_S)

    async def _make(self) -> None:
        steering = self._steering
        if steering.timeline.t0_ns is None:
            return
        began_s = time.monotonic()
        try:
            folder, t0_ns = steering.run.folder, steering.timeline.t0_ns
            self._made = await asyncio.to_thread(_preview, folder, t0_ns, self._render)
        except (JournalError, OSError):
            return
        finally:
            self._made_s = time.monotonic()
            self._took_s = self._made_s - began_s


def _preview(folder: Path, t0_ns: int, render: Render) -> bytes:
    """Return the report of what is there, as if the run ended now."""
    with tempfile.TemporaryDirectory(prefix="seawall-live-") as name:
        copy = Path(name)
        for part in folder.glob("events-*.jsonl"):
            (copy / part.name).symlink_to(part)
        writer = EventWriter(copy, "preview")
        now_ns = time.monotonic_ns()
        writer.write(End(reason="finished", load_start_ns=t0_ns, load_end_ns=now_ns))
        writer.close()
        merge(copy)
        render(copy)
        return _UNJUDGED.sub(b"", (copy / "index.html").read_bytes())


def _framed(body: bytes) -> Response:
    return Response(body, media_type="text/html", headers={"content-security-policy": _FRAME})


def _asset(name: str) -> str:
    return resources.files("seawall.control").joinpath("assets", name).read_text(encoding="utf-8")
