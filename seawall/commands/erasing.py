"""`seawall forget`, `seawall transcripts`, `seawall keys`: what is kept of people, and how it is erased."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from router.errors import ConfigurationError
from seawall.config_file import load_settings
from seawall.erasure import Archive, TranscriptsDown, open_archive
from seawall.erasure import forget as forget_subject
from seawall.erasure.wrapping import MasterKeyFile
from seawall.gateway.config import GatewaySettings
from seawall.screen import Screen, complain

__all__ = ["forget", "keys", "transcripts"]

_REFUSED, _USAGE, _AWAY = 1, 2, 3


def forget(options: Any) -> int:
    """Forget a subject and say so; 1 when not confirmed, 2 for bad settings, 3 when a store cannot be reached."""

    def work(archive: Archive) -> int:
        subject = _subject(options.subject)
        if not options.yes and not _confirmed():
            complain("seawall forget: not confirmed, so nothing was done; --yes confirms")
            return _REFUSED
        done = forget_subject(archive, subject)
        how = "forgotten" if done.had_key else "nothing was known of this subject"
        Screen().write(f"{how}; records deleted: {done.records}; {archive.audit} has it as {done.reference}")
        return 0

    return _with_archive("forget", options.config, work)


def transcripts(options: Any) -> int:
    """Print the records of a subject; 2 for bad settings, 3 when a store cannot be reached."""

    def work(archive: Archive) -> int:
        screen = Screen()
        for record in archive.read(_subject(options.subject)):
            screen.write(msgspec.json.encode(record).decode())
        return 0

    return _with_archive("transcripts", options.config, work)


def keys(options: Any) -> int:
    """Make the master key file, or change the master key; 2 for bad settings, 3 when a store cannot be reached."""
    return _guarded("keys", lambda: _init(options.config) if options.action == "init" else _rotate(options.config))


def _init(config: Path | None) -> int:
    file = _master_key_file(GatewaySettings.load(config))
    if file is None:
        raise ConfigurationError("TRANSCRIPTS_MASTER_KEY_FILE is not set: it says where the master key is to be")
    file.create()
    Screen().write(f"{file.path}  a new master key; keep it apart from every backup of TRANSCRIPTS")
    return 0


def _rotate(config: Path | None) -> int:
    settings = GatewaySettings.load(config)
    file = _master_key_file(settings)
    if file is not None:
        file.add()  # the former one stays beside it until nothing needs it any more
    with open_archive(settings, allowed=_allowed(config)) as archive:
        changed = archive.keys.rotate()
    if file is not None:
        file.drop_former()
    Screen().write(f"data keys wrapped anew: {changed}")
    return 0


def _master_key_file(settings: GatewaySettings) -> MasterKeyFile | None:
    if settings.transcripts_keys != "local" or not settings.transcripts_master_key_file:
        return None
    return MasterKeyFile(Path(settings.transcripts_master_key_file))


def _with_archive(command: str, config: Path | None, work: Any) -> int:
    def opened() -> int:
        with open_archive(GatewaySettings.load(config), allowed=_allowed(config)) as archive:
            return work(archive)

    return _guarded(command, opened)


def _guarded(command: str, work: Any) -> int:
    try:
        return work()
    except ConfigurationError as error:
        complain(f"seawall {command}: {error}")
        return _USAGE
    except TranscriptsDown as error:
        complain(f"seawall {command}: {error}; repeat it")
        return _AWAY


def _allowed(config: Path | None) -> tuple[str, ...] | None:
    settings = load_settings(config)
    return settings.airgap_allowed() if settings.airgap_mode else None


def _subject(given: str) -> str:
    """Return the subject as the gateway would name it; `-` stands for a line of standard input."""
    subject = (sys.stdin.readline() if given == "-" else given).strip()
    if not subject:
        raise ConfigurationError("the subject is empty; give the name that requests gave")
    return subject


def _confirmed() -> bool:
    """Ask on a terminal; without one there is nobody to ask."""
    if not sys.stdin.isatty():
        return False
    complain("Forget this subject for good? Nobody can undo it. Type yes:")
    return sys.stdin.readline().strip().lower() == "yes"
