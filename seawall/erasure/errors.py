"""What can go wrong with transcripts and their keys."""

from __future__ import annotations

from router.errors import SeawallError

__all__ = ["KeyGone", "KeyStoreDown", "TranscriptsDown"]


class TranscriptsDown(SeawallError):
    """A transcript cannot be sealed or kept now, and TRANSCRIPTS_DOWN=closed lets no answer go unrecorded."""

    code = "transcripts_down"
    status = 503
    retryable = True


class KeyStoreDown(TranscriptsDown):
    """The store of the data keys, or what wraps them, cannot be reached or refuses. Nothing was sealed or forgotten."""


class KeyGone(Exception):
    """What a data key was wrapped by is no longer there: the subject is being forgotten."""
