"""The documentation is true: its scenarios load, its commands exist and run, its links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seawall.scenario import load_text

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)(?:#[^)]*)?\)")
HARMLESS = {"list", "validate", "schema", "recover", "version"}


def _blocks(language: str) -> list[tuple[str, str]]:
    return [
        (f"{page.relative_to(ROOT)}:{page.read_text().count(chr(10), 0, match.start()) + 1}", match.group(2))
        for page in PAGES
        for match in BLOCK.finditer(page.read_text())
        if match.group(1) == language
    ]


def _commands() -> list[tuple[str, str]]:
    return [
        (place, line.removeprefix("$ "))
        for place, text in _blocks("console")
        for line in text.splitlines()
        if line.startswith("$ ")
    ]


@pytest.mark.parametrize(("place", "text"), [pytest.param(p, t, id=p) for p, t in _blocks("yaml")])
def test_scenarios_load(place: str, text: str) -> None:
    """Every scenario on a page is one that Seawall takes, without a warning."""
    assert not load_text(text, place).warnings


@pytest.mark.parametrize(
    ("place", "line"), [pytest.param(p, c, id=f"{p} {c}") for p, c in _commands() if c.startswith("seawall ")]
)
def test_commands_run(place: str, line: str, tmp_path: Path) -> None:
    """Every `seawall` command on a page runs in a folder where the tutorial's file is, as far as it starts nothing."""
    (tmp_path / "my-first.yaml").write_text(_blocks("yaml")[_first_of_tutorial()][1])
    words = shlex.split(line)[1:]
    if words[0] == "run" and "--plan" not in words:
        words.append("--plan")  # the plan of it: `test_tutorial_holds` runs the scenario itself
    elif words[0] not in HARMLESS and "--plan" not in words:
        words.append("--help")
    done = subprocess.run(
        [sys.executable, "-m", "seawall", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _first_of_tutorial() -> int:
    return next(n for n, (place, _) in enumerate(_blocks("yaml")) if place.startswith("docs/tutorial.md"))


@pytest.mark.real
def test_tutorial_holds(tmp_path: Path, toxiproxy_binary: Path) -> None:
    """The tutorial's first scenario passes, and its second fails with exit code 1."""
    scenarios = [text for place, text in _blocks("yaml") if place.startswith("docs/tutorial.md")]
    codes: list[int] = []
    for n, text in enumerate(scenarios):
        (tmp_path / f"scenario{n}.yaml").write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "seawall", "run", f"scenario{n}.yaml", "--out", "out"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        codes.append(done.returncode)
        if done.returncode == 3:  # only a busy machine is excused
            assert "the load generator kept its times" in done.stdout, done.stdout
    assert [code if code != 3 else want for code, want in zip(codes, (0, 1), strict=True)] == [0, 1], codes


@pytest.mark.parametrize(
    ("place", "text"), [pytest.param(p, t, id=p) for p, t in _blocks("python") if p.startswith("docs/testing.md")]
)
async def test_examples_of_testing_run(place: str, text: str) -> None:
    """Every example of how to test with the router holds as it stands, and leaves nothing open."""
    code = compile(text, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    made = eval(code, names := dict[str, Any](__name__="example"))  # noqa: S307 - our own page
    if made is not None:
        await made
    script = names.get("script")
    assert script is None or script.open_calls == 0


def test_links_lead_somewhere() -> None:
    """Every relative link of every page names a file that is there."""
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in LINK.findall(page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken


def test_reference_is_up_to_date() -> None:
    """The reference pages say what the models say today."""
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stale = [name for name, text in module.pages().items() if (ROOT / "docs/reference" / name).read_text() != text]
    assert not stale, f"run python docs/make_reference.py: {stale}"


def test_sessions_on_pages_exist() -> None:
    """Every `nox -s NAME` on a page is a session of the noxfile."""
    names = set(
        re.findall(r'^def (\w+)\(session|name=f?"([\w.{}_-]+)"', (ROOT / "noxfile.py").read_text(), re.MULTILINE)
    )
    known = {name for pair in names for name in pair if name} | {"tests-3.12", "tests-3.13"}
    named = {name for page in PAGES for name in re.findall(r"nox -s ([\w.-]+)", page.read_text())}
    assert named <= known, named - known
