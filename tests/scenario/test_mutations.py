"""Whatever becomes of a file, loading it ends in a scenario or in a list of problems."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from seawall.paths import scenarios_dir
from seawall.scenario.loader import load_scenario, load_text
from seawall.scenario.problems import ScenarioError

GOOD = (scenarios_dir() / "primary-dark.yaml").read_bytes()
SNIPPETS = [b"\t", b"\x00", b"\xff", b"{", b"}", b"[", b"]", b'"', b"'", b"&a ", b"*a", b"!!x ", b"? ", b": ", b"- "]
SNIPPETS += [b"|", b">", b"%", b"@", b"`", b"#", b"\n", b"\r", b"---\n", b"...\n", b"\\", b"null", b"true", b"1e999"]
SNIPPETS += [b"-1", b"99999999999999999999", b".inf", b".nan", b"0x", b"%YAML 1.1\n", b"%TAG ! !\n", b"\xc2\x85"]
SNIPPETS += [b'"\\UFFFFFFFF"', b'"\\x', b"<<: ", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"%FOO\n", b"%YAML 1.9\n---\n", b"!"]
EDIT = st.tuples(
    st.integers(0, len(GOOD)), st.integers(0, 40), st.one_of(st.sampled_from(SNIPPETS), st.binary(max_size=6))
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to write mutants to."""
    return tmp_path_factory.mktemp("mutants") / "mutant.yaml"


def loads_or_is_refused(path: Path) -> None:
    try:
        loaded = load_scenario(path)
    except ScenarioError as error:
        refused: ScenarioError | None = error
    else:
        refused = None
        assert loaded.scenario.load.plan(loaded.scenario.seed)
    if refused is not None:
        assert refused.problems
        lines = path.read_bytes().count(b"\n") + path.read_bytes().count(b"\r") + 3
        assert all(1 <= problem.line <= lines and problem.column >= 1 for problem in refused.problems)
        assert all(problem.message and problem.fix for problem in refused.problems)
        assert all("\n" not in str(problem) for problem in refused.problems)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(EDIT, min_size=1, max_size=4))
@example([(0, 0, b"%YAML 1.9\n---\n")])
@example([(0, 0, b"%FOO bar\n---\n")])
@example([(60, 5, b'"\\UFFFFFFFF"')])
def test_mutants_are_loaded_or_refused(path: Path, edits: list[tuple[int, int, bytes]]) -> None:
    """Cutting and inserting bytes anywhere in a good file never raises anything but ScenarioError."""
    data = GOOD
    for start, length, snippet in edits:
        data = data[:start] + snippet + data[start + length :]
    path.write_bytes(data)
    loads_or_is_refused(path)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_loaded_or_refused(text: str) -> None:
    """Arbitrary text never raises anything but ScenarioError."""
    with pytest.raises(ScenarioError):
        load_text(text, "text")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_value_anywhere_is_loaded_or_refused(path: Path, data: st.DataObject) -> None:
    """Another value in the place of any of a good file's never raises anything but ScenarioError."""
    words = GOOD.split(b" ")
    place = data.draw(st.integers(0, len(words) - 1))
    value = data.draw(
        st.sampled_from([b"[]", b"{}", b"~", b"true", b"-1", b"1.5", b"0s", b'""', b"[[1]]", b"{a: {b: 1}}"])
    )
    words[place] = value + words[place][-1:] if words[place][-1:] in (b",", b"}", b"]", b"\n") else value
    path.write_bytes(b" ".join(words))
    loads_or_is_refused(path)
