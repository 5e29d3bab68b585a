"""What can go wrong with certificates."""

from __future__ import annotations

from router.errors import ConfigurationError

__all__ = ["CertsError"]


class CertsError(ConfigurationError):
    """Certificate files are missing, damaged, or do not fit one another; the message says which and what to do."""

    code = "certificates"
