"""
Mutual TLS at the gateway itself: which files make its side of it, and who may call.

    TLS_CERT, TLS_KEY     who we are                          TLS_CRL             whom we do not believe any more
    TLS_CLIENT_CA         whom we believe who they are        TLS_CLIENT_NAMES    which of these may call

The files are read again on SIGHUP (`GatewayTlsServer`). A resumed session is not checked again, so there are no
tickets, and the sessions that Python cannot turn off (by id, TLS 1.2) end with their context at the next SIGHUP.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from router.errors import ConfigurationError, SeawallError
from seawall.gateway.protocol import GatewayProtocol
from seawall.gateway.wire import error_json
from seawall.screen import complain

if TYPE_CHECKING:
    from cryptography import x509

    from seawall.gateway.config import GatewaySettings

__all__ = ["ClientNotAllowed", "TlsOptions", "context_of", "guarded_protocol", "names_in"]

_FAREWELL_S = 0.5


class ClientNotAllowed(SeawallError):
    """The client's certificate is good, but its name is not among TLS_CLIENT_NAMES."""

    code = "client_not_allowed"
    status = 403


class TlsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one side of TLS. Raises ConfigurationError for a combination that makes no sense."""

    cert: Path
    key: Path
    client_ca: Path | None = None
    crl: Path | None = None
    client_names: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: GatewaySettings) -> TlsOptions | None:
        """Return the options that the settings make; None: no TLS."""
        cert, key = settings.tls_cert, settings.tls_key
        client_ca, crl, names = settings.tls_client_ca, settings.tls_crl, settings.tls_client_names
        problems: list[str] = []
        if bool(cert) != bool(key):
            problems.append("TLS_CERT and TLS_KEY go together; give both, or neither")
        if client_ca and not cert:
            problems.append("TLS_CLIENT_CA needs TLS_CERT and TLS_KEY: clients are asked for a certificate within TLS")
        if (crl or names) and not client_ca:
            problems.append("TLS_CRL and TLS_CLIENT_NAMES need TLS_CLIENT_CA: without it no client is asked who it is")
        if problems:
            raise ConfigurationError(*problems)
        if not cert:
            return None
        return cls(
            cert=Path(cert),
            key=Path(key),
            client_ca=Path(client_ca) if client_ca else None,
            crl=Path(crl) if crl else None,
            client_names=names,
        )


def context_of(options: TlsOptions) -> ssl.SSLContext:
    """
    Read the files and return the context of a server: TLS 1.2 or newer, client certificates where there is a CA.

    Raises ConfigurationError where the files do not fit one another. An expired certificate is told on standard error
    and served nevertheless: clients then see what is wrong, and SIGHUP brings the renewed one.
    """
    _check(options)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _Telling
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(options.cert, options.key)
        if options.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(options.client_ca)
        if options.crl is not None:
            context.load_verify_locations(options.crl)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"the TLS files cannot be used: {error}") from None
    return context


def names_in(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the names in a peer's certificate, as `getpeercert` tells it: CN, and SANs that are names or URIs."""
    if not certificate:
        return frozenset()
    common = {value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"}
    others = {value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "URI")}
    return frozenset(common | others)


def guarded_protocol(allowed: Sequence[str]) -> type[GatewayProtocol]:
    """Return uvicorn's protocol for TLS connections whose client must have one of these names; none: anybody's."""
    names = frozenset(allowed)

    class Guarded(GatewayProtocol):
        """A connection on which a client of the wrong name gets a 403 and nothing else."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(cast("asyncio.Transport", _Closing(transport)))
            if names and names.isdisjoint(names_in(transport.get_extra_info("peercert"))):
                self.app = _refuse

    return Guarded


class _Telling(ssl.SSLObject):
    """
    A server's side of a connection whose client learns why its handshake failed.

    asyncio and uvloop drop the connection together with the alert that says it. So a failure is first told as "more
    is to be read", upon which they send what is to be sent, and as itself when the client has taken that.
    """

    _failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        """See ssl.SSLObject."""
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLSyscallError):
            raise
        except ssl.SSLError as error:
            self._failure = error
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "the alert goes out first") from None


class _Closing:
    """A TLS transport that waits a moment only for the peer's word of farewell: an idle client does not read it."""

    __slots__ = ("_inner", "_loop")

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def close(self) -> None:
        """See asyncio.BaseTransport."""
        self._inner.close()
        self._loop.call_later(_FAREWELL_S, self._end)

    def _end(self) -> None:
        if self._inner.get_write_buffer_size():  # a slow reader: asyncio's own bound of 30 s holds
            self._loop.call_later(_FAREWELL_S, self._end)
        else:
            self._inner.abort()


async def _refuse(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer any request of a client that may not call."""
    body = error_json(ClientNotAllowed("the client certificate is good, but its name is not among TLS_CLIENT_NAMES"))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": ClientNotAllowed.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _check(options: TlsOptions) -> None:
    try:
        from seawall.certs.files import read_certificates, read_crl, read_key  # noqa: PLC0415 - needs an extra
    except ImportError:
        raise ConfigurationError("TLS_CERT needs the package cryptography: pip install 'seawall[crypto]'") from None

    own, *_ = read_certificates(options.cert)
    if read_key(options.key).public_key() != own.public_key():
        raise ConfigurationError(f"TLS_KEY {options.key} is not the key of TLS_CERT {options.cert}; give a pair")
    if own.not_valid_after_utc <= datetime.now(UTC):
        complain(
            f"seawall serve: TLS_CERT {options.cert} expired at {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC and no "
            f"client will accept it; renew it, then send SIGHUP"
        )
    if options.client_ca is None:
        return
    authorities = read_certificates(options.client_ca)
    if not any(_is_authority(each) for each in authorities):
        raise ConfigurationError(f"TLS_CLIENT_CA {options.client_ca} is not a CA's certificate")
    if options.crl is None:
        return
    crl = read_crl(options.crl)
    if not any(crl.issuer == each.subject and _signed(crl, each) for each in authorities):
        raise ConfigurationError(
            f"TLS_CRL {options.crl} was not signed by TLS_CLIENT_CA {options.client_ca}; every client would be refused"
        )
    if crl.next_update_utc is not None and crl.next_update_utc <= datetime.now(UTC):
        raise ConfigurationError(
            f"TLS_CRL {options.crl} was good until {crl.next_update_utc:%Y-%m-%d %H:%M} UTC only, so that every client "
            f"would be refused; have the CA make a new one"
        )


def _is_authority(certificate: x509.Certificate) -> bool:
    from cryptography import x509  # noqa: PLC0415 - needs an extra

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _signed(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
