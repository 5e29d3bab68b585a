"""What can go wrong with the local cluster."""

from __future__ import annotations

from router.errors import SeawallError

__all__ = ["ClusterError"]


class ClusterError(SeawallError):
    """The local cluster cannot be built, started, reached or ended. The message says what and how to fix it."""

    code = "cluster"
