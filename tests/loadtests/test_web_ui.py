"""Locust's web UI in a real browser: an outage by hand, seen, healed and reported; and who may ask for it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_HERE = Path(__file__).parent
for _folder in (str(_HERE), str(_HERE.parent)):
    if _folder not in sys.path:
        sys.path.insert(0, _folder)

from browsing import chromium, quiet_page  # noqa: E402 - only now can they be found
from interactive import Interactive, ask  # noqa: E402

from seawall.processes import free_port  # noqa: E402

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


@pytest.fixture
def locust(tmp_path: Path, toxiproxy_binary: Path) -> Iterator[Interactive]:
    """Locust with folders of its own; Toxiproxy is there already."""
    started = Interactive(tmp_path)
    yield started
    started.close()


def test_an_outage_by_hand_is_seen_healed_and_reported(locust: Interactive) -> None:
    """Started in Locust's form, broken and healed on the chaos page, stopped, and reported; no word of error."""
    port = free_port()
    locust.start("--web-host", "127.0.0.1", "--web-port", str(port))
    url = f"http://127.0.0.1:{port}"
    locust.wait_for(lambda: ask(f"{url}/stats/requests")[0] == 200)
    shots = os.environ.get("SEAWALL_SCREENSHOTS")
    with chromium() as browser, quiet_page(browser, viewport={"width": 1440, "height": 1000}) as (page, said):
        page.goto(url)
        page.fill("input[name=userCount]", "8")
        page.fill("input[name=spawnRate]", "8")
        page.click("button[type=submit]")
        page.wait_for_selector("text=Statistics")
        page.click("#seawall-chaos")
        page.wait_for_selector("#inject:not([disabled])")
        page.wait_for_function("() => Number(document.querySelector('#t-requests').textContent) > 20")
        page.select_option("#target", "gemini")
        page.select_option("#what", "No connection")
        page.fill("#duration", "30")
        page.click("#inject")
        page.wait_for_selector("#faults td:has-text('active')")
        # The fallback takes over: the breaker opens, and Claude's answers grow.
        page.wait_for_selector("#providers tr:has-text('gemini') .mark.open")
        page.wait_for_function(
            "() => Number(document.querySelectorAll('#providers tr')[1].children[2].textContent) > 10"
        )
        _looks_well(page, shots)
        page.click("button[aria-label='Heal hand_1']")
        page.wait_for_selector("#faults td:has-text('undo verified')")
        page.wait_for_selector("#providers tr:has-text('gemini') .mark.closed")
        page.goto(url)
        page.click("text=Providers")
        page.wait_for_selector("td:has-text('gemini')")
        if shots:
            page.screenshot(path=f"{shots}/locust-1440.png")
            page.set_viewport_size({"width": 390, "height": 844})
            page.screenshot(path=f"{shots}/locust-390.png")
            page.set_viewport_size({"width": 1440, "height": 1000})
        with page.expect_response("**/stop"):
            page.click("button:has-text('Stop')")
        page.goto(f"{url}/chaos/")
        page.wait_for_selector("#clock:has-text('the run has ended')")
        with page.expect_download() as report:
            page.click("text=Report of the run")
        with page.expect_download() as scenario:
            page.click("text=The run as a scenario")
        assert "hand_1" in Path(report.value.path()).read_text(encoding="utf-8")
        assert "hand_1" in Path(scenario.value.path()).read_text(encoding="utf-8")
        assert said == []
    locust.close()
    verdict = json.loads((locust.run() / "verdict.json").read_text())
    assert verdict["undone"] is True
    broken = [check for check in verdict["checks"] if check["verdict"] == "fail"]
    assert broken == []


def _looks_well(page: Page, shots: str | None) -> None:
    """Ask axe-core in both themes, and whether anything overflows at the three widths; take pictures where wanted."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page).response
        bad = [each for each in found["violations"] if each["impact"] in {"serious", "critical"}]
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in bad] == []
        for width in (390, 768, 1440):
            page.set_viewport_size({"width": width, "height": 1000})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            if shots:
                page.screenshot(path=f"{shots}/chaos-{width}-{scheme}.png", full_page=True)
    page.emulate_media(color_scheme="light")


def test_the_login_holds_for_the_chaos_page_too(locust: Interactive) -> None:
    """With `--web-login` nobody sees the page, the state or the journal without it, and the token is not told."""
    port = free_port()
    locust.start("--web-host", "127.0.0.1", "--web-port", str(port), "--web-login")
    url = f"http://127.0.0.1:{port}"
    locust.wait_for(lambda: ask(f"{url}/login")[0] in (200, 500))
    for path in ("", "state", "events", "download/journal", "assets/chaos.js"):
        status, _, body = ask(f"{url}/chaos/{path}")
        assert status != 200 or b"seawall" not in body.lower(), path
        assert b"seawall-page" not in body


def test_nobody_else_may_break_things(locust: Interactive) -> None:
    """A foreign page, a foreign name and a request without the page's token are turned away; no other page may read."""
    port = free_port()
    locust.start("--web-host", "127.0.0.1", "--web-port", str(port))
    url = f"http://127.0.0.1:{port}"
    locust.wait_for(lambda: ask(f"{url}/stats/requests")[0] == 200)
    status, headers, body = ask(f"{url}/chaos/")
    assert status == 200
    assert "access-control-allow-origin" not in headers
    assert "script-src 'self'" in headers["content-security-policy"]
    token = body.decode().partition('name="seawall-page" content="')[2].partition('"')[0]
    assert ask(f"{url}/chaos/", Host="evil.example")[0] == 403
    assert ask(f"{url}/chaos/state", Origin="http://evil.example")[0] == 403
    assert ask(f"{url}/chaos/abort", {})[0] == 403
    assert ask(f"{url}/chaos/abort", {}, **{"X-Seawall-Page": token, "Origin": "http://evil.example"})[0] == 403
    # With the token it is the harness that answers: there is no run to abort.
    assert ask(f"{url}/chaos/abort", {}, **{"X-Seawall-Page": token})[0] == 409
    locust.processes[0].terminate()
    assert locust.processes[0].wait(30) == 0
