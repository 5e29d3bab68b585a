"""
Orders to a kubelet that runs: a file in its folder, read again whenever it has changed.

A file needs no port and no token beyond the folder's own mode, is undone by writing it again, and can be looked at.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from seawall.cluster.kubelet.options import CONTROL, ForcedDeletion

__all__ = ["Control", "Orders", "write_orders"]

MetricsOutage = Literal["unavailable", "empty"]


class Orders(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a kubelet is told while it runs."""

    metrics_outage: MetricsOutage | None = None
    """`unavailable`: every question for metrics is answered 503. `empty`: no pod and no node has any."""
    forced_deletion: ForcedDeletion | None = None
    """How a deletion at grace 0 ends a process; without it as the kubelet's own option says."""
    events: str | None = None
    """The folder that the journal is written into; without it the one that SEAWALL_EVENTS names, or none."""


class Control:
    """The reader's side."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / CONTROL
        self._stamp: tuple[int, int] | None = None
        self._orders = Orders()

    def orders(self) -> Orders:
        """Return the orders in force. A file that is no good leaves those before it in force."""
        try:
            stat = self._file.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino)
            if stamp != self._stamp:
                self._orders = msgspec.json.decode(self._file.read_bytes(), type=Orders)
                self._stamp = stamp
        except FileNotFoundError:
            self._orders, self._stamp = Orders(), None
        except (OSError, msgspec.DecodeError):
            pass
        return self._orders


def write_orders(state: Path, orders: Orders) -> None:
    """Give orders to the kubelet of the cluster in `state`; they are in force within 0.3 s. Raises OSError."""
    file = state / "kubelet" / CONTROL
    new = file.with_suffix(f".{os.getpid()}.new")
    new.write_bytes(msgspec.json.encode(orders))
    new.replace(file)
