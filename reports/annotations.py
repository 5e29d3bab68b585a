"""
What a run came to as workflow commands of GitHub: each at the line of the scenario file that asked for it.

A missed expectation stands at its own line, a fault's at the fault's, an invariant, which nobody wrote, at the first.
GitHub shows ten errors and ten warnings a step; the worst come first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from reports.model import RunView
from reports.svg import clean
from seawall.scenario.find import find
from seawall.scenario.nodes import Entry, Scalar, Sequence, compose
from seawall.scenario.nodes import Mapping as Tree
from seawall.scenario.problems import ScenarioError
from seawall.verdicts.model import Check, Verdict

__all__ = ["MESSAGE_MAX", "annotations_of", "file_of", "lines_of"]

MESSAGE_MAX = 1500
"""Characters of one message; GitHub cuts longer ones where it likes."""
_LEVELS = {Verdict.FAIL: "error", Verdict.INVALID: "error", Verdict.PARTIAL: "warning"}
_KEYS = {"threshold": "thresholds"} | {name: name for name in ("always", "sometimes", "eventually", "scaling")}
_PLACES = ("", "*/", "*/*/", "*/*/*/")
_FAULT = re.compile(r"\bfault (\S+?)\b", re.IGNORECASE)


def annotations_of(view: RunView, root: Path | None = None) -> list[str]:
    """
    Return one workflow command for each check that did not hold, the worst first.

    The file is looked for among Seawall's scenarios and below `root` (default: the workspace, or the working folder)
    and named only when it is the very one that was run.
    """
    root = (root or Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())).resolve()
    path = file_of(view.scenario_name, view.scenario, root)
    lines = lines_of(view.scenario, view.verdict.checks)
    found: list[str] = []
    for check in view.checks:
        level = _LEVELS.get(check.verdict)
        if level is None:
            continue
        title = f"{check.verdict}: {view.scenario_name} ({view.arena}): {check.name}"
        place = {"file": path, "line": str(lines.get(id(check), 1))} if path else {}
        found.append(_command(level, {**place, "title": title}, f"{check.reason} Run it again: {view.replay}"))
    if view.verdict.verdict in (Verdict.FAIL, Verdict.INVALID) and not any(
        each.startswith("::error") for each in found
    ):
        # A run may be worse than each of its checks: one whose scenario cannot be read has none.
        title = f"{view.verdict.verdict}: {view.scenario_name} ({view.arena})"
        found.insert(0, _command("error", {**({"file": path} if path else {}), "title": title}, view.verdict.why))
    return found


def file_of(name: str, text: str, root: Path) -> str | None:
    """Return the scenario file with this name and text, relative to `root`; None when there is none below it."""
    digest = hashlib.sha256(text.encode()).digest()
    for path in _candidates(name, root):
        try:
            is_it = hashlib.sha256(path.read_bytes()).digest() == digest
            relative = path.resolve().relative_to(root)
        except (OSError, ValueError):  # unreadable, or outside of the workspace
            continue
        if is_it:
            return relative.as_posix()
    return None


def _candidates(name: str, root: Path) -> Iterable[Path]:
    if not re.fullmatch(r"[\w.-]+", name):
        return
    with contextlib.suppress(ScenarioError):
        yield from find([name])
    for place in _PLACES:
        for ending in (".yaml", ".yml"):
            yield from sorted(root.glob(f"{place}{name}{ending}"))


def lines_of(text: str, checks: Iterable[Check]) -> dict[int, int]:
    """Return the line in the scenario `text` that asked for each of `checks`, by the check's `id()`; from 1."""
    try:
        tree = compose(text, "scenario").entries
    except ScenarioError:
        return {}
    faults = _fault_lines(tree)
    expect = tree["expect"].node if "expect" in tree else None
    asked = {group: _items(expect, key) for group, key in _KEYS.items()}
    counted = dict.fromkeys(_KEYS, 0)
    lines: dict[int, int] = {}
    for check in checks:
        line = None
        if check.group in _KEYS:
            items, place = asked[check.group], counted[check.group]
            counted[check.group] += 1
            line = items[place] if place < len(items) else None
        elif check.group == "steady_state":
            line = _steady_line(tree, check.name)
        else:
            named = (found.group(1) for found in _FAULT.finditer(f"{check.name} {check.reason}"))
            line = next((faults[name] for name in named if name in faults), None)
        lines[id(check)] = line or 1
    return lines


def _items(expect: object, key: str) -> list[int]:
    entry = expect.entries.get(key) if isinstance(expect, Tree) else None
    return [item.line for item in entry.node.items] if entry and isinstance(entry.node, Sequence) else []


def _steady_line(tree: Mapping[str, Entry], name: str) -> int | None:
    entry = tree.get("steady_state")
    if entry is None:
        return None
    mine = entry.node.entries.get(name.partition(" ")[0]) if isinstance(entry.node, Tree) else None
    return mine.line if mine else entry.line


def _fault_lines(tree: Mapping[str, Entry]) -> dict[str, int]:
    node = tree["faults"].node if "faults" in tree else None
    lines: dict[str, int] = {}
    for item in node.items if isinstance(node, Sequence) else ():
        name = item.entries.get("id") if isinstance(item, Tree) else None
        if name is not None and isinstance(name.node, Scalar):
            lines[str(name.node.value)] = item.line
    return lines


def _command(level: str, properties: Mapping[str, str], message: str) -> str:
    words = ",".join(f"{key}={_escaped(value, ':,')}" for key, value in properties.items())
    return f"::{level} {words}::{_escaped(message[:MESSAGE_MAX], '')}"


def _escaped(text: str, also: str) -> str:
    """Escape what would end a workflow command or one of its properties, as GitHub's own toolkit does."""
    for char in ("%", "\r", "\n", *also):
        text = text.replace(char, f"%{ord(char):02X}")
    return clean(text)
