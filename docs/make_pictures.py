"""
Make the pictures of the documentation from real runs: `python docs/make_pictures.py [RUN SUITE]`, or `nox -s pictures`.

Runs one scenario on real parts, and all of them in the simulation, and takes pictures of their reports with the
system's Chromium. Exit code 1 when a run did not pass or a picture is too large.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests"))

from browsing import chromium  # noqa: E402 - the tests' own way to a browser

PICTURES = DOCS / "pictures"
BYTES_MAX = 150_000
WIDTH = 1000


def main(folders: list[str]) -> int:
    """Run, unless `folders` are of a run and a suite that are there, and take the pictures; return 0 or 1."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="seawall-pictures-") as name:
        wire, suite = (Path(folder) for folder in folders) if folders else (Path(name) / "wire", Path(name) / "all")
        if not folders and not (
            _passes(wire, "primary-dark", "--seed", "7") and _passes(suite, "--all", "--arena", "simulation")
        ):
            sys.stderr.write("a run did not pass: no pictures of it\n")
            return 1
        if not folders:
            wire, suite = wire / "latest", suite / "latest"
        _take(wire.resolve() / "index.html", suite.resolve() / "index.html")
    sizes = {path: path.stat().st_size for path in sorted(PICTURES.glob("*.png"))}
    for path, size in sizes.items():
        too_large = " is too large" if size > BYTES_MAX else ""
        sys.stdout.write(f"{path.relative_to(DOCS.parent)}: {size} bytes{too_large}\n")
    return int(max(sizes.values()) > BYTES_MAX)


def _take(run: Path, suite: Path) -> None:
    for scheme in ("light", "dark"):
        with _page(run, scheme) as page:
            _shoot(page, f"report-{scheme}", height=740)
    with _page(run, "light") as page:
        page.locator(".band").first.click()
        page.locator("#c-rate svg.chart").hover()
        _shoot(page, "report-time", what="#time", height=900)
        _shoot(page, "report-faults", what="#faults", height=760)
    with _page(suite, "light") as page:
        _shoot(page, "suite", height=740)


def _passes(out: Path, *arguments: str) -> bool:
    command = [sys.executable, "-m", "seawall", "run", *arguments, "--out", str(out)]
    # A busy machine makes a run invalid: it is given a second one.
    return any(subprocess.run(command, check=False).returncode == 0 for _ in range(2))


@contextlib.contextmanager
def _page(path: Path, scheme: str) -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_context(viewport={"width": WIDTH, "height": 900}, color_scheme=scheme).new_page()
        page.goto(path.as_uri())
        yield page


def _shoot(page: Page, name: str, *, what: str = "body", height: int) -> None:
    box = page.locator(what).bounding_box()
    if box is None:
        raise RuntimeError(f"there is no {what} on the page")
    top = page.evaluate("scrollY") + box["y"]
    clip = {"x": 0, "y": max(top - 16, 0), "width": WIDTH, "height": min(height, box["height"] + 32)}
    page.screenshot(path=str(PICTURES / f"{name}.png"), full_page=True, clip=clip)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
