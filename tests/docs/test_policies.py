"""The policy pages are true: their snippets run, their defaults and events are the code's, their sections are there."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.events import Event
from router.settings import Secret, Settings

PAGES = sorted((Path(__file__).parents[2] / "docs" / "policies").glob("*.md"))
SECTIONS = ["About", "Usage", "Defaults", "Events", "State diagram", "Do and don't"]
EVENTS = {kind.__struct_config__.tag for kind in Event.__args__}
TRANSITION = re.compile(r" {4}(\[\*\]|\w+) --> (\[\*\]|\w+)( : [^:;]+)?")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def section(page: Path, name: str) -> str:
    """Return the text below a heading."""
    return page.read_text(encoding="utf-8").partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a table's rows."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_there_are_pages() -> None:
    """Each policy of the router has its page."""
    assert {page.stem for page in PAGES} >= {
        "air-gap",
        "breaker",
        "budget",
        "cooldown",
        "cost-arbitrage",
        "deadlines",
        "failover",
        "load-balancing",
        "midstream",
        "predictive-breaker",
    }


@pages
def test_sections_are_the_same_everywhere(page: Path) -> None:
    """A reader who knows one page finds their way on all."""
    assert re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE) == SECTIONS


@pages
async def test_snippets_run(page: Path) -> None:
    """Every Python block runs, with what it asserts; blocks of a page share their names."""
    names: dict[str, Any] = {"__name__": page.stem}
    found = blocks(page, "python")
    assert found
    for block in found:
        code = compile(block, f"{page.name}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        result = eval(code, names)  # noqa: S307 - our own pages
        if inspect.isawaitable(result):
            await result


@pages
def test_defaults_are_the_codes(page: Path) -> None:
    """Every setting of the table exists and has that default; `–` stands for nothing."""
    defaults = {field.name.upper(): field.default for field in msgspec.structs.fields(Settings)}
    found = rows(section(page, "Defaults"))
    assert found
    for name, default, *_ in found:
        value = defaults[name.strip("`")]
        empty = isinstance(value, Secret) or value is msgspec.NODEFAULT or value in ("", ())
        assert default == ("–" if empty else f"`{value}`"), name


@pages
def test_events_are_the_routers(page: Path) -> None:
    """Every event of the table is one that the router reports."""
    found = rows(section(page, "Events"))
    assert found
    assert {cells[0].strip("`") for cells in found} <= EVENTS


@pages
def test_state_diagram_can_be_drawn(page: Path) -> None:
    """Every line is a transition as mermaid takes it, and every state but the ends can be reached from the start."""
    (diagram,) = blocks(page, "mermaid")
    first, *lines = diagram.splitlines()
    assert first == "stateDiagram-v2"
    found = [TRANSITION.fullmatch(line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if match is None]
    arrows = {(match.group(1), match.group(2)) for match in found if match is not None}
    reached, before = {"[*]"}, set[str]()
    while reached != before:
        before = set(reached)
        reached |= {to for start, to in arrows if start in before and (start != "[*]" or before)}
    assert reached == {state for arrow in arrows for state in arrow}
