"""Systems under test: one module a gateway, all of the shape that `base` gives."""

from __future__ import annotations

from seawall.systems.base import Launch, SystemUnderTest
from seawall.systems.seawall import SeawallSystem

__all__ = ["Launch", "SeawallSystem", "SystemUnderTest", "system_named"]

_SYSTEMS = {"seawall": SeawallSystem}


def system_named(name: str) -> SystemUnderTest:
    """Return the system of that name. Raises KeyError."""
    return _SYSTEMS[name]()
