"""What is drawn on a terminal, and that nothing of it reaches a file."""

from __future__ import annotations

import io
import os
import pty
import struct
import sys
from collections.abc import Generator
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ
from typing import TextIO

import pytest

from seawall.console import Console, headline
from seawall.live import LiveView
from seawall.screen import Screen, fitted
from seawall.verdicts.model import Check, Evidence, RunVerdict, Verdict


class Terminal:
    """A terminal of our own: what is written to `stream` is read by `seen`."""

    def __init__(self, columns: int) -> None:
        self._reader, writer = pty.openpty()
        self._is_open = True
        ioctl(writer, TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream: TextIO = os.fdopen(writer, "w", encoding="utf-8")

    def seen(self) -> str:
        """Return what was written so far."""
        os.set_blocking(self._reader, False)
        data = b""
        while True:
            try:
                data += os.read(self._reader, 65536)
            except OSError:
                return data.decode()

    def close(self) -> None:
        """Close both ends."""
        if self._is_open:
            self._is_open = False
            self.stream.close()
            os.close(self._reader)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Generator[Terminal]:
    """Return a terminal of 40 columns, with no variable set that would change what is drawn."""
    for name in ("CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    found = Terminal(40)
    yield found
    found.close()


def test_status_is_drawn_in_place_and_fits(terminal: Terminal) -> None:
    """A status line is taken away before each line of text and drawn again below it, never wider than the terminal."""
    screen = Screen(terminal.stream)
    screen.show("run", "x" * 200)
    screen.write("a line")
    seen = terminal.seen()
    assert seen == f"{'x' * 38}…" + f"\r\x1b[Ka line\r\n{'x' * 38}…"
    screen.show("run", None)
    assert terminal.seen() == "\r\x1b[K"


def test_runs_side_by_side_have_a_status_line_each(terminal: Terminal) -> None:
    """Two status lines are drawn below each other, and both are taken away before text."""
    screen = Screen(terminal.stream)
    screen.show("a", "first")
    screen.show("b", "second")
    terminal.seen()
    screen.write("text")
    assert terminal.seen() == "\r\x1b[K\x1b[1A\x1b[Ktext\r\nfirst\r\nsecond"


@pytest.mark.parametrize(("name", "value", "live", "colour"), [
    ("NO_COLOR", "1", True, False), ("CI", "true", False, True), ("TERM", "dumb", False, False), ("X", "", True, True),
])  # fmt: skip
def test_variables_are_obeyed(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, name: str, value: str, live: bool, colour: bool
) -> None:
    """NO_COLOR takes the colours away, CI the status line, a dumb terminal has neither."""
    monkeypatch.setenv(name, value)
    screen = Screen(terminal.stream)
    assert screen.is_live is live
    screen.write(screen.paint("PASS", "32"))
    assert ("\x1b[32m" in terminal.seen()) is colour


def test_no_escape_reaches_a_file() -> None:
    """What is no terminal gets no escape code and no control character, not even those of a child's log."""
    stream = io.StringIO()
    screen = Screen(stream)
    screen.show("run", "status")
    screen.write(screen.paint("PASS", "32") + " \x1b[31mred\x1b[0m \x07bell\ttab\x00")
    assert stream.getvalue() == "PASS red bell\ttab\n"


def test_lost_output_is_no_failure(tmp_path: Path) -> None:
    """A reader that has gone, and a stream that is closed, end nothing: what cannot be written is dropped."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        screen = Screen(stream)
        screen.write("nobody reads this")
        screen.write("nor this")
    closed = (tmp_path / "file").open("w")
    closed.close()
    Screen(closed).write("lost")


def test_unknown_characters_do_not_stop_it(tmp_path: Path) -> None:
    """An output that knows only ASCII gets a question mark for an arrow."""
    with (tmp_path / "ascii").open("w", encoding="ascii") as stream:
        Screen(stream).write("▶ run")
    assert (tmp_path / "ascii").read_text() == "? run\n"


@pytest.mark.parametrize(("text", "width", "shown"), [
    ("short", 10, "short"), ("exactly10!", 10, "exactly10!"), ("eleven chars", 11, "eleven cha…"),
    ("日本語日本語", 7, "日本語…"),
])  # fmt: skip
def test_lines_are_cut_by_columns(text: str, width: int, shown: str) -> None:
    """A line is cut to the columns it takes: characters of East Asia take two."""
    assert fitted(text, width) == shown


def test_status_says_what_is_going_on(terminal: Terminal, tmp_path: Path) -> None:
    """The status line tells time, rate, share of whole answers, who answers, and which breakers are not closed."""
    terminal.close()
    wide = Terminal(200)
    console = Console(Screen(wide.stream))
    live = LiveView(tmp_path)
    console.status(1.0, 100, live)
    live.outcomes["whole"] = 9
    live.outcomes["refused"] = 1
    live.served["claude"] = 9
    live.breakers["gemini"] = "open"
    wide.seen()
    console.status(2.0, 100, live)
    seen = wide.seen()
    for words in ("2.0 of", "no fault", "10/s, 90% whole", "9 claude", "gemini open"):
        assert words in seen
    wide.close()


def test_held_lines_come_in_one_piece() -> None:
    """Of runs side by side, on no terminal, each writes all of its lines at once when it has ended."""
    stream = io.StringIO()
    screen = Screen(stream)
    first, second = Console(screen, prefix="a", holds=True), Console(screen, prefix="b", holds=True)
    first.line("one")
    second.line("two")
    first.line("three")
    assert stream.getvalue() == ""
    second.release()
    first.release()
    assert stream.getvalue() == "  two\n  one\n  three\n"


def test_marked_lines_begin_with_the_name() -> None:
    """Lines of runs side by side begin with the run's name, every one of several at once."""
    stream = io.StringIO()
    Console(Screen(stream), prefix="a").line("one\ntwo")
    assert stream.getvalue() == "a │   one\na │ two\n"


def test_headline_of_a_failure_has_check_amount_and_moment() -> None:
    """The first line of a failure says which expectation, by how much and when, of the check that `why` tells of."""
    late = Check(
        group="eventually", name="gemini is back", verdict=Verdict.FAIL, figure="9 s", limit="8 s",
        margin="1 s outside", reason="It took too long.", evidence=(Evidence(text="closed", at_s=32.0),),
    )  # fmt: skip
    early = Check(
        group="threshold", name="success_rate", verdict=Verdict.FAIL, figure="97 %", limit=">= 99 %",
        margin="2 % outside", reason="Too few.", evidence=(Evidence(text="request 7 refused", at_s=8.25),),
    )  # fmt: skip
    verdict = RunVerdict(
        verdict=Verdict.FAIL, why="success_rate: too few", checks=(late, early), undone=True, figures={}
    )
    assert headline(verdict) == (
        "threshold: success_rate: 97 % (limit >= 99 %, 2 % outside). "
        "First at 8.25 s: request 7 refused. (2 checks failed.)"
    )


def test_nothing_is_written_where_there_is_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was started without outputs writes nothing, and does not mind."""
    monkeypatch.setattr(sys, "stdout", None)
    Screen().write("lost")
