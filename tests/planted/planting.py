"""
Plant a defect in a module of the router while it is imported: the files stay as they are, this process does not.

A bug is a file `tests/planted/<name>.diff`: a line that says what is wrong, a line that says where it was seen, and a
unified diff of at most 15 changed lines. Its hunks are found by their text, wherever they stand. Where the neighbouring
lines have changed they may be missed, as `patch` does it; the lines that a hunk takes away may not, and a hunk that
fits twice fits nowhere. A diff that does not apply is an error, at once and by name.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

__all__ = ["BUGS", "PLANT", "Bug", "Hunk", "PlantError", "bug", "planted_source", "sow"]

ROOT = Path(__file__).resolve().parents[2]
BUGS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.diff")))
PLANT = "SEAWALL_PLANT"
"""The environment variable that names the bug of a child process. Nobody but this folder's tests sets it."""


class PlantError(Exception):
    """A diff that cannot be read, or does not fit the module as it is today."""


class Hunk(NamedTuple):
    """One change: the lines as they are and as they are to be, and how many around them are only neighbours."""

    old: tuple[str, ...]
    new: tuple[str, ...]
    before: int
    after: int


class Bug(NamedTuple):
    """A defect: what is wrong, where the like was seen, and the hunks by path."""

    name: str
    title: str
    origin: str
    hunks: dict[str, list[Hunk]]
    changed: int
    """How many lines it takes away and adds."""


def bug(name: str) -> Bug:
    """Read a bug from its file. Raises PlantError for one that is none."""
    path = Path(__file__).with_name(f"{name}.diff")
    if not path.is_file():
        raise PlantError(f"there is no {path.name}; the bugs are {', '.join(BUGS)}")
    title, origin, *lines = path.read_text(encoding="utf-8").splitlines()
    hunks: dict[str, list[Hunk]] = {}
    body: list[str] = []
    target = ""
    for line in [*lines, "@@"]:
        if line.startswith(("--- ", "+++ ", "@@")):
            if body:
                hunks.setdefault(target, []).append(_hunk(name, body))
            body = []
            target = line.removeprefix("+++ b/") if line.startswith("+++ b/") else target
        else:
            body.append(line)
    if not hunks or "" in hunks or not origin.startswith("From: "):
        raise PlantError(f"{path.name} is not a title, a line `From: …` and a unified diff")
    changed = sum(line.startswith(("+", "-")) and not line.startswith(("+++ ", "--- ")) for line in lines)
    return Bug(name, title, origin.removeprefix("From: "), hunks, changed)


def planted_source(one: Bug, path: str, source: str) -> str:
    """Return the text of a module with the bug in it. Raises PlantError when it does not fit."""
    lines = source.splitlines()
    for hunk in one.hunks[path]:
        start, skipped = _place(one, path, hunk, lines)
        old = hunk.old[skipped.start : skipped.stop]
        lines[start : start + len(old)] = hunk.new[skipped.start : len(hunk.new) - (len(hunk.old) - skipped.stop)]
    return "\n".join(lines) + "\n"


def sow(name: str | None = None) -> Bug:
    """Plant the bug `name`, or the one that the environment names. Call it before anything of ours is imported."""
    one = bug(name or os.environ[PLANT])
    modules = {path.removesuffix(".py").replace("/", "."): path for path in one.hunks}
    early = sorted(module for module in modules if module in sys.modules)
    if early:
        raise PlantError(f"{one.name}: {', '.join(early)} is imported already")
    for path in one.hunks:  # now, so that one that no longer fits is told before anything has run
        planted_source(one, path, (ROOT / path).read_text(encoding="utf-8"))
    sys.meta_path.insert(0, _Sower(one, modules))
    return one


class _Sower(importlib.abc.MetaPathFinder):
    """Finds the modules of a bug, and has them loaded with it."""

    def __init__(self, one: Bug, modules: dict[str, str]) -> None:
        self._bug = one
        self._modules = modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._modules:
            return None
        name = self._modules[fullname]
        return importlib.util.spec_from_file_location(fullname, ROOT / name, loader=_Loader(self._bug, name))


class _Loader(importlib.abc.InspectLoader):
    """Loads one module with the bug in its text."""

    def __init__(self, one: Bug, path: str) -> None:
        self._bug = one
        self._path = path

    def get_source(self, fullname: str) -> str:
        return planted_source(self._bug, self._path, (ROOT / self._path).read_text(encoding="utf-8"))

    def is_package(self, fullname: str) -> bool:
        return self._path.endswith("__init__.py")


def _hunk(name: str, body: list[str]) -> Hunk:
    if any(line[:1] not in (" ", "+", "-", "") for line in body):
        raise PlantError(f"{name}.diff has a line that begins with neither a blank, nor + nor -")
    marks = "".join(line[:1] or " " for line in body)
    before, after = len(marks) - len(marks.lstrip(" ")), len(marks) - len(marks.rstrip(" "))
    old = tuple(line[1:] for line in body if not line.startswith("+"))
    new = tuple(line[1:] for line in body if not line.startswith("-"))
    if not re.search("[+-]", marks):
        raise PlantError(f"{name}.diff has a hunk that changes nothing")
    return Hunk(old, new, before, after)


def _place(one: Bug, path: str, hunk: Hunk, lines: list[str]) -> tuple[int, slice]:
    """Return where a hunk stands, and which of its old lines were found there: all, or fewer neighbours."""
    for missed in range(max(hunk.before, hunk.after) + 1):
        kept = slice(min(missed, hunk.before), len(hunk.old) - min(missed, hunk.after))
        old = list(hunk.old[kept])
        if not any(line.strip() for line in old):
            break
        found = [n for n in range(len(lines) - len(old) + 1) if lines[n : n + len(old)] == old]
        if len(found) == 1:
            return found[0], kept
        if len(found) > 1:
            raise PlantError(f"{one.name}.diff fits {path} in {len(found)} places; give it more lines around")
    gone = "\n".join(hunk.old)
    raise PlantError(f"{one.name}.diff does not fit {path} any more; bring it up to date. It looks for:\n{gone}")
