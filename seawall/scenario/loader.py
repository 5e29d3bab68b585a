"""
Load a scenario file: everything that is wrong with it at once, each at its line and column.

Three stages, each only when the one before found nothing that makes it pointless: the text (size, UTF-8, YAML 1.2
without tags, aliases and duplicate keys), the typed models, and the checks between the parts. Parts that the models
refuse are left out of the third stage, so that one slip does not hide another.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path, PurePath
from typing import Any, cast

import msgspec
from pydantic import ValidationError

from seawall.scenario.checks import check
from seawall.scenario.model import Scenario
from seawall.scenario.nodes import Mapping, compose, plain
from seawall.scenario.problems import Problem, ScenarioError
from seawall.scenario.sentences import Path as Where
from seawall.scenario.sentences import empty_values, foreign_names, problems_of
from seawall.scenario.situation import Situation

__all__ = ["FILE_BYTES_MAX", "Loaded", "load_scenario", "load_text"]

FILE_BYTES_MAX = 256 * 1024
"""The largest scenario file, in bytes."""
_PROBLEMS_MAX = 200
_PLACEHOLDERS: dict[str, Any] = {
    "version": 1,
    "title": "unnamed",
    "load": {"executor": "arrivals", "arrivals": [{"at": "1s"}]},
}


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario, the text that it was read from, and what its author should know."""

    scenario: Scenario
    text: str
    sha256: str
    """Of the file's bytes, in hexadecimal."""
    name: str
    """The file's name without its ending."""
    warnings: tuple[Problem, ...]


def load_scenario(path: Path) -> Loaded:
    """Return the scenario in the file at `path`. Raises ScenarioError with every problem."""
    file = str(path)
    try:
        if not path.is_file():
            what = "this is not a file" if path.exists() else "there is no such file"
            raise ScenarioError([Problem(file, 0, 0, what, "name a scenario file")])
        with path.open("rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name cannot be used"
        message = f"the file cannot be read: {reason}"
        raise ScenarioError([Problem(file, 0, 0, message, "check its name and its permissions")]) from None
    return _load(data, file)


def load_text(text: str, name: str) -> Loaded:
    """Return the scenario that `text` is; `name` stands for the file. Raises ScenarioError with every problem."""
    return _load(text.encode("utf-8", "surrogatepass"), name)


def _load(data: bytes, file: str) -> Loaded:
    text = _decode(data, file)
    tree = compose(text.removeprefix("\ufeff"), file)
    scenario, found = _validate(tree, file)
    errors = sorted(
        (problem for problem in found if problem.severity == "error"),
        key=lambda problem: (problem.line, problem.column),
    )
    if errors or scenario is None:
        if len(errors) > _PROBLEMS_MAX:
            last = errors[_PROBLEMS_MAX]
            rest = Problem(
                file, last.line, last.column, "there are more problems from here on", "mend those above first"
            )
            errors = [*errors[:_PROBLEMS_MAX], rest]
        raise ScenarioError(errors)
    warnings = sorted(found, key=lambda problem: (problem.line, problem.column))
    name = PurePath(file).stem if file.endswith((".yaml", ".yml")) else file
    digest = hashlib.sha256(data).hexdigest()
    return Loaded(scenario=scenario, text=text, sha256=digest, name=name, warnings=tuple(warnings))


def _decode(data: bytes, file: str) -> str:
    if len(data) > FILE_BYTES_MAX:
        message = f"the file is over {FILE_BYTES_MAX // 1024} KB"
        raise ScenarioError([Problem(file, 1, 1, message, "split it: a scenario is a page or two")])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8")) + 1
        line = before.count(b"\n") + 1
        problem = Problem(file, line, column, "the file is not UTF-8 here", "save it as UTF-8")
        raise ScenarioError([problem]) from None


def _validate(tree: Mapping, file: str) -> tuple[Scenario | None, list[Problem]]:
    data = plain(tree)
    found = foreign_names(tree, file) + empty_values(tree, file)
    try:
        scenario = Scenario.model_validate(data)
    except ValidationError as error:
        details = cast("list[dict[str, Any]]", error.errors(include_url=False))
        said = {(problem.line, problem.column, problem.message) for problem in found}
        # One more than are shown, so that it is known that there are more: a file of slips is not worth minutes.
        more = problems_of(details[: _PROBLEMS_MAX + 1], tree, file)
        found += [p for p in more if (p.line, p.column, p.message) not in said]
        situation = _salvage(data, [detail["loc"] for detail in details], tree, file)
        return None, found + (list(check(situation)) if situation is not None else [])
    return scenario, found + list(check(Situation(scenario, tree, file)))


def _salvage(data: dict[str, Any], broken: list[Where], tree: Mapping, file: str) -> Situation | None:
    """Return the situation without its broken parts, or None when too little is left to say anything about."""
    data = copy.deepcopy(data)
    dropped: dict[Where, set[int]] = {}
    for where in broken:
        depth = 2 if where[:1] == ("faults",) else 3 if where[:1] == ("expect",) else 0
        if depth and len(where) >= depth and isinstance(where[depth - 1], int):
            dropped.setdefault(where[: depth - 1], set()).add(cast("int", where[depth - 1]))
        elif where:
            data.pop(str(where[0]), None)
            dropped[where[:1]] = set()
    ghosts: list[Any] = []
    indexes: dict[Where, tuple[int, ...]] = {}
    for where, gone in dropped.items():
        items: Any = data
        for part in where:
            items = items.get(part) if isinstance(items, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if not gone or not isinstance(items, list):
            continue
        listed = cast("list[Any]", items)
        if where == ("faults",):
            ghosts += [item.get("id") for n, item in enumerate(listed) if n in gone and isinstance(item, dict)]  # pyright: ignore[reportUnknownMemberType]
        indexes[where] = tuple(n for n in range(len(listed)) if n not in gone)
        listed[:] = [listed[n] for n in indexes[where]]
    load_known = "load" in data
    try:
        scenario = Scenario.model_validate(_PLACEHOLDERS | data)
    except ValidationError:
        return None
    return Situation(
        scenario,
        tree,
        file,
        load_known=load_known,
        ghosts=frozenset(name for name in ghosts if isinstance(name, str)),
        faults_known=("faults",) not in dropped,
        system_known=("system",) not in dropped,
        indexes=indexes,
    )
