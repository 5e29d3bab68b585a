"""The router's tables, as JSON: prices and models with their dates, capabilities, rules of arbitrage."""

from __future__ import annotations

from importlib.resources import files
from typing import TypeVar

import msgspec

__all__ = ["data_file"]

_T = TypeVar("_T")


def data_file(name: str, kind: type[_T]) -> _T:
    """Return a data file as `kind`."""
    return msgspec.json.decode(files("router.data").joinpath(f"{name}.json").read_bytes(), type=kind)
