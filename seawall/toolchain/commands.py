"""Running the tools that fetch and build."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from seawall import supervise
from seawall.toolchain.errors import masked
from seawall.toolchain.progress import Progress

__all__ = ["HEARTBEAT_S", "CommandFailed", "capture", "run"]

HEARTBEAT_S = 5.0
"""How often a running command is reported."""
_QUOTED_LINES = 6
_CAPTURE_LIMIT_S = 10.0
_END_LIMIT_S = supervise.GRACE_S + 3.0


class CommandFailed(Exception):
    """A command ended badly, took too long or could not be started. The message quotes the end of its output."""


def capture(argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Return what a quick command prints, both streams. Raises CommandFailed, also when it takes over 10 seconds."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            timeout=_CAPTURE_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"gave no answer in {_CAPTURE_LIMIT_S:.0f} s") from error
    except OSError as error:
        raise CommandFailed(error.strerror or str(error)) from error
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        raise CommandFailed(f"exit code {done.returncode}: {_end_of(text)}")
    return text


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    doing: str,
    limit_s: float,
    progress: Progress,
    status: Callable[[Path, float], str] | None = None,
) -> None:
    """
    Run a long command; report every 5 seconds that it still runs.

    It ends with this process, however that ends. `doing` completes "still …" and "… ended with exit code 1". `status`
    may say how far it is: it gets the file of its output so far and the seconds since its start.
    Raises CommandFailed when the exit code is not 0, or after `limit_s` seconds.
    """
    log = cwd / "output.log"
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            supervise.command_line(list(argv)),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )
        assert process.stdin is not None  # noqa: S101 - a pipe was asked for
        try:
            while (code := _wait(process, HEARTBEAT_S)) is None:
                elapsed_s = time.monotonic() - started
                if elapsed_s >= limit_s:
                    raise CommandFailed(f"{doing} took longer than {limit_s:.0f} s: {_end_of(_read(log))}")
                how_far = status(log, elapsed_s) if status is not None else f"{elapsed_s:.0f} s"
                progress(f"still {doing} ({how_far})")
        finally:
            process.stdin.close()
            if _wait(process, _END_LIMIT_S) is None:
                process.kill()
                process.wait()
    if code:
        raise CommandFailed(f"{doing} ended with exit code {code}: {_end_of(_read(log))}")


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None


def _read(log: Path) -> str:
    return log.read_text("utf-8", "replace")


def _end_of(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return masked(" | ".join(lines[-_QUOTED_LINES:])) or "no output"
