"""Data keys wrapped by Vault's transit engine (or OpenBao's), with a transit key for each subject."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Collection
from typing import Any

from router.airgap import allows_endpoint
from router.errors import ConfigurationError
from seawall.erasure.errors import KeyGone, KeyStoreDown
from seawall.journal.exchanges import Exchanges

__all__ = ["VaultKeys"]

_TIMEOUT_S = 2
_NAME_LENGTH = 48
_GONE = ("not found", "no existing key")


class VaultKeys:
    """
    Wraps with a transit key of the subject's own, at `mount`. VAULT_ADDR and VAULT_TOKEN say where and who.

    Forgetting deletes that transit key, so that even a copy of the key store is noise from then on. With an air gap,
    `allowed` are the entries of AIRGAP_ALLOW (None: no air gap). Raises ConfigurationError.
    """

    def __init__(self, mount: str = "transit", *, allowed: Collection[str] | None = None) -> None:
        try:
            import hvac  # noqa: PLC0415 - needs a package of an extra
            from hvac.exceptions import InvalidPath, InvalidRequest, VaultError  # noqa: PLC0415
            from requests import RequestException  # noqa: PLC0415 - what hvac calls with
        except ImportError:
            raise ConfigurationError(
                "TRANSCRIPTS_KEYS=vault needs the package hvac: pip install 'seawall[vault]'"
            ) from None
        address = os.environ.get("VAULT_ADDR", "")
        if not address or not os.environ.get("VAULT_TOKEN"):
            raise ConfigurationError("TRANSCRIPTS_KEYS=vault needs VAULT_ADDR and VAULT_TOKEN")
        if allowed is not None and not allows_endpoint(address, allowed):
            raise ConfigurationError(f"AIRGAP_MODE is on and Vault is at {address}: list its host in AIRGAP_ALLOW")
        self._client: Any = hvac.Client(url=address, timeout=_TIMEOUT_S)
        self._mount = mount
        self._exchanges = Exchanges.of("key_service")
        self._missing: tuple[type[Exception], ...] = (InvalidPath, InvalidRequest)
        self._errors: tuple[type[Exception], ...] = (VaultError, RequestException)

    def generation(self) -> str:
        """See Wrapper: the versions of transit keys are Vault's own business."""
        return ""

    def refresh(self) -> None:
        """See Wrapper."""

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """See Wrapper."""
        name = _name(context)
        self._ask("create_key", name=name)  # does nothing where it is there
        self._ask("update_key_configuration", name=name, deletion_allowed=True)
        answer = self._ask("encrypt_data", name=name, plaintext=base64.b64encode(key).decode())
        return str(answer["data"]["ciphertext"]).encode()

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See Wrapper."""
        answer = self._ask("decrypt_data", name=_name(context), ciphertext=wrapped.decode())
        return base64.b64decode(answer["data"]["plaintext"])

    def rewrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See Wrapper: the transit key gets a new version."""
        name = _name(context)
        self._ask("rotate_key", name=name)
        anew = self._ask("rewrap_data", name=name, ciphertext=wrapped.decode())["data"]["ciphertext"]
        return str(anew).encode()

    def retire(self, context: bytes) -> None:
        """See Wrapper."""
        name = _name(context)
        latest = self._ask("read_key", name=name)["data"]["latest_version"]
        self._ask("update_key_configuration", name=name, min_decryption_version=latest)

    def destroy(self, context: bytes) -> None:
        """See Wrapper."""
        try:
            self._ask("delete_key", name=_name(context))
        except KeyGone:
            return

    def close(self) -> None:
        """See Wrapper."""
        self._client.adapter.close()

    def _ask(self, action: str, /, **values: Any) -> dict[str, Any]:
        start_ns, answered = time.monotonic_ns(), True
        try:
            return getattr(self._client.secrets.transit, action)(mount_point=self._mount, **values)
        except self._missing as error:
            # Vault tells of a key that is not there with 400 or 404, and in words.
            if any(words in str(error) for words in _GONE):
                raise KeyGone from None
            raise KeyStoreDown(f"Vault: {error}") from None
        except self._errors as error:
            answered = False
            raise KeyStoreDown(f"Vault: {type(error).__name__}: {error}") from None
        finally:
            if self._exchanges is not None:
                self._exchanges.tell(start_ns, ok=answered)


def _name(context: bytes) -> str:
    return f"seawall-{context.hex()[:_NAME_LENGTH]}"
