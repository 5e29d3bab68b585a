"""`seawall list`, `seawall validate` and `seawall schema`: what can be said of scenarios without running them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seawall.plan import duration_of
from seawall.scenario import ScenarioError, find, json_schema, load_scenario, validate_paths
from seawall.screen import Screen, complain

__all__ = ["list_scenarios", "schema", "validate"]

_BAD = 2


def validate(options: Any) -> int:
    """Print every problem and warning of the scenarios named; 2 when there is a problem."""
    try:
        paths = find(options.names)
    except ScenarioError as error:
        return _refused(error.problems)
    problems = validate_paths(paths, warnings=True)
    screen = Screen()
    for problem in problems:
        screen.write(str(problem))
    errors = sum(problem.severity == "error" for problem in problems)
    counts = (
        _counted(len(paths), "scenario"),
        _counted(errors, "problem"),
        _counted(len(problems) - errors, "warning"),
    )
    screen.write(", ".join(counts))
    return _BAD if errors else 0


def list_scenarios(options: Any) -> int:
    """Print the scenarios in columns, or only names or tags."""
    try:
        paths = find([], tags=options.tag)
    except ScenarioError as error:
        return _refused(error.problems)
    screen = Screen()
    if options.names:
        screen.write("\n".join(path.stem for path in paths))
        return 0
    rows, broken = _rows(paths)
    if options.tags:
        screen.write("\n".join(sorted({tag for row in rows for tag in row[2].split(", ") if tag})))
        return 0
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    for name, seconds, tags, title in rows:
        screen.write(f"{name:<{widths[0]}}  {seconds:>{widths[1]}}  {tags:<{widths[2]}}  {title}".rstrip())
    for line in broken:
        screen.write(line)
    return 0


def schema(_options: Any) -> int:
    """Print the JSON Schema of scenario files."""
    Screen().write(json.dumps(json_schema(), indent=2))
    return 0


def _rows(paths: Iterable[Path]) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    """Return name, length, tags and title of each scenario, and a line for each that cannot be read."""
    rows: list[tuple[str, str, str, str]] = []
    broken: list[str] = []
    for path in paths:
        try:
            scenario = load_scenario(path).scenario
        except ScenarioError as error:
            broken.append(f"{path.stem} is broken: {error.problems[0]}")
            continue
        seconds = f"{duration_of(scenario.load.plan(scenario.seed)):g} s"
        rows.append((path.stem, seconds, ", ".join(scenario.tags), scenario.title))
    return rows, broken


def _refused(problems: Iterable[object]) -> int:
    for problem in problems:
        complain(str(problem))
    return _BAD


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
