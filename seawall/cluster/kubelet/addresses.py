"""
The two addresses of a pod: the one it is known by, and the one where its process listens.

The API server takes no endpoint in 127.0.0.0/8. So a pod's status says 10.244.a.b, which nobody ever dials, and its
annotation ADDRESS says 127.x.a.b. The second byte x is this kubelet's own among all that run on this machine.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import NamedTuple, Self

from seawall.cluster.errors import ClusterError

__all__ = ["ADDRESS", "Addresses", "PodAddress"]

ADDRESS = "seawall.dev/address"
"""The annotation with the address where a pod's processes really listen."""

_FIRST, _LAST = 16, 240
_CLAIM_PORT = 44244
_PODS_MAX = 1 << 16


class PodAddress(NamedTuple):
    """`identity` is what the API server is told, `real` is where the pod listens."""

    identity: str
    real: str


class Addresses:
    """
    Hands out addresses, none twice until 65,000 others were: a dead pod's address is nobody else's soon after.

    The count is kept in `folder`, so that it goes on after a restart. `close` lets go of the second byte. Raises
    ClusterError where the machine answers on 127.0.0.1 only.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "addresses"
        self._claim, self._network = _claimed()
        self._count = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def next(self) -> PodAddress:
        """Return an address that was not used lately. Raises OSError when the count cannot be kept."""
        self._count = (self._count + 1) % _PODS_MAX
        # Neither the networks' own addresses nor their broadcasts: some programs refuse them.
        while self._count % 256 in {0, 255}:
            self._count = (self._count + 1) % _PODS_MAX
        new = self._file.with_suffix(".new")
        new.write_text(f"{self._count}\n", "ascii")
        new.replace(self._file)
        tail = f"{self._count >> 8}.{self._count & 255}"
        return PodAddress(f"10.244.{tail}", f"127.{self._network}.{tail}")

    def close(self) -> None:
        """Let another kubelet have our second byte. Idempotent."""
        self._claim.close()

    def _read(self) -> int:
        try:
            return int(self._file.read_text("ascii")) % _PODS_MAX
        except (OSError, ValueError):
            return 0


def _claimed() -> tuple[socket.socket, int]:
    """Return a socket that holds 127.x.255.254 for as long as this process lives, and x."""
    numbers = list(range(_FIRST, _LAST))
    random.shuffle(numbers)
    problem: OSError | None = None
    for number in numbers:
        claim = socket.socket()
        try:
            claim.bind((f"127.{number}.255.254", _CLAIM_PORT))
            claim.listen(1)
        except OSError as error:
            problem = error
            claim.close()
        else:
            return claim, number
    raise ClusterError(
        f"no address in 127.{_FIRST}.0.0 to 127.{_LAST - 1}.255.254 can be listened on ({problem}); pods as processes "
        "need a machine that answers on all of 127.0.0.0/8, as Linux does"
    )
