"""`seawall run --live` on real parts: watched, broken by hand, aborted, and left clean."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
from command_harness import Harness, until, wait_for

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

SCENARIO = Path(__file__).parents[1] / "run" / "dark.yaml"


class _Browser:
    """What a browser does: keeps cookies, and says where a request comes from."""

    def __init__(self, url: str) -> None:
        self.base = url.partition("/?")[0]
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self.first = self.ask(url.removeprefix(self.base))

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return status and body, JSON decoded."""
        data = None if body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json", "origin": self.base} | headers
        request = urllib.request.Request(self.base + path, data, sent)  # noqa: S310 - our own server
        try:
            with self._opener.open(request, timeout=20) as answer:
                status, told = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, told = error.code, error.read()
        return status, json.loads(told) if told[:1] == b"{" else told


def test_a_run_is_watched_broken_by_hand_and_aborted(harness: Harness) -> None:
    """The page shows the report so far, a bad fault is refused, a good one active; abort undoes all, with code 130."""
    process = harness.start("run", str(SCENARIO), "--live", "--out", str(harness.out))
    said = until(process, "live report:")
    browser = _Browser(re.search(r"http://\S+", said)[0])  # type: ignore[index]
    rest: list[str] = []
    reader = threading.Thread(target=lambda: rest.extend(process.stdout or ()), daemon=True)
    reader.start()
    assert browser.first[0] == 200
    stranger = urllib.request.Request(f"{browser.base}/v1/state")  # noqa: S310 - our own server
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(stranger, timeout=10)  # noqa: S310 - our own server
    wait_for(lambda: browser.ask("/v1/state")[1].get("phase") == "loading", 60)
    status, told = browser.ask("/v1/faults", {"target": "claude", "duration": "3s", "respond": {"statsu": 500}})
    assert (status, told["errors"][0]["field"]) == (422, "respond.statsu")
    assert "status" in told["errors"][0]["fix"]
    status, told = browser.ask("/v1/faults", {"target": "claude", "duration": "5s", "respond": {"status": 500}})
    assert (status, told["id"], told["by_hand"]) == (201, "hand_1", True)
    wait_for(lambda: _phase(browser, "hand_1") == "active", 10)
    wait_for(lambda: _phase(browser, "dark") == "active", 20)
    wait_for(lambda: b"<svg" in (browser.ask("/page")[1] or b""), 10)
    page = browser.ask("/page")[1]
    assert b"hand_1" in page
    assert b'class="verdict' not in page, "nothing is judged before the end"
    assert any(entry["kind"] == "second" for entry in browser.ask("/v1/events?since=0")[1]["entries"])
    assert browser.ask("/v1/abort", {}, origin="http://evil.example")[0] == 403
    assert browser.ask("/v1/abort", {})[0] == 202
    before = time.monotonic()
    assert process.wait(30) == 130
    assert time.monotonic() - before < 25
    reader.join(5)
    assert process.stdout is not None
    process.stdout.close()
    verdict = harness.verdict()
    assert verdict["undone"] is True, "".join(rest)
    assert harness.undo_files() == []
    assert (harness.folder() / "index.html").stat().st_size > 0
    token = re.search(r"token=(\S+)", said)[1]  # type: ignore[index]
    assert not any(token in path.read_text(errors="replace") for path in harness.folder().glob("*") if path.is_file())


def test_live_watches_one_run_only(harness: Harness) -> None:
    """Several scenarios, or one in the simulation, are refused with what to do instead, before anything starts."""
    code, output = harness.run("run", "--live", "--tag", "ci")
    assert code == 2
    assert "name just one" in output


def _phase(browser: _Browser, fault_id: str) -> str:
    faults = browser.ask("/v1/state")[1]["faults"]
    return next(fault["phase"] for fault in faults if fault["id"] == fault_id)
