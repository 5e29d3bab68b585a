"""
The fast transports, for whoever has their packages; the core itself knows httpx only.

`transport_named("auto")` is what the gateway and `EquippedRouter` call the providers with. Figures:
`python -m benchmarks.transports`.
"""

from __future__ import annotations

from importlib.util import find_spec

from router.errors import ConfigurationError
from router.transport import Transport

__all__ = ["NAMES", "transport_named"]

NAMES = ("auto", "httptools", "pyreqwest", "httpx")
"""What the setting TRANSPORT may say; `auto` is the first of the others that is installed."""
_EXTRAS = {"httptools": "gateway", "pyreqwest": "fast"}
"""Our extra that brings the package of a transport."""


def transport_named(name: str) -> Transport:
    """Return the transport of one of NAMES. Raises ConfigurationError where its package is not installed."""
    if name == "auto":
        name = next(one for one in NAMES[1:] if find_spec(one) is not None)
    if find_spec(name) is None:
        raise ConfigurationError(f"TRANSPORT={name} needs the package {name}: pip install 'seawall[{_EXTRAS[name]}]'")
    # Each loads a package that nobody needs who uses another.
    if name == "httptools":
        from seawall.transports.httptools_transport import HttptoolsTransport  # noqa: PLC0415

        return HttptoolsTransport()
    if name == "pyreqwest":
        from seawall.transports.pyreqwest_transport import PyreqwestTransport  # noqa: PLC0415

        return PyreqwestTransport()
    from router.httpx_transport import HttpxTransport  # noqa: PLC0415

    return HttpxTransport()
