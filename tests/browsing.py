"""A real browser for tests: the system's Chromium without a window, and pages that may say nothing on the console."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

__all__ = ["chromium", "quiet_page"]

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser; skips the test where there is none, which in CI is a failure."""
    program = os.environ.get("SEAWALL_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} on PATH; SEAWALL_CHROMIUM names one elsewhere")
    # As root, which containers are, Chromium refuses its sandbox; what it shows here is ours.
    arguments = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@contextmanager
def quiet_page(browser: Browser, **more: Any) -> Iterator[tuple[Page, list[str]]]:
    """Open a page; what it says on the console, and requests to elsewhere than loopback, are in the list."""
    said: list[str] = []
    context = browser.new_context(**more)
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda sent: None if "//127.0.0.1:" in sent.url or sent.url.startswith("data:")
            else said.append(sent.url))  # fmt: skip
    yield page, said
    context.close()
