"""
The keys and certificates of a local cluster: made anew for each, valid for a week, never leaving its state folder.

Three authorities, as Kubernetes wants them, for each opens another door: one for everything that serves or logs in, one
for the aggregation layer (`front-proxy`: whoever has its certificate speaks for any user), one for etcd (whoever has a
certificate of that reads and writes everything).
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["CLIENTS", "SERVING_NAMES", "make_certificates"]

SERVING_NAMES = ("localhost", "metrics-server.kube-system.svc", "kubernetes.default.svc")
"""What the serving certificate is for, besides 127.0.0.1."""
CLIENTS = {
    "kube-controller-manager": "system:kube-controller-manager",
    "kube-scheduler": "system:kube-scheduler",
    "chaos-controller-manager": "seawall:chaos-controller-manager",
}
"""Part → the user that its certificate logs it in as."""
_VALID_DAYS = 7
# Certificates of a machine whose clock was set back a little are good too.
_SLACK = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class _Authority:
    name: x509.Name
    key: ec.EllipticCurvePrivateKey


def make_certificates(folder: Path) -> None:
    """
    Make every key (mode 0600) and certificate of a cluster in `folder`, which is made.

    `ca.crt`, `front-proxy-ca.crt`, `etcd-ca.crt`; `serving`, `front-proxy-client`, `etcd`, `etcd-client` and those of
    CLIENTS with `.crt` and `.key`; `service-accounts.key` and `.pub`. Raises OSError.
    """
    folder.mkdir(mode=0o700)
    ca = _authority(folder / "ca.crt", "seawall-local")
    front_proxy = _authority(folder / "front-proxy-ca.crt", "seawall-local-front-proxy")
    etcd = _authority(folder / "etcd-ca.crt", "seawall-local-etcd")
    _issue(ca, folder, "serving", "kube-apiserver", serves=True, logs_in=False)
    for part, user in CLIENTS.items():
        _issue(ca, folder, part, user)
    _issue(front_proxy, folder, "front-proxy-client", "front-proxy-client")
    # etcd's gateway for JSON is a client of its own server and shows the same certificate.
    _issue(etcd, folder, "etcd", "etcd", serves=True)
    _issue(etcd, folder, "etcd-client", "kube-apiserver")
    key = ec.generate_private_key(ec.SECP256R1())
    _write_key(folder / "service-accounts.key", key)
    (folder / "service-accounts.pub").write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _authority(path: Path, name: str) -> _Authority:
    """Make an authority; its key stays in memory, so that nobody can issue another certificate later."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return _Authority(subject, key)


def _issue(
    authority: _Authority, folder: Path, file: str, name: str, *, serves: bool = False, logs_in: bool = True
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH] if logs_in else []
    builder = _builder(_name(name), authority.name, key)
    if serves:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
        names = [x509.DNSName(name) for name in SERVING_NAMES]
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([*names, address]), critical=False)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    (folder / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_key(folder / f"{file}.key", key)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
