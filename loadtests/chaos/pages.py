"""
The chaos page as a Flask blueprint of Locust's web UI; a thin hand to the harness's control API.

The harness's token stays in this process. The page's policy forbids whatever does not come from these routes.
"""

from __future__ import annotations

import json
import socket
from importlib import resources
from typing import Any

from flask import Blueprint, Response, request
from locust.env import Environment
from markupsafe import escape

from loadtests.chaos.guard import Guard
from loadtests.chaos.tabs import TABLES, TABS, rows_of
from loadtests.harness import Harness, HarnessError

__all__ = ["attach_pages"]

_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_KINDS = {"css": "text/css", "js": "text/javascript", "html": "text/html"}
_DOWNLOADS = {"journal": "journal.jsonl", "report": "report.html", "scenario": "scenario.yaml"}
_LINK = (
    '<a href="{href}" id="seawall-chaos" style="position:fixed;left:16px;bottom:16px;z-index:2000;padding:10px 16px;'
    "border-radius:8px;background:#0b5a7a;color:#fff;font:600 14px/1.2 system-ui,sans-serif;text-decoration:none;"
    'box-shadow:0 1px 4px rgba(0,0,0,.4)">Chaos page</a>'
)


def attach_pages(environment: Environment, harness: Harness) -> None:
    """Add the page, the tabs, the links to the page and the downloads to Locust's web UI."""
    web = environment.web_ui
    if web is None or web.app is None:
        return
    options = environment.parsed_options
    base = (getattr(options, "web_base_path", None) or "").rstrip("/")
    guard = Guard(getattr(options, "web_host", "") or "", socket.gethostname())
    pages = _Pages(harness, guard)
    blueprint = Blueprint("seawall", __name__, url_prefix=f"{base}/chaos")
    routes: list[tuple[str, Any, str]] = [
        ("/", pages.page, "GET"),
        ("/assets/<name>", pages.asset, "GET"),
        ("/state", pages.state, "GET"),
        ("/events", pages.events, "GET"),
        ("/faults", pages.inject, "POST"),
        ("/faults/<fault_id>/heal", pages.heal, "POST"),
        ("/abort", pages.abort, "POST"),
        ("/download/<what>", pages.download, "GET"),
    ]
    for path, view, method in routes:
        # Locust's own login, where it is on, holds for these too.
        shown = web.auth_required_if_enabled(view)
        blueprint.add_url_rule(path, view.__name__, shown, methods=[method])
    blueprint.before_request(pages.check)
    blueprint.after_request(_harden)
    web.app.register_blueprint(blueprint)
    web.template_args["extended_tabs"] = TABS
    web.template_args["extended_tables"] = TABLES
    web.template_args["extended_csv_files"] = [
        {"href": "./chaos/", "title": "Seawall: chaos page"},
        *({"href": f"./chaos/download/{what}", "title": f"Seawall: {what} of the run"} for what in _DOWNLOADS),
    ]

    @web.app.after_request
    def extend(response: Response) -> Response:
        """Put the rows beside Locust's statistics, and the link into its page."""
        if request.path == f"{base}/stats/requests" and response.is_json:
            told = {**(response.get_json() or {}), "extended_stats": rows_of(pages.told())}
            response.set_data(json.dumps(told))
        elif request.path == f"{base}/" and response.status_code == 200:
            link = _LINK.format(href=escape(f"{base}/chaos/"))
            response.set_data(response.get_data(as_text=True).replace("</body>", f"{link}</body>"))
        return response


class _Pages:
    """The views."""

    def __init__(self, harness: Harness, guard: Guard) -> None:
        self._harness = harness
        self._guard = guard

    def check(self) -> Response | None:
        """Take no request that the guard does not."""
        problem = self._guard.problem(request.method, dict(request.headers))
        return None if problem is None else _errors(problem, 403)

    def page(self) -> Response:
        """Show the page."""
        text = _asset("page.html").replace("{{token}}", escape(self._guard.token))
        return Response(text, mimetype="text/html")

    def asset(self, name: str) -> Response:
        """Serve its style or its script."""
        if name not in ("chaos.css", "chaos.js"):
            return _errors("there is no such file", 404)
        return Response(_asset(name), mimetype=_KINDS[name.rpartition(".")[2]])

    def state(self) -> Response:
        """Tell how the run stands."""
        return self._passed("GET", "/v1/state")

    def events(self) -> Response:
        """Tell what is new on the timeline."""
        since = request.args.get("since", 0, type=int)
        return self._passed("GET", f"/v1/events?since={max(since, 0)}")

    def inject(self) -> Response:
        """Inject a fault."""
        return self._passed("POST", "/v1/faults", request.get_data())

    def heal(self, fault_id: str) -> Response:
        """Heal a fault."""
        if not fault_id.replace("_", "").isalnum():
            return _errors("this is no fault's id", 404)
        return self._passed("POST", f"/v1/faults/{fault_id}/heal", b"{}")

    def abort(self) -> Response:
        """Abort the run."""
        return self._passed("POST", "/v1/abort", b"{}")

    def download(self, what: str) -> Response:
        """Hand out the journal, the report or the scenario of the run."""
        if what not in _DOWNLOADS:
            return _errors(f"there is no such download; choose one of {', '.join(_DOWNLOADS)}", 404)
        return self._passed("GET", f"/v1/{what}")

    def told(self) -> dict[str, Any]:
        """Return the state, empty where there is none."""
        try:
            return self._harness.get("/v1/state")
        except (HarnessError, ValueError):
            return {}

    def _passed(self, method: str, path: str, body: bytes | None = None) -> Response:
        try:
            headers, data = self._harness.raw(method, path, body)
        except HarnessError as error:
            if error.body:
                return Response(error.body, error.status, mimetype="application/json")
            return _errors(str(error), error.status)
        kept = {name: headers[name] for name in ("content-type", "content-disposition") if name in headers}
        return Response(data, 200, headers=kept)


def _errors(message: str, status: int) -> Response:
    told = {"errors": [{"field": "page", "message": message, "fix": ""}]}
    return Response(json.dumps(told), status, mimetype="application/json")


def _harden(response: Response) -> Response:
    # The mark of flask_cors for what it has seen: it leaves the answer as it is, readable for our own page only.
    response._FLASK_CORS_EVALUATED = True  # type: ignore[attr-defined]
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-store"
    return response


def _asset(name: str) -> str:
    return resources.files("loadtests.chaos").joinpath("assets", name).read_text(encoding="utf-8")
