"""
The authority: a folder with the CA's key and certificate, a pair for each service, and the list of what was revoked.

    ca-cert.pem  ca-key.pem  crl.pem  <service>-cert.pem  <service>-key.pem

Every certificate serves and calls (serverAuth and clientAuth): a service is known by its name, its CN and first SAN.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from seawall.certs.errors import CertsError
from seawall.certs.files import Key, create, pem_of_key, read_certificates, read_crl, read_key, replace

__all__ = ["LOCAL_HOSTS", "Authority", "KeyKind"]

KeyKind = Literal["rsa4096", "ecdsa"]
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
"""What a certificate is also good for when nothing else is said of its service."""

_CA_DAYS = 3650
_BACKDATED = datetime.timedelta(minutes=5)  # for clocks that are a little behind
_SERVICE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HOST = re.compile(r"(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_RESERVED = "ca"
_SECRET, _PUBLIC = 0o600, 0o644


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Authority:
    """The certificate authority in `folder`. `now` is its clock. Every method may raise CertsError."""

    def __init__(self, folder: Path, *, now: Callable[[], datetime.datetime] = _utc_now) -> None:
        self.folder = folder
        self._now = now

    @property
    def crl_path(self) -> Path:
        """Where the list of revoked certificates is."""
        return self.folder / "crl.pem"

    def cert_path(self, name: str) -> Path:
        """Return where the certificate of a service (or `ca`) is."""
        return self.folder / f"{name}-cert.pem"

    def key_path(self, name: str) -> Path:
        """Return where the key of a service (or `ca`) is."""
        return self.folder / f"{name}-key.pem"

    def services(self) -> list[str]:
        """Return the names of the services that have a certificate."""
        found = (path.name.removesuffix("-cert.pem") for path in self.folder.glob("*-cert.pem"))
        return sorted(name for name in found if name != _RESERVED)

    def begin(self, kind: KeyKind = "rsa4096", *, days: int = _CA_DAYS) -> None:
        """Make the CA and an empty list of revoked certificates. Overwrites nothing."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CertsError(f"{self.folder} cannot be made: {error.strerror}") from None
        for path in (self.key_path(_RESERVED), self.cert_path(_RESERVED), self.crl_path):
            if path.exists():
                raise CertsError(
                    f"{path} is there already: {self.folder} has a CA, which is not overwritten; "
                    f"`seawall certs issue NAME` adds a service to it"
                )
        key = _new_key(kind)
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Seawall"),
                x509.NameAttribute(NameOID.COMMON_NAME, f"Seawall CA {x509.random_serial_number() % 16**8:08x}"),
            ]
        )
        start = self._now()
        certificate = (
            self._builder(name, name, key, start, start + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        create(self.key_path(_RESERVED), pem_of_key(key), _SECRET)
        create(self.cert_path(_RESERVED), certificate.public_bytes(Encoding.PEM), _PUBLIC)
        self._write_crl([])

    def issue(
        self, name: str, *, kind: KeyKind = "rsa4096", days: float = 90, hosts: Sequence[str] = LOCAL_HOSTS
    ) -> x509.Certificate:
        """
        Make a key and a certificate for the service `name`, good for its name and for `hosts` (names, addresses).

        Overwrites nothing.
        """
        if not _SERVICE.fullmatch(name) or name == _RESERVED:
            raise CertsError(f"{name!r} cannot name a service: small letters, digits and dashes, and not {_RESERVED!r}")
        for path in (self.cert_path(name), self.key_path(name)):
            if path.exists():
                raise CertsError(f"{path} is there already and is not overwritten; `seawall certs renew {name}` renews")
        key = _new_key(kind)
        certificate = self._sign(name, key, days, _alternatives([name, *hosts]))
        create(self.key_path(name), pem_of_key(key), _SECRET)
        create(self.cert_path(name), certificate.public_bytes(Encoding.PEM), _PUBLIC)
        return certificate

    def renew(self, name: str, *, days: float = 90, new_key: bool = False) -> x509.Certificate:
        """
        Give a service a new certificate with the same names, in the old one's place.

        It keeps its key, so that key and certificate fit at every instant, unless `new_key` is asked for or the old
        certificate was revoked: whatever the reason was, that key is not to be trusted again.
        """
        old = self.certificate(name)
        names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = read_key(self.key_path(name))
        fresh = new_key or self.is_revoked(old)
        if fresh:
            key = _new_key("rsa4096" if isinstance(key, rsa.RSAPrivateKey) else "ecdsa")
        certificate = self._sign(name, key, days, names)
        if fresh:
            replace(self.key_path(name), pem_of_key(key), _SECRET)
        replace(self.cert_path(name), certificate.public_bytes(Encoding.PEM), _PUBLIC)
        return certificate

    def revoke(self, name: str) -> bool:
        """Put a service's certificate on the list of revoked ones; return whether it was not there before."""
        certificate = self.certificate(name)
        if self.is_revoked(certificate):
            return False
        entry = (
            x509.RevokedCertificateBuilder()
            .serial_number(certificate.serial_number)
            .revocation_date(self._now())
            .build()
        )
        self._write_crl([*read_crl(self.crl_path), entry])
        return True

    def is_revoked(self, certificate: x509.Certificate) -> bool:
        """Say whether a certificate is on the list."""
        return read_crl(self.crl_path).get_revoked_certificate_by_serial_number(certificate.serial_number) is not None

    def certificate(self, name: str) -> x509.Certificate:
        """Return a service's certificate."""
        if not self.cert_path(name).exists():
            known = ", ".join(self.services()) or "none"
            raise CertsError(f"{self.folder} has no certificate of {name!r}; there are: {known}")
        return read_certificates(self.cert_path(name))[0]

    def ca(self) -> x509.Certificate:
        """Return the CA's certificate."""
        if not self.cert_path(_RESERVED).exists():
            raise CertsError(f"{self.folder} has no CA; `seawall certs init --dir {self.folder}` makes one")
        return read_certificates(self.cert_path(_RESERVED))[0]

    def _sign(self, name: str, key: Key, days: float, names: x509.SubjectAlternativeName) -> x509.Certificate:
        ca, ca_key = self.ca(), read_key(self.key_path(_RESERVED))
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Seawall"),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        start = self._now()
        end = min(start + datetime.timedelta(days=days), ca.not_valid_after_utc)
        return (
            self._builder(subject, ca.subject, key, start, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(names, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                    ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
                ),
                critical=False,
            )
            .sign(ca_key, hashes.SHA256())
        )

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: Key, start: datetime.datetime, end: datetime.datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start - _BACKDATED)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )

    def _write_crl(self, revoked: Sequence[x509.RevokedCertificate]) -> None:
        ca, ca_key = self.ca(), read_key(self.key_path(_RESERVED))
        number = 1
        if self.crl_path.exists():
            number = read_crl(self.crl_path).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
        now = self._now()
        # Good for as long as the CA: when a list runs out, TLS libraries refuse everybody.
        builder = x509.CertificateRevocationListBuilder().issuer_name(ca.subject).last_update(now)
        builder = builder.next_update(ca.not_valid_after_utc).add_extension(x509.CRLNumber(number), critical=False)
        for each in revoked:
            builder = builder.add_revoked_certificate(each)
        replace(self.crl_path, builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM), _PUBLIC)


def _new_key(kind: KeyKind) -> Key:
    if kind == "ecdsa":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=4096)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_encipherment=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternatives(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if not _HOST.fullmatch(host):
                raise CertsError(f"{host!r} is neither a host name nor an address") from None
            names.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(names)
