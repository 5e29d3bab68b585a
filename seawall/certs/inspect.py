"""What is to be said of the certificates in a folder: how long they last, what is revoked, what does not fit."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from seawall.certs.authority import Authority
from seawall.certs.errors import CertsError
from seawall.certs.files import read_crl, read_key

__all__ = ["Finding", "State", "findings", "names_of"]

State = Literal["good", "expiring", "expired", "revoked", "broken"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How one certificate stands. `detail` says what is wrong and what to do, and is empty when it is good."""

    name: str
    state: State
    not_after: datetime.datetime | None = None
    hosts: tuple[str, ...] = ()
    detail: str = ""


def findings(authority: Authority, *, now: datetime.datetime, warn_days: float = 30) -> list[Finding]:
    """
    Return how every certificate of the folder stands, the CA's and the list of revoked ones first.

    One is `expiring` when it has fewer than `warn_days` left. Raises CertsError when there is no CA.
    """
    ca = authority.ca()
    soon = now + datetime.timedelta(days=warn_days)
    found = [_dated("ca", ca, now, soon, "`seawall certs init --dir` in a new folder makes another CA")]
    found.append(_crl(authority, ca))
    return found + [_service(authority, name, ca, now, soon) for name in authority.services()]


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names and addresses that a certificate is good for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def _service(
    authority: Authority, name: str, ca: x509.Certificate, now: datetime.datetime, soon: datetime.datetime
) -> Finding:
    renew = f"`seawall certs renew {name}`"
    try:
        certificate = authority.certificate(name)
        key = read_key(authority.key_path(name))
        if authority.is_revoked(certificate):
            return Finding(
                name=name,
                state="revoked",
                not_after=certificate.not_valid_after_utc,
                hosts=names_of(certificate),
                detail=f"is revoked; {renew} gives it a new key and certificate",
            )
        if key.public_key() != certificate.public_key():
            detail = f"{authority.key_path(name)} is not its key; {renew} --new-key makes a pair"
            return Finding(name=name, state="broken", detail=detail)
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError):
        return Finding(name=name, state="broken", detail="was not issued by this folder's CA")
    except CertsError as error:
        return Finding(name=name, state="broken", detail=str(error))
    return _dated(name, certificate, now, soon, renew)


def _dated(
    name: str, certificate: x509.Certificate, now: datetime.datetime, soon: datetime.datetime, remedy: str
) -> Finding:
    end = certificate.not_valid_after_utc
    state: State = "expired" if end <= now else "expiring" if end <= soon else "good"
    days = (end - now).total_seconds() / 86400
    detail = {
        "expired": f"expired {-days:.1f} days ago; {remedy}",
        "expiring": f"expires in {days:.1f} days; {remedy}",
    }.get(state, "")
    return Finding(name=name, state=state, not_after=end, hosts=names_of(certificate), detail=detail)


def _crl(authority: Authority, ca: x509.Certificate) -> Finding:
    try:
        crl = read_crl(authority.crl_path)
    except CertsError as error:
        return Finding(name="crl", state="broken", detail=str(error))
    public = ca.public_key()
    if not crl.is_signature_valid(public):  # type: ignore[arg-type]
        return Finding(name="crl", state="broken", detail="was not signed by this folder's CA")
    return Finding(name="crl", state="good", not_after=crl.next_update_utc, hosts=(f"{len(list(crl))} revoked",))
