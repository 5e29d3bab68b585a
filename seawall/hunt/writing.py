"""What a hunt found, as a scenario file: what happens in words, how it was found, how to play it again."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path
from typing import Any

from seawall.commands.planned import fault_text
from seawall.hunt.document import Document, arrivals_of, yaml_of
from seawall.hunt.hunter import HuntResult
from seawall.hunt.trial import play
from seawall.paths import runs_dir
from seawall.scenario.loader import load_text
from seawall.scenario.model import Scenario
from seawall.scenario.quantities import duration_text

__all__ = ["Unsure", "found_dir", "text_of", "write"]

_WIDTH = 118
_REQUESTS_TOLD = 10
_SLUG_MAX = 64
_SCHEMA = "# yaml-language-server: $schema=../schema.json"


class Unsure(Exception):
    """A file that would not show what was found."""


def found_dir() -> Path:
    """Return where finds are written: `scenarios/found` of the checkout one works in, else `seawall-found`."""
    runs = runs_dir()
    is_checkout = runs.name == "out"
    return runs.parents[1] / "scenarios" / "found" if is_checkout else runs.parent / "seawall-found"


def write(result: HuntResult, folder: Path, *, commit: str | None, command: str, make_router: Any = None) -> Path:
    """
    Write the find of a search into `folder` and return the file.

    Raises Unsure, and writes nothing, when the file would not break the same check again.
    """
    assert result.found is not None  # noqa: S101 - there is nothing to write otherwise
    name = _slug(result)
    path = folder / f"{name}.yaml"
    number = 2
    while path.exists() and not _says_the_same(path, result):
        path = folder / f"{name}-{number}.yaml"
        number += 1
    text = text_of(result, path, commit=commit, command=command)
    scenario = load_text(text, path.name).scenario
    if result.check not in [check.name for check in play(scenario, make_router).broken]:
        raise Unsure(f"the scenario does not break {result.check!r} when it is played again")
    folder.mkdir(parents=True, exist_ok=True)
    half = folder / f".{path.name}.{os.getpid()}"
    try:
        half.write_text(text, "utf-8")
        half.replace(path)  # whole or not at all
    finally:
        half.unlink(missing_ok=True)
    return path


def text_of(result: HuntResult, path: Path, *, commit: str | None, command: str) -> str:
    """Return the text of the file, with the paragraph that explains it."""
    assert result.found is not None  # noqa: S101 - as above
    assert result.document is not None  # noqa: S101 - as above
    title = f"{_harms(result.found) or 'No fault'}: {result.check}"
    document = result.document | {"title": title[:200]}
    where = _shown(path)
    paragraphs = [
        f"{result.evidence[:1].upper()}{result.evidence[1:]}. That breaks the rule: {result.check}.",
        _story(result.found, document),
        _origin(result, commit, command),
        f"Again: seawall run --arena simulation {where}",
    ]
    if "wire" in result.found.arenas:
        paragraphs.append(f"On the wire: seawall run {where}")
    lines = [_SCHEMA]
    for paragraph in paragraphs:
        lines += textwrap.wrap(paragraph, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
    return "\n".join([*lines, yaml_of(document)])


def _origin(result: HuntResult, commit: str | None, command: str) -> str:
    how = f"schedule {result.found_after} of the search, made small in {result.shrinks} steps"
    return f"Found by `{command}` at commit {commit or 'unknown'}: {how}."


def _story(scenario: Scenario, document: Document) -> str:
    """Return in words what happens when, faults first."""
    parts: list[str] = []
    for fault in scenario.faults:
        start = duration_text(round(scenario.occurrences(fault.id)[0], 6)) if scenario.occurrences(fault.id) else "?"
        again = "" if fault.every is None else f", again every {duration_text(fault.every)}"
        what = f"{fault.target} {fault_text(fault)}".replace("process: ", "is hit by a ")
        parts.append(f"at {start}, for {duration_text(fault.duration)}{again}, {what}")
    arrivals = arrivals_of(document)
    told = [f"{duration_text(at_s)}{' (stream)' if stream else ''}" for at_s, stream in arrivals[:_REQUESTS_TOLD]]
    more = f" and {len(arrivals) - _REQUESTS_TOLD} more" if len(arrivals) > _REQUESTS_TOLD else ""
    parts.append(f"requests come at {', '.join(told)}{more}")
    return "What happens: " + "; ".join(parts) + "."


def _harms(scenario: Scenario) -> str:
    return ", ".join(f"{fault.target} {_harm(fault)}" for fault in scenario.faults)


def _harm(fault: Any) -> str:
    """Return the kind of harm in a word or two."""
    if fault.toxic is not None:
        return str(fault.toxic.type)
    if fault.respond is not None:
        return f"status {fault.respond.status}" if fault.respond.status is not None else str(fault.respond.kind)
    return f"process {fault.process}" if fault.process is not None else str(fault.kind)


def _slug(result: HuntResult) -> str:
    assert result.found is not None  # noqa: S101 - as above
    words = f"{_harms(result.found)} {result.check}"
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    return slug[:_SLUG_MAX].rpartition("-")[0] if len(slug) > _SLUG_MAX else slug


def _says_the_same(path: Path, result: HuntResult) -> bool:
    """Whether a file of that name has the same scenario, but for its title and comments."""
    assert result.found is not None  # noqa: S101 - as above
    try:
        return load_text(path.read_text("utf-8"), path.name).scenario.model_copy(update={"title": ""}) == (
            result.found.model_copy(update={"title": ""})
        )
    except (OSError, ValueError):
        return False


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return path.name
