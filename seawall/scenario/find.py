"""Find scenario files by path, by name or by tag, and validate many at once."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seawall.scenario.loader import FILE_BYTES_MAX, load_scenario
from seawall.scenario.nodes import compose, plain
from seawall.scenario.problems import Problem, ScenarioError, listed, nearest

__all__ = ["find", "validate_paths"]

_ENDINGS = (".yaml", ".yml")


def find(names: Sequence[str], *, tags: Sequence[str] = ()) -> list[Path]:
    """
    Return scenario files, each once.

    A name is a path, or the name of a file in the folder of scenarios or below it (`primary-dark`,
    `regressions/lost-probe`). Without names: every `*.yaml` of that folder that has one of `tags`, all when there are
    none. Raises ScenarioError for every name that is unknown, and when no file has one of the tags.
    """
    if not names:
        return _tagged(tags)
    found: dict[Path, None] = {}
    problems: list[Problem] = []
    for name in names:
        path = _lookup(name)
        inside = _inside(name) if path is None else []
        if inside:
            found.update(dict.fromkeys(inside))
        elif path is None:
            problems.append(_unknown(name))
        else:
            found[path] = None
    if problems:
        raise ScenarioError(problems)
    return list(found)


def validate_paths(paths: Sequence[Path], *, warnings: bool = False) -> list[Problem]:
    """Return every problem of every file, in the order of `paths`; with `warnings`, these too (see `severity`)."""
    problems: list[Problem] = []
    for path in paths:
        try:
            loaded = load_scenario(path)
        except ScenarioError as error:
            problems.extend(error.problems)
        else:
            problems.extend(loaded.warnings if warnings else ())
    return problems


def _folder() -> Path:
    paths: Any = importlib.import_module("seawall.paths")
    return Path(paths.scenarios_dir())


def _files() -> list[Path]:
    return sorted(path for path in _folder().glob("*.yaml") if path.is_file())


def _inside(name: str) -> list[Path]:
    """Return the files of a folder of the scenarios, by the folder's name."""
    if not name.isidentifier():
        return []
    try:
        return sorted((_folder() / name).glob("*.yaml"))
    except OSError:  # a name that is too long
        return []


def _lookup(name: str) -> Path | None:
    """Return the file that a name means: a path first, then a file of the folder, then one anywhere below it."""
    written = Path(name)
    if "\x00" in name or not name.strip():
        return None
    try:
        if written.is_file():
            return written
    except OSError:  # a name that is too long, a folder that is not ours
        return None
    folder = _folder()
    bare = name.removesuffix(".yaml").removesuffix(".yml")
    direct = [folder / f"{bare}{ending}" for ending in _ENDINGS]
    below = [path for path in sorted(folder.rglob("*.yaml")) if path.stem == bare]
    try:
        return next((path for path in [*direct, *below] if path.is_file()), None)
    except OSError:
        return None


def _unknown(name: str) -> Problem:
    known = sorted(path.relative_to(_folder()).with_suffix("").as_posix() for path in _folder().rglob("*.yaml"))
    word = nearest(Path(name).stem, known)
    fix = f"did you mean `{word}`?" if word else f"the scenarios are {listed(known)}" if known else "name a file"
    return Problem(name, 0, 0, "there is no such scenario", fix)


def _tagged(tags: Sequence[str]) -> list[Path]:
    files = _files()
    if not tags:
        return files
    found = {path: _tags_of(path) for path in files}
    # A file that cannot be read stays: it is refused by name later, and never passed over in silence.
    chosen = [path for path, its_tags in found.items() if its_tags is None or its_tags.intersection(tags)]
    if not any(found[path] is not None for path in chosen):
        known = sorted({tag for its_tags in found.values() for tag in its_tags or ()})
        word = next((near for near in (nearest(tag, known) for tag in tags) if near), None)
        fix = f"did you mean `{word}`?" if word else f"the tags are {listed(known)}" if known else "add some files"
        raise ScenarioError([Problem(str(_folder()), 0, 0, f"no scenario is tagged {listed(tags)}", fix)])
    return chosen


def _tags_of(path: Path) -> set[str] | None:
    """Return the tags of a file whose other parts may be broken; None when it cannot be read."""
    try:
        with path.open("rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
        tags = plain(compose(data.decode("utf-8"), str(path))).get("tags")
    except (OSError, UnicodeDecodeError, ScenarioError):
        return None
    return {tag for tag in tags if isinstance(tag, str)} if isinstance(tags, list) else set()  # pyright: ignore[reportUnknownVariableType]
