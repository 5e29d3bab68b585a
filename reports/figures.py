"""Figures of a verdict in words: the unit is in the name. Pure."""

from __future__ import annotations

from reports.svg import number

__all__ = ["figure_text"]

_UNITS = {
    "_ms": " ms",
    "_s": " s",
    "_usd": " USD",
    "_rate": "%",
    "_share": "%",
}


def figure_text(name: str, value: float | None) -> str:
    """Return a figure of the verdict with the unit that its name tells; None is `n/a`."""
    if value is None:
        return "n/a"
    kind = name.split(":", 1)[0]
    for part, unit in _UNITS.items():
        if kind.endswith(part) or f"{part}_" in kind:
            return f"{number(value * 100, 2)} %" if unit == "%" else number(value, 4 if unit == " USD" else 1) + unit
    return number(value, 2)
