"""The API keys of the gateway's clients; the process knows them as hashes only."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from router.errors import SeawallError

__all__ = ["Unauthorized", "authenticate"]


class Unauthorized(SeawallError):
    """The client's API key is missing or wrong."""

    code = "invalid_api_key"
    status = 401


def authenticate(authorization: bytes, accepted: Sequence[str]) -> None:
    """
    Check the header `Authorization: Bearer <key>` against the SHA-256 of every accepted key, in constant time.

    Where none is given, no key is asked for. Raises Unauthorized.
    """
    if not accepted:
        return
    scheme, _, key = authorization.partition(b" ")
    digest = hashlib.sha256(key.strip()).hexdigest() if scheme.lower() == b"bearer" else ""
    matches = [hmac.compare_digest(digest, known) for known in accepted]
    if not any(matches):
        raise Unauthorized("the API key is missing or wrong; send `Authorization: Bearer <key>`")
