"""Reading and writing PEM files: never half, never over another, keys for their owner's eyes only."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from seawall.certs.errors import CertsError

__all__ = ["Key", "create", "pem_of_key", "read_certificates", "read_crl", "read_key", "replace"]

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
SECRET, PUBLIC = 0o600, 0o644


def create(path: Path, data: bytes, mode: int) -> None:
    """Write a file that is not there yet, durably. Raises CertsError when it is: nothing is overwritten."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise CertsError(f"{path} is there already and is not overwritten; choose another --dir, or renew it") from None
    except OSError as error:
        raise CertsError(f"{path} cannot be written: {error.strerror}") from None
    _fill(descriptor, data, mode)
    _sync_folder(path.parent)


def replace(path: Path, data: bytes, mode: int) -> None:
    """Put a new content in a file's place, durably and in one step: a reader sees the old or the new one."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            _fill(descriptor, data, mode)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CertsError(f"{path} cannot be written: {error.strerror}") from None
    _sync_folder(path.parent)


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a PEM file, at least one. Raises CertsError."""
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError:
        raise CertsError(f"{path} holds no certificate in PEM form") from None


def read_crl(path: Path) -> x509.CertificateRevocationList:
    """Return the list of revoked certificates in a PEM file. Raises CertsError."""
    try:
        return x509.load_pem_x509_crl(_read(path))
    except ValueError:
        raise CertsError(f"{path} holds no list of revoked certificates in PEM form") from None


def read_key(path: Path) -> Key:
    """Return the private key of a PEM file. Raises CertsError."""
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError):
        raise CertsError(
            f"{path} holds no private key in PEM form, or one with a passphrase; use one without"
        ) from None
    if not isinstance(key, Key):
        raise CertsError(f"{path} holds a key that is neither RSA nor ECDSA")
    return key


def pem_of_key(key: Key) -> bytes:
    """Return a private key in PEM form, PKCS 8, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertsError(f"{path} cannot be read: {error.strerror}") from None


def _fill(descriptor: int, data: bytes, mode: int) -> None:
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask says
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
