"""The verdict as Markdown for a pull request: what, why, which checks failed, how to see it again."""

from __future__ import annotations

import re

from reports.model import RunView
from reports.svg import clean, shortened
from seawall.verdicts.model import Check, Verdict

__all__ = ["ICONS", "markdown", "summary_of"]

ICONS = {Verdict.FAIL: "🛑", Verdict.INVALID: "⚠️", Verdict.SAFE: "🛡️", Verdict.PARTIAL: "🔶", Verdict.PASS: "✅"}
_ROWS_MAX = 20
_TEXT_MAX = 1500
"""Characters of one text: GitHub shows no summary over a megabyte."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~!@&])")


def markdown(text: str) -> str:
    """Return `text` as one line of Markdown that renders as just these words: no markup, link, mention or HTML."""
    return _SPECIAL.sub(r"\\\1", " ".join(shortened(text, _TEXT_MAX).split()))


def summary_of(view: RunView) -> str:
    """Return the summary of a run, ended by a line feed."""
    verdict = view.verdict
    lines = [
        f"## {ICONS[verdict.verdict]} {verdict.verdict}: {markdown(view.title)}",
        "",
        markdown(verdict.why),
        "",
    ]
    if view.alarm:
        lines += [f"**{markdown(view.alarm)}**", ""]
    if view.first_event:
        lines += [f"First seen: {markdown(view.first_event)}", ""]
    missed = [check for check in view.checks if check.verdict is not Verdict.PASS]
    if missed:
        lines += _checks(missed)
    lines += _figures(view)
    held = len(verdict.checks) - len(missed)
    lines += [f"{held} of {len(verdict.checks)} checks held. {markdown(view.undone_text)}", ""]
    lines += [*_fenced(view.replay), ""]
    return "\n".join(lines)


def _fenced(command: str) -> list[str]:
    """Return the command as a code block whose fence is longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", command)), default=0))
    return [f"{fence}sh", clean(command), fence]


def _checks(checks: list[Check]) -> list[str]:
    lines = ["| verdict | what must hold | measured | limit | why |", "| --- | --- | --- | --- | --- |"]
    for check in checks[:_ROWS_MAX]:
        cells = (check.verdict, check.name, check.figure, check.limit or "–", check.reason)
        lines.append("| " + " | ".join(markdown(cell) for cell in cells) + " |")
    if len(checks) > _ROWS_MAX:
        lines.append(f"\n… and {len(checks) - _ROWS_MAX} more in the report.")
    return [*lines, ""]


def _figures(view: RunView) -> list[str]:
    lines = ["| figure | value |", "| --- | --- |"]
    lines += [f"| {markdown(tile.label)} | {markdown(tile.value)} |" for tile in view.tiles]
    return [*lines, ""]
