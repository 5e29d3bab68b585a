"""
What is kept of people's conversations, so that it can be erased.

    request ─▶ RecordingRouter ─▶ record, sealed with a key of its subject ─▶ TranscriptStore   (goes into backups)
                                          │
                                     KeyStore: each subject's data key, wrapped by a master key, KMS or Vault
                                          │                                                    (never in a backup)
                                     forget(subject) deletes the key: every copy of the records is noise

A transcript store holds nothing that names a subject: a record knows its key's random id, and which subject has which
key only the key store knows.
"""

from __future__ import annotations

from seawall.erasure.errors import KeyStoreDown, TranscriptsDown
from seawall.erasure.forgetting import Forgotten, forget
from seawall.erasure.opening import Archive, open_archive

__all__ = ["Archive", "Forgotten", "KeyStoreDown", "TranscriptsDown", "forget", "open_archive"]
