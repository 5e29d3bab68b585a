"""
Files that must be refused, and what is said about them.

Each file in `broken/` begins with one comment for each problem that it has: `# line:column fragment of the message`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seawall.scenario.loader import FILE_BYTES_MAX, load_scenario, load_text
from seawall.scenario.problems import ScenarioError

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.yaml"))
EXPECTED = re.compile(r"# (\d+):(\d+) (.+)")
JARGON = re.compile(
    r"pydantic|Input should|validation error|valid (dict|list|tuple|string|integer)|not permitted|instance of|"
    r"\bNone\b|\bTrue\b|\bFalse\b|\bdict\b|\btuple\b|\bstr\b|(?<!!)\bint\b|Traceback|<class"
)
PATIENCE_S = 2.0
GOOD = "version: 1\ntitle: t\nload: {executor: constant-arrival-rate, rate: 20/s, duration: 60s}\n"


def expected_of(text: str) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    for line in text.splitlines():
        match = EXPECTED.fullmatch(line)
        if match is None:
            break
        found.append((int(match[1]), int(match[2]), match[3]))
    return found


def refusal_of(path: Path) -> ScenarioError:
    started = time.monotonic()
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert time.monotonic() - started < PATIENCE_S
    return caught.value


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_every_problem_is_told_at_its_place(path: Path) -> None:
    """A broken file is refused with all of its problems, each at its line and column, and with no other."""
    expected = expected_of(path.read_text(encoding="utf-8"))
    problems = refusal_of(path).problems
    assert [(p.line, p.column) for p in problems] == [(line, column) for line, column, _ in expected], problems
    for problem, (_, _, fragment) in zip(problems, expected, strict=True):
        assert fragment in f"{problem.message}; {problem.fix}"


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_problems_speak_of_the_file_and_say_what_to_do(path: Path) -> None:
    """No message shows the inside of the loader, and every one has a fix and the form that editors link."""
    for problem in refusal_of(path).problems:
        assert not JARGON.search(f"{problem.message}; {problem.fix}")
        assert problem.fix
        assert str(problem) == f"{path}:{problem.line}:{problem.column}: {problem.message}; {problem.fix}"


def test_the_table_is_large() -> None:
    """There are at least forty broken files, and each says what is expected of it."""
    assert len(BROKEN) >= 40
    assert all(expected_of(path.read_text(encoding="utf-8")) for path in BROKEN)


def of_bytes(tmp_path: Path, data: bytes) -> ScenarioError:
    path = tmp_path / "made.yaml"
    path.write_bytes(data)
    return refusal_of(path)


def only(error: ScenarioError) -> tuple[int, int, str]:
    (problem,) = error.problems
    return problem.line, problem.column, problem.message


def test_fifty_megabytes_are_refused_unread(tmp_path: Path) -> None:
    """A file of 50 MB is refused by its size, at once."""
    path = tmp_path / "huge.yaml"
    with path.open("wb") as stream:
        stream.truncate(50 * 1024 * 1024)
    assert only(refusal_of(path)) == (1, 1, "the file is over 256 KB")


def test_the_size_limit_is_exact(tmp_path: Path) -> None:
    """256 KB are read and one byte more is not."""
    path = tmp_path / "edge.yaml"
    path.write_bytes(GOOD.encode() + b"#" * (FILE_BYTES_MAX - len(GOOD)))
    assert load_scenario(path).scenario.title == "t"
    path.write_bytes(path.read_bytes() + b"#")
    assert only(refusal_of(path))[2] == "the file is over 256 KB"


def test_an_alias_bomb_is_never_expanded(tmp_path: Path) -> None:
    """Nested aliases that stand for a billion values are refused where the first anchor and aliases stand."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    problems = of_bytes(tmp_path, "\n".join(lines).encode()).problems
    assert (problems[0].line, problems[0].column, problems[0].message) == (1, 5, "an anchor (&a0)")
    assert (problems[1].line, problems[1].column, problems[1].message) == (2, 5, "an anchor (&a1)")
    assert len(problems) <= 20


@pytest.mark.parametrize(
    "make",
    [
        lambda: "[" * 200_000,
        lambda: "{" * 200_000,
        lambda: "- " * 100_000,
        lambda: "".join(" " * n + f"k{n}:\n" for n in range(600)),
        lambda: "a: " + "x" * 250_000,
        lambda: "? " * 100_000,
        lambda: "".join(f"k{n}: 1\n" for n in range(18_000)),
        lambda: GOOD + "tags: [" + "1, " * 60_000 + "1]\n",
        lambda: GOOD + "seed: " + "9" * 200_000 + "\n",
    ],
    ids=["brackets", "braces", "dashes", "indents", "long-word", "questions", "keys", "values", "digits"],
)
def test_large_nonsense_is_refused_in_bounded_time(tmp_path: Path, make: Callable[[], str]) -> None:
    """Text made to be slow, deep or to bury the reader is refused within seconds, with a bounded list of problems."""
    path = tmp_path / "made.yaml"
    path.write_text(make(), encoding="utf-8")
    started = time.monotonic()
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert time.monotonic() - started < 5 * PATIENCE_S
    assert len(caught.value.problems) <= 201
    assert len(str(caught.value)) < 100_000


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"version: 1\ntitle: a\x00b\n", (2, 9, "a NUL byte in the text")),
        ("version: 1\ntitle: é".encode() + b"\xff\n", (2, 9, "the file is not UTF-8 here")),
        (GOOD.encode("utf-16"), (1, 1, "the file is not UTF-8 here")),
        (b"", (1, 1, "the file is empty")),
        (b"\n\n", (1, 1, "the file is empty")),
        (b"\xef\xbb\xbf", (1, 1, "the file is empty")),
    ],
    ids=["nul", "latin-1", "utf-16", "empty", "blank", "only-a-mark"],
)
def test_bytes_that_are_no_text(tmp_path: Path, data: bytes, expected: tuple[int, int, str]) -> None:
    """NUL bytes, other encodings and nothing at all are refused at their place."""
    assert only(of_bytes(tmp_path, data)) == expected


def test_files_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    """A folder, a missing file and an impossible name are problems of the file, without a line."""
    for path, message in (
        (tmp_path, "this is not a file"),
        (tmp_path / "none.yaml", "there is no such file"),
        (tmp_path / ("n" * 300), "the file cannot be read: File name too long"),
    ):
        (problem,) = refusal_of(path).problems
        assert (problem.line, problem.message) == (0, message)
        assert str(problem).startswith(f"{path}: {message}; ")


def test_lone_surrogates_are_refused() -> None:
    """Text that no UTF-8 file can hold is refused like such a file."""
    with pytest.raises(ScenarioError, match="not UTF-8"):
        load_text("version: 1\ntitle: \ud800\n", "made")
