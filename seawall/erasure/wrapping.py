"""
What data keys are wrapped by. `MasterKey` is a key of ours; `kms.KmsKey` and `vault.VaultKeys` ask a service.

A wrapped key is bound to a `context`, some bytes that say whose it is, and is of no use with another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from router.errors import ConfigurationError
from seawall.erasure.errors import KeyStoreDown
from seawall.erasure.sealing import KEY_BYTES, new_key

__all__ = ["MasterKey", "MasterKeyFile", "Wrapper", "keys_in"]

_NONCE_BYTES = 12
_PRINT_BYTES = 8


class Wrapper(Protocol):
    """Wraps and unwraps data keys. Every method may block for some seconds and raise KeyStoreDown."""

    def generation(self) -> str:
        """Return what new keys are wrapped by, where that must not differ between processes; else an empty text."""
        ...

    def refresh(self) -> None:
        """Look again for keys that came meanwhile."""
        ...

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Return a key wrapped."""
        ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return a key. Raises KeyGone when what it was wrapped by has been destroyed."""
        ...

    def rewrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Return the same key wrapped by what is current; `wrapped` itself when it is already."""
        ...

    def retire(self, context: bytes) -> None:
        """Have what was current before the latest `rewrap` open nothing any more, where that is in our hands."""
        ...

    def destroy(self, context: bytes) -> None:
        """Destroy, for good, whatever the service holds for this context alone. Idempotent."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


class MasterKey:
    """
    Wraps with a master key of our own, AES-256-GCM. `read` gives the master keys: the current one, then former ones.

    Each wrapped key begins with the print of its master key, so that a master key can be changed while it is in use.
    """

    def __init__(self, read: Callable[[], list[bytes]]) -> None:
        self._read = read
        self._masters: list[tuple[bytes, bytes]] = []
        self.refresh()

    def generation(self) -> str:
        """See Wrapper."""
        return self._masters[0][0].hex()

    def refresh(self) -> None:
        """See Wrapper."""
        self._masters = [
            (hashlib.sha256(b"seawall master key" + key).digest()[:_PRINT_BYTES], key) for key in self._read()
        ]

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """See Wrapper."""
        shown, master = self._masters[0]
        nonce = os.urandom(_NONCE_BYTES)
        return shown + nonce + AESGCM(master).encrypt(nonce, key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See Wrapper."""
        shown, rest = wrapped[:_PRINT_BYTES], wrapped[_PRINT_BYTES:]
        if shown not in dict(self._masters):
            try:
                self.refresh()
            except ConfigurationError as error:
                raise KeyStoreDown(str(error)) from None
        master = dict(self._masters).get(shown)
        if master is None:
            raise KeyStoreDown("the key store was wrapped by another master key; give the right TRANSCRIPTS_MASTER_KEY")
        try:
            return AESGCM(master).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], context)
        except InvalidTag:
            raise KeyStoreDown("the key store is damaged: a wrapped key does not open") from None

    def rewrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See Wrapper."""
        if wrapped[:_PRINT_BYTES] == self._masters[0][0]:
            return wrapped
        return self.wrap(self.unwrap(wrapped, context), context)

    def retire(self, context: bytes) -> None:
        """See Wrapper: the former master key ends with its line in the file, or its variable."""

    def destroy(self, context: bytes) -> None:
        """See Wrapper: there is nothing but the wrapped key itself."""

    def close(self) -> None:
        """See Wrapper."""


class MasterKeyFile:
    """A file of master keys, one a line in base64, the current one first; several only while one is being changed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[bytes]:
        """Return the keys. Raises ConfigurationError."""
        try:
            text = self.path.read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is no text"
            raise ConfigurationError(
                f"TRANSCRIPTS_MASTER_KEY_FILE {self.path} cannot be read: {reason}; `seawall keys init` makes one"
            ) from None
        return keys_in(text, f"TRANSCRIPTS_MASTER_KEY_FILE {self.path}")

    def create(self) -> None:
        """Write a new master key. Raises ConfigurationError when the file is there: nothing is overwritten."""
        if self.path.exists():
            raise ConfigurationError(f"{self.path} is there already; `seawall keys rotate` changes the master key")
        self._write([new_key()])

    def add(self) -> None:
        """Put a new key before the one there is; where there are several, a change was begun already."""
        if len(keys := self.read()) == 1:
            self._write([new_key(), *keys])

    def drop_former(self) -> None:
        """Keep the current key only."""
        self._write(self.read()[:1])

    def _write(self, keys: list[bytes]) -> None:
        """Put keys in the file's place, durably and in one step."""
        text = "".join(base64.b64encode(key).decode() + "\n" for key in keys)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".key-", dir=self.path.parent)  # 0600 by itself
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be written: {error.strerror}") from None


def keys_in(text: str, where: str) -> list[bytes]:
    """Return the master keys of a text, with spaces or commas between. Raises ConfigurationError that quotes none."""
    try:
        keys = [base64.b64decode(word, validate=True) for word in text.replace(",", " ").split()]
    except binascii.Error:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ConfigurationError(f"{where} must hold {KEY_BYTES} bytes in base64, such as `openssl rand -base64 32`")
    return keys
