"""
What a run may be worse than its baseline: `success_rate=-0.1%`, `latency_p99=+10%`, `spend_usd=+0.01`. Pure.

The sign says in which direction a change hurts, and the number how much of it is allowed. Of a rate or a share `%` are
points (99.9 % may become 99.8 %), of everything else a part of what it was. Times also take `ms` and `s`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from reports.svg import number

__all__ = ["Allowance", "BudgetError", "figure_named", "read_budget"]

_PATTERN = re.compile(r"([+-])\s*(\d+(?:\.\d+)?)\s*(%|ms|s|)")
_DURATION = re.compile(r"(latency|first_token|refusal_latency)_(p50|p95|p99|max)")
_FILE_BYTES_MAX = 64 * 1024


class BudgetError(ValueError):
    """A budget that cannot be read; the message says what is wrong and how it is written."""


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """How far one figure may go in one direction."""

    figure: str
    """The name in the verdict's figures; of a figure of each fault or provider the part before the colon is enough."""
    text: str
    sign: int
    """1: rising hurts; -1: falling hurts."""
    amount: float
    is_relative: bool

    def covers(self, figure: str) -> bool:
        """Return whether it limits this figure of a verdict."""
        return figure == self.figure or figure.partition(":")[0] == self.figure

    def broken(self, before: float, after: float) -> bool:
        """Return whether the change from `before` to `after` is more than is allowed."""
        allowed = abs(before) * self.amount if self.is_relative else self.amount
        # What is written in decimals must not fail by its last binary digit.
        return (after - before) * self.sign > allowed + 1e-9 * max(abs(before), abs(after), 1e-9)


def figure_named(metric: str) -> str:
    """Return the verdict's name of a figure: a metric of the scenario language (`latency_p99`) is one too."""
    found = _DURATION.fullmatch(metric)
    return f"{found[1]}_ms_{found[2]}" if found else metric


def read_budget(words: Iterable[str], known: Iterable[str]) -> tuple[Allowance, ...]:
    """
    Return the allowances of `words`: each `FIGURE=CHANGE`, or a YAML file that maps figures to changes.

    `known` are the figures of the runs. Raises BudgetError with everything that is wrong.
    """
    names = set(known)
    problems: list[str] = []
    found: list[Allowance] = []
    for metric, change in _pairs(words, problems):
        allowance = _allowance(metric, change)
        if allowance is None:
            problems.append(
                f"{metric}={change}: a change is a sign, a number and maybe a unit, such as -0.1%, +10%, +50ms"
            )
        elif not any(allowance.covers(name) for name in names):
            near = get_close_matches(metric, sorted(names), n=1, cutoff=0.5)
            fix = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(names))}"
            problems.append(f"{metric}: no figure of these runs is called so; {fix}")
        else:
            found.append(allowance)
    if problems:
        raise BudgetError("\n".join(problems))
    return tuple(found)


def _pairs(words: Iterable[str], problems: list[str]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for word in words:
        metric, equals, change = word.partition("=")
        if equals and not Path(word).is_file():
            pairs.append((metric.strip(), change.strip()))
            continue
        try:
            pairs += _of_file(Path(word))
        except (OSError, YAMLError, UnicodeDecodeError, BudgetError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
            problems.append(f"{word}: {reason}; a budget is FIGURE=CHANGE, or a YAML file of such lines")
    return pairs


def _of_file(path: Path) -> list[tuple[str, str]]:
    if path.stat().st_size > _FILE_BYTES_MAX:
        raise BudgetError("the file is too large for a budget")
    read: object = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))  # pyright: ignore[reportUnknownMemberType]
    if not isinstance(read, Mapping):
        raise BudgetError("the file is no mapping of figures to changes")
    return [
        (str(metric), change if isinstance(change, str) else f"{change!r} (no text)") for metric, change in read.items()
    ]


def _allowance(metric: str, change: str) -> Allowance | None:
    match = _PATTERN.fullmatch(change)
    if match is None:
        return None
    figure = figure_named(metric)
    amount, unit = float(match[2]), match[3]
    kind = figure.partition(":")[0]
    is_points = kind.endswith(("_rate", "_share"))
    in_ms, in_s = "_ms" in kind, kind.endswith("_s")
    if unit in {"ms", "s"}:
        if not (in_ms or in_s):
            return None
        amount *= (1 if unit == "ms" else 1000) if in_ms else (0.001 if unit == "ms" else 1)
    elif unit == "%":
        amount /= 100
    elif is_points or in_ms or in_s:
        return None  # 0.1 of what?
    return Allowance(
        figure=figure,
        text=f"{match[1]}{number(float(match[2]), 6)} {'points' if is_points else unit}".rstrip(),
        sign=1 if match[1] == "+" else -1,
        amount=amount,
        is_relative=unit == "%" and not is_points,
    )
