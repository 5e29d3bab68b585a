"""docs/dependencies.md and what we depend on agree: packages, parts that are not Python, Go modules, and imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from seawall.toolchain.parts import GO, PARTS, GoBuild, Wheel

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REVIEW, PARTS_SECTION = "\n## Review\n", "\n## Parts that are not Python\n"
ROOMS = ("router", "seawall", "faults", "loadtests", "reports", "benchmarks")
SIZE = re.compile(r"\d+(\.\d+)? / \d+(\.\d+)?")
# Import name → distribution, where the two differ.
DISTRIBUTIONS = {
    "dotenv": "python-dotenv",
    "opentelemetry": "opentelemetry-api",
    "ruamel": "ruamel-yaml",
    "toxiproxy": "toxiproxy-python",
}
# What only some rooms may import, by what brings it: the others must work without.
CORE_ROOMS = ("router",)


def rows(text: str) -> list[list[str]]:
    """Return the cells of all rows that begin with a name in backticks."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in lines]


def names(text: str) -> Counter[str]:
    """Return how often each name begins a row."""
    return Counter(name for first, *_ in rows(text) for name in re.findall(r"`([^`]+)`", first))


def distributions(lines: list[Any]) -> set[str]:
    """Return the names of requirements, our own left out."""
    found = {canonicalize_name(Requirement(line).name) for line in lines if isinstance(line, str)}
    return found - {PROJECT["project"]["name"]}


def declared() -> set[str]:
    """Return every requirement of the project, its extras, its groups and its build."""
    extras, groups = PROJECT["project"]["optional-dependencies"], PROJECT["dependency-groups"]
    lines = [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"]]
    return distributions([*lines, *(line for each in (*extras.values(), *groups.values()) for line in each)])


def direct_modules(path: Path) -> set[str]:
    """Return the modules that a go.mod requires directly, those of its tools too."""
    lines = path.read_text(encoding="utf-8").splitlines()
    tools = [line.removeprefix("tool ") for line in lines if line.startswith("tool ")]
    found = (re.match(r"(?:require |\t)(\S+) v\S+( // indirect)?$", line) for line in lines)
    return {
        match[1]
        for match in found
        if match and (not match[2] or any(tool.startswith(f"{match[1]}/") for tool in tools))
    }


def test_every_requirement_is_explained_and_reviewed_once() -> None:
    """Each package of pyproject.toml has one row that says why, and one of the review; no row is of a package gone."""
    reasons, review = names(PAGE.partition(REVIEW)[0]), names(PAGE.partition(REVIEW)[2].partition(PARTS_SECTION)[0])
    for found in (reasons, review):
        assert set(found) == declared(), set(found) ^ declared()
        assert set(found.values()) == {1}, [name for name, count in found.items() if count > 1]


@pytest.mark.parametrize("row", rows(PAGE.partition(REVIEW)[2].partition(PARTS_SECTION)[0]), ids=lambda row: row[0])
def test_a_review_says_size_upkeep_and_replacement(row: list[str]) -> None:
    """A row of the review has both sizes, who keeps the package, and a sentence on what would replace it."""
    _, size, upkeep, replacement = row
    assert SIZE.fullmatch(size)
    own, whole = map(float, size.split(" / "))
    assert own <= whole + 0.06  # rounded
    assert upkeep
    assert replacement.endswith(".")


def test_every_part_that_is_not_python_is_named() -> None:
    """Each program that Seawall finds or makes stands there, with the wheel or the modules that it comes from."""
    section = PAGE.partition(PARTS_SECTION)[2]
    for part in PARTS.values():
        assert f"| {part.title} |" in section or f"| {part.command} |" in section, part.title
        source = part.source
        wanted = source.distribution if isinstance(source, Wheel) else f"seawall/gomod/{source.module}/"
        assert f"`{wanted}`" in section, wanted
    assert f"`{GO.distribution}`" in section


def test_every_go_module_is_named() -> None:
    """What our go.mod files require directly has a reason there, and nothing else has."""
    builds = [part.source.folder for part in PARTS.values() if isinstance(part.source, GoBuild)]
    wanted = {name for folder in (*builds, ROOT / "k8s" / "localcluster") for name in direct_modules(folder / "go.mod")}
    assert {folder.name for folder in builds} == {path.name for path in (ROOT / "seawall" / "gomod").iterdir()}
    said = set(names(PAGE.partition(PARTS_SECTION)[2]))
    assert said == wanted, said ^ wanted


@pytest.mark.parametrize("room", ROOMS)
def test_every_import_is_declared(room: str) -> None:
    """A room imports the standard library, our own rooms and what pyproject.toml names; the router its core only."""
    allowed = distributions(PROJECT["project"]["dependencies"]) if room in CORE_ROOMS else declared()
    offences = [
        f"{path.relative_to(ROOT)}:{node.lineno} {module}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for module in imported(node)
        if module not in (*ROOMS, *sys.stdlib_module_names)
        and DISTRIBUTIONS.get(module, module.replace("_", "-")) not in allowed
    ]
    assert not offences, "\n".join(offences)


def imported(node: ast.AST) -> list[str]:
    """Return the top-level packages that a statement imports from outside its own package."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module.partition(".")[0]]
    return []
