"""Sealing: AES-256-GCM with a fresh nonce, bound to whose record it is and which one. Pure but for the nonce."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["KEY_BYTES", "SealBroken", "new_key", "seal", "unseal"]

KEY_BYTES = 32
_NONCE_BYTES = 12


class SealBroken(Exception):
    """A record was changed, belongs to somebody else, or was sealed with another key."""


def new_key() -> bytes:
    """Return a new data key."""
    return AESGCM.generate_key(8 * KEY_BYTES)


def seal(key: bytes, plain: bytes, *, subject: str, record_id: bytes) -> bytes:
    """Return `plain` encrypted: a nonce, then the ciphertext with its tag, of use for this subject and record only."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, _bound_to(subject, record_id))


def unseal(key: bytes, sealed: bytes, *, subject: str, record_id: bytes) -> bytes:
    """Return what was sealed. Raises SealBroken."""
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound_to(subject, record_id))
    except (InvalidTag, ValueError):
        raise SealBroken("the seal of a record is broken") from None


def _bound_to(subject: str, record_id: bytes) -> bytes:
    """Return the associated data. The length keeps apart what would read alike when written one after the other."""
    whose = subject.encode()
    return len(whose).to_bytes(4, "big") + whose + record_id
