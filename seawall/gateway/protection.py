"""What the settings put around the plain gateway: TLS before it, sealed transcripts behind it. Off costs nothing."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from router.errors import ConfigurationError
from router.hybrid import HybridRouter
from router.settings import Settings

if TYPE_CHECKING:
    import uvicorn

    from seawall.gateway.config import GatewaySettings
    from seawall.gateway.server import GatewayServer

__all__ = ["TLS_FLAGS", "add_tls_flags", "app_with", "router_with", "server_with", "take_tls_flags"]

TLS_FLAGS = {
    "--tls-cert": "the gateway's certificate, a PEM file; with --tls-key it speaks TLS",
    "--tls-key": "its key, a PEM file",
    "--tls-client-ca": "clients must show a certificate of this CA, a PEM file",
    "--tls-crl": "the list of revoked client certificates, a PEM file; SIGHUP reads all these files again",
    "--tls-client-names": "which names of client certificates may call, with commas between",
}
"""Each is the setting of its name (TLS_CERT, …), and wins over it."""


def add_tls_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    for flag, words in TLS_FLAGS.items():
        parser.add_argument(flag, help=words)


def take_tls_flags(options: argparse.Namespace) -> None:
    """Make settings of the flags that are given, for this process and for the workers that it starts."""
    for flag in TLS_FLAGS:
        name = flag.removeprefix("--").replace("-", "_")
        if getattr(options, name) is not None:
            os.environ[name.upper()] = getattr(options, name)


def server_with(gateway: GatewaySettings, config: uvicorn.Config, **options: Any) -> GatewayServer:
    """Return the server that TLS_CERT and its like ask for. Raises ConfigurationError for files that do not fit."""
    from seawall.gateway.server import GatewayServer  # noqa: PLC0415 - with uvicorn, which a supervisor does not load
    from seawall.gateway.tls import TlsOptions, context_of, guarded_protocol  # noqa: PLC0415
    from seawall.gateway.tls_server import GatewayTlsServer  # noqa: PLC0415

    tls = TlsOptions.of(gateway)
    if tls is None:
        return GatewayServer(config, **options)
    config.http = guarded_protocol(tls.client_names)
    return GatewayTlsServer(config, make_context=lambda: context_of(tls), **options)


def router_with(
    gateway: GatewaySettings, settings: Settings, *, missed: Callable[[str], None], **options: Any
) -> HybridRouter:
    """Return the router that TRANSCRIPTS asks for; `missed` is told why an answer goes unrecorded."""
    if not gateway.transcripts:
        from seawall.equipped import EquippedRouter  # noqa: PLC0415 - one of two

        return EquippedRouter(settings, **options)
    try:
        from seawall.erasure.recording import RecordingRouter  # noqa: PLC0415 - needs an extra, most have no use for it
    except ImportError:
        raise ConfigurationError("TRANSCRIPTS needs the package cryptography: pip install 'seawall[crypto]'") from None
    return RecordingRouter(gateway, settings, missed=missed, **options)


def app_with(gateway: GatewaySettings, app: Any) -> Callable[..., Any]:
    """Return the app that knows whose conversation a request is part of, where anybody wants to know."""
    if not gateway.transcripts:
        return app
    from seawall.erasure.subjects import naming_subjects  # noqa: PLC0415 - most have no use for it

    return naming_subjects(app, gateway.transcripts_header)
