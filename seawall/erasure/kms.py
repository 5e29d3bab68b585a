"""Data keys wrapped by a key in AWS KMS, with the subject's keyed hash as encryption context."""

from __future__ import annotations

import struct
from collections.abc import Collection
from importlib import import_module
from typing import Any

from router.airgap import allows_endpoint
from router.errors import ConfigurationError
from seawall.erasure.errors import KeyStoreDown

__all__ = ["KmsKey"]

_TIMEOUT_S = 2.0
_LENGTH = struct.Struct(">H")


class KmsKey:
    """
    Wraps with the KMS key `key_id` (an id, ARN or alias). AWS's own variables and files say where and who.

    A wrapped key begins with the ARN of its KMS key, so that another can be named and everything wrapped anew by it.
    With an air gap, `allowed` are the entries of AIRGAP_ALLOW (None: no air gap). Raises ConfigurationError.
    """

    def __init__(self, key_id: str, *, allowed: Collection[str] | None = None) -> None:
        try:
            # boto3 and botocore have no types: they come in as Any.
            boto3: Any = import_module("boto3")
            config_of: Any = import_module("botocore.config").Config
            errors: Any = import_module("botocore.exceptions")
        except ImportError:
            raise ConfigurationError(
                "TRANSCRIPTS_KEYS=kms needs the package boto3: pip install 'seawall[kms]'"
            ) from None
        if not key_id:
            raise ConfigurationError("TRANSCRIPTS_KEYS=kms needs TRANSCRIPTS_KMS_KEY, the id, ARN or alias of a key")
        self._key_id = key_id
        self._errors: tuple[type[Exception], ...] = (errors.BotoCoreError, errors.ClientError)
        config = config_of(connect_timeout=_TIMEOUT_S, read_timeout=_TIMEOUT_S, retries={"total_max_attempts": 1})
        try:
            self._client: Any = boto3.client("kms", config=config)
        except self._errors as error:
            raise ConfigurationError(f"AWS KMS cannot be used: {error}") from None
        where = str(self._client.meta.endpoint_url)
        if allowed is not None and not allows_endpoint(where, allowed):
            raise ConfigurationError(f"AIRGAP_MODE is on and KMS is at {where}: list its host in AIRGAP_ALLOW")

    def generation(self) -> str:
        """See Wrapper: which KMS key a process uses is its own business."""
        return ""

    def refresh(self) -> None:
        """See Wrapper."""

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """See Wrapper."""
        answer = self._ask("encrypt", KeyId=self._key_id, Plaintext=key, EncryptionContext=_told(context))
        return _joined(answer)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See Wrapper."""
        arn, blob = _parted(wrapped)
        answer = self._ask("decrypt", KeyId=arn, CiphertextBlob=blob, EncryptionContext=_told(context))
        return bytes(answer["Plaintext"])

    def rewrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See Wrapper; the data key itself does not leave KMS."""
        arn, blob = _parted(wrapped)
        current = self._ask("describe_key", KeyId=self._key_id)["KeyMetadata"]["Arn"]
        if arn == current:
            return wrapped
        told = _told(context)
        answer = self._ask(
            "re_encrypt",
            CiphertextBlob=blob,
            SourceKeyId=arn,
            SourceEncryptionContext=told,
            DestinationKeyId=current,
            DestinationEncryptionContext=told,
        )
        return _joined(answer)

    def retire(self, context: bytes) -> None:
        """See Wrapper: disabling a KMS key is for its owner to do."""

    def destroy(self, context: bytes) -> None:
        """See Wrapper: KMS keeps nothing for one subject; the wrapped key is deleted where it lies."""

    def close(self) -> None:
        """See Wrapper."""
        self._client.close()

    def _ask(self, name: str, **values: Any) -> dict[str, Any]:
        try:
            return getattr(self._client, name)(**values)
        except self._errors as error:
            raise KeyStoreDown(f"AWS KMS: {type(error).__name__}: {error}") from None


def _told(context: bytes) -> dict[str, str]:
    return {"seawall": context.hex()}


def _joined(answer: dict[str, Any]) -> bytes:
    arn = str(answer["KeyId"]).encode()
    return _LENGTH.pack(len(arn)) + arn + bytes(answer["CiphertextBlob"])


def _parted(wrapped: bytes) -> tuple[str, bytes]:
    (length,) = _LENGTH.unpack_from(wrapped)
    end = _LENGTH.size + length
    return wrapped[_LENGTH.size : end].decode(), wrapped[end:]
