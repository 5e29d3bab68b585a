"""
Where the command's words go: plain lines, and on a terminal a status at the foot that is drawn again in place.

A reader that has gone (`| head -1`), a disk that is full or an output that was never open must not end a run: what
cannot be written is dropped. Escape codes go to terminals only; `NO_COLOR`, `CI` and `TERM=dumb` are obeyed.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import unicodedata
from collections.abc import Callable
from typing import TextIO

__all__ = ["Screen", "complain", "complaints_to", "fitted", "printable"]

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[@-Z\\-_])")
_TURNS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""What turns the direction of writing: a name could show itself as another."""
_CONTROLS = {code: None for code in (*range(32), *range(0x7F, 0xA0), *_TURNS) if code not in (0x09, 0x0A)}
_WIDTH_MIN = 20
_taker: Callable[[str], None] | None = None


class Screen:
    """
    Writes lines to `stream` (default: standard output).

    `is_live` says whether a status is drawn: on a terminal that can, and not in CI.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream: TextIO | None = sys.stdout if stream is None else stream
        with contextlib.suppress(AttributeError, OSError, ValueError):
            # A terminal that knows no arrow gets a question mark for it, not a traceback.
            self._stream.reconfigure(errors="replace")  # type: ignore[union-attr]
        terminal = self._is_terminal()
        self.is_live = terminal and not os.environ.get("CI") and os.environ.get("TERM", "") not in ("", "dumb")
        self._colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._status: dict[str, str] = {}
        self._drawn = 0

    def write(self, text: str) -> None:
        """Write `text` as lines of their own, above the status where there is one."""
        clean = text if self._colour else _ESCAPES.sub("", text).translate(_CONTROLS)
        self._put(f"{self._erased()}{clean}\n{self._foot()}")

    def show(self, key: str, text: str | None) -> None:
        """Draw `text` as the status line of `key`, or take that line away. Does nothing where it is not live."""
        if not self.is_live or self._status.get(key) == text:
            return
        if text is None:
            self._status.pop(key, None)
        else:
            self._status[key] = _ESCAPES.sub("", text).translate(_CONTROLS).replace("\n", " ")
        self._put(f"{self._erased()}{self._foot()}")

    def paint(self, text: str, *codes: str) -> str:
        """Return `text` in a colour, where there are colours."""
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self._colour else text

    def _is_terminal(self) -> bool:
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:  # it is closed
            return False

    def _erased(self) -> str:
        lines, self._drawn = self._drawn, 0
        return "\r\x1b[K" + "\x1b[1A\x1b[K" * (lines - 1) if lines else ""

    def _foot(self) -> str:
        self._drawn = len(self._status)
        width = self._width()
        return "\n".join(fitted(line, width) for line in self._status.values())

    def _width(self) -> int:
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns  # type: ignore[union-attr]
        except (OSError, ValueError, AttributeError):
            columns = 80
        # The last column stays free: some terminals go to the next line when it is filled.
        return max(_WIDTH_MIN, (columns or 80) - 1)

    def _put(self, text: str) -> None:
        if self._stream is None or not text:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            _let_go(self._stream)
            self._stream, self.is_live = None, False


def complain(text: str) -> None:
    """Write a line to standard error, if anybody is there to take it, or to what `complaints_to` named."""
    text = _ESCAPES.sub("", text).translate(_CONTROLS)  # names of files and values of settings are anybody's
    if _taker is not None:
        _taker(text)
        return
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison] - it is when closed before we began
        return
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        _let_go(sys.stderr)


def complaints_to(taker: Callable[[str], None] | None) -> Callable[[str], None] | None:
    """Let `taker` have all complaints of this process from now on, None: standard error; return who had them."""
    global _taker
    before, _taker = _taker, taker
    return before


def printable(name: object) -> str:
    """Return a name, a file's say, in one line that says what is in it: line ends and controls as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def fitted(text: str, width: int) -> str:
    """Return `text`, cut with an ellipsis where it takes more than `width` columns."""
    taken = 0
    keep = 0
    for at, character in enumerate(text, start=1):
        taken += _columns(character)
        if taken > width:
            return text[:keep] + "…"
        if taken <= width - 1:
            keep = at
    return text


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _let_go(stream: TextIO) -> None:
    """Point the stream's descriptor at nothing, or the interpreter would complain of it once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
