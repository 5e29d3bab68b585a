"""A real browser, and reports of real (simulated) runs for it to show."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from reports.changes import compare_folders
from reports.render import render
from reports.suite import render_suite

_TESTS = str(Path(__file__).parents[1])
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)

from browsing import chromium  # noqa: E402 - these lie in the folder above, which is no package
from played import HOSTILE, play  # noqa: E402

SCENARIO = """\
version: 1
title: Gemini falls silent, later cuts streams, and nobody mends them
seed: 7
system:
  gateway: seawall
  settings: {CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 2s, first_byte_timeout: 1s, idle_timeout: 2s, midstream: error}
load: {executor: constant-arrival-rate, rate: 25/s, duration: 24s, stream: 50%, prompts: short}
faults:
  - {id: dark, at: 4s, duration: 4s, target: gemini, toxic: {type: timeout, attributes: {timeout: 0}}}
  - {id: cut, at: 14s, duration: 4s, target: gemini, respond: {cut_after_chunks: 5}, injection_rate: 30%}
expect:
  sometimes:
    - {breaker: gemini, reaches: open, during: dark}
  thresholds:
    - {metric: success_rate, limit: ">= 99.9%"}
    - {metric: latency_p99, limit: "< 1s", severity: advisory}
"""


@pytest.fixture(scope="module")
def browser(pages: dict[str, Path]) -> Iterator[Browser]:
    """
    Chromium without a window.

    While it is open its loop counts as running in this thread: the pages are made before, and no module shares it.
    """
    assert pages
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every kind of page: of a run that failed, one that is full of hostile words, a suite, and a comparison."""
    root = tmp_path_factory.mktemp("pages")
    before = play(SCENARIO.replace("seed: 7", "seed: 9"), root / "before", name="two-faults")
    run = play(SCENARIO, root / "run", name="two-faults")
    hostile = play(SCENARIO, root / "hostile", name="two-faults", hostile=HOSTILE)
    render(before)
    render(run, before)
    render(hostile)
    render_suite(root / "suite", [before, run, hostile])
    compare_folders((before, [before]), (run, [run]), ["success_rate=-0.1%"], root / "compare")
    return {
        "run": run / "index.html",
        "hostile": hostile / "index.html",
        "suite": root / "suite" / "index.html",
        "compare": root / "compare" / "compare.html",
    }


@pytest.fixture
def open_page(browser: Browser, pages: dict[str, Path]) -> Iterator[Callable[..., Page]]:
    """
    Return a function that opens a page in a browser of its own.

    Whatever the page says on the console, and every request but that for itself, fails the test.
    """
    said: list[str] = []
    contexts: list[Any] = []

    def opened(name: str, *, width: int = 1440, scheme: str = "light", script: bool = True, **more: Any) -> Page:
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme, java_script_enabled=script, **more)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        url = pages[name].as_uri()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: None if request.url.partition("#")[0] == url else said.append(request.url))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
