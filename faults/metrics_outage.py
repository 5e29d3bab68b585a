"""
The fault `metrics_outage`: the local cluster's metrics server answers 503, or knows of no pod.

It is an order to the cluster's kubelet, which serves the metrics; orders are a file in the kubelet's folder.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from faults.base import FaultError, Undo
from faults.registry import register

__all__ = ["MetricsOutageFault", "Outage", "change_orders", "read_orders"]

Outage = Literal["unavailable", "empty"]
_WORD = "metrics_outage"


class MetricsOutageFault(msgspec.Struct, frozen=True, kw_only=True):
    """Have the kubelet whose orders are the file `orders` answer as `outage` says."""

    id: str
    target: str
    orders: str
    outage: Outage

    def describe(self) -> str:
        """Return the fault in a few words."""
        return f"metrics outage ({self.outage})"

    def prepare(self) -> Undo:
        """Return how to undo it. Changes nothing. Raises FaultError when there is no such kubelet."""
        if not Path(self.orders).parent.is_dir():
            raise FaultError(f"fault {self.id}: {self.orders} is no kubelet's; the metrics server is not ours")
        return Undo(kind="metrics_outage", arguments={"orders": self.orders})

    def inject(self) -> None:
        """Put it in force. Raises FaultError."""
        change_orders(Path(self.orders), {_WORD: self.outage})


def read_orders(file: Path) -> dict[str, Any]:
    """Return the orders in a file, none where there is none. Raises FaultError."""
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise FaultError(f"the kubelet's orders {file} cannot be read: {error}") from error
    return found if isinstance(found, dict) else {}


def change_orders(file: Path, changes: dict[str, Any]) -> None:
    """Change some of the orders in a file, in one step; None takes one away. Raises FaultError."""
    orders = {key: value for key, value in (read_orders(file) | changes).items() if value is not None}
    new = file.with_suffix(f".{os.getpid()}.new")
    try:
        new.write_text(json.dumps(orders), "utf-8")
        new.replace(file)
    except OSError as error:
        raise FaultError(f"the kubelet's orders {file} cannot be written: {error}") from error


def _undo(record: Undo, *, deadline_s: float) -> None:
    file = Path(record.arguments["orders"])
    if file.parent.is_dir():  # else the kubelet is gone, and what it was told with it
        change_orders(file, {_WORD: None})


def _verify(record: Undo, *, deadline_s: float) -> bool:
    file = Path(record.arguments["orders"])
    return not file.parent.is_dir() or _WORD not in read_orders(file)


register("metrics_outage", undo=_undo, verify=_verify)
