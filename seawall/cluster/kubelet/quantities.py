"""Kubernetes quantities, `200m` of a core or `128Mi` of memory, as whole numbers. Pure."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

__all__ = ["ceiling", "milli", "number"]

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d+)|(n|u|m|k|[MGTPE]|[KMGTPE]i)?)")
_SUFFIXES = {
    **{suffix: Decimal(10) ** power for suffix, power in (("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3))},
    **{suffix: Decimal(10) ** (6 + 3 * n) for n, suffix in enumerate("MGTPE")},
    **{f"{suffix}i": Decimal(1024) ** (n + 1) for n, suffix in enumerate("KMGTPE")},
}


def number(quantity: str | float) -> Decimal:
    """Return the quantity as a number of cores, bytes, … Raises ValueError when it is none."""
    found = _QUANTITY.fullmatch(str(quantity).strip())
    if found is None:
        raise ValueError(f"{quantity!r} is no quantity; write one such as 200m, 0.5 or 128Mi")
    exponent = Decimal(10) ** int(found[2]) if found[2] else _SUFFIXES[found[3] or ""]
    return Decimal(found[1]) * exponent


def milli(quantity: str | float) -> int:
    """Return the quantity in thousandths, rounded up as Kubernetes does. Raises ValueError."""
    return ceiling(number(quantity) * 1000)


def ceiling(value: Decimal) -> int:
    """Return the least whole number that is not below `value`."""
    return int(value.to_integral_value(rounding=ROUND_CEILING))
