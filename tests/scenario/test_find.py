"""Finding scenario files by path, name and tag, and validating many at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from seawall.paths import scenarios_dir
from seawall.scenario import ScenarioError, find, validate_paths

GOOD = "version: 1\ntitle: t\ntags: [%s]\nload: {executor: constant-arrival-rate, rate: 20/s, duration: 60s}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of scenarios in the place of ours."""
    (tmp_path / "regressions").mkdir()
    (tmp_path / "alpha.yaml").write_text(GOOD % "ci, fast")
    (tmp_path / "beta.yaml").write_text(GOOD % "slow")
    (tmp_path / "notes.txt").write_text("no scenario")
    (tmp_path / "regressions" / "lost-probe.yaml").write_text(GOOD % "ci")
    monkeypatch.setattr("seawall.paths.scenarios_dir", lambda: tmp_path)
    return tmp_path


def test_no_name_means_the_whole_folder(folder: Path) -> None:
    """Without names and tags all scenarios of the folder are found, in order, and not those below it."""
    assert find([], tags=[]) == [folder / "alpha.yaml", folder / "beta.yaml"]


def test_tags_choose(folder: Path) -> None:
    """A file is found when it has one of the tags."""
    assert find([], tags=["ci"]) == [folder / "alpha.yaml"]
    assert find([], tags=["slow", "fast"]) == [folder / "alpha.yaml", folder / "beta.yaml"]


def test_an_unreadable_file_is_not_passed_over(folder: Path) -> None:
    """A file whose tags cannot be read is found beside those that match, so that it is refused and not forgotten."""
    (folder / "broken.yaml").write_text("tags: [ci\n")
    assert find([], tags=["ci"]) == [folder / "alpha.yaml", folder / "broken.yaml"]


def test_tags_of_an_invalid_scenario_are_read(folder: Path) -> None:
    """A slip elsewhere in a file does not hide it from its tags."""
    (folder / "slip.yaml").write_text("titel: x\ntags: [ci, 7]\n")
    assert folder / "slip.yaml" in find([], tags=["ci"])


def test_an_unknown_tag_is_an_error(folder: Path) -> None:
    """A tag that no file has is refused with the nearest one that some file has."""
    with pytest.raises(ScenarioError, match=r"no scenario is tagged `slo`; did you mean `slow`\?"):
        find([], tags=["slo"])


def test_names_are_paths_or_names_of_the_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A path, a bare name, a name with its ending and a name below the folder are found, each once, in their order."""
    elsewhere = tmp_path_factory.mktemp("mine") / "own.yaml"
    elsewhere.write_text(GOOD % "own")
    names = [str(elsewhere), "beta", "beta.yaml", "lost-probe", "regressions/lost-probe"]
    assert find(names, tags=[]) == [elsewhere, folder / "beta.yaml", folder / "regressions" / "lost-probe.yaml"]


def test_every_unknown_name_is_told_with_the_nearest(folder: Path) -> None:
    """All unknown names are refused at once, each with what it was probably meant to be."""
    with pytest.raises(ScenarioError) as caught:
        find(["alhpa", "alpha", "zzz", ""], tags=[])
    assert [str(problem) for problem in caught.value.problems] == [
        "alhpa: there is no such scenario; did you mean `alpha`?",
        "zzz: there is no such scenario; the scenarios are `alpha`, `beta`, `regressions/lost-probe`",
        ": there is no such scenario; the scenarios are `alpha`, `beta`, `regressions/lost-probe`",
    ]


def test_validation_goes_through_all_files(folder: Path) -> None:
    """Every problem of every file is returned, in order; a good file adds none."""
    (folder / "beta.yaml").write_text("version: 2\ntitle: 7\n")
    (folder / "gamma.yaml").write_text("[]\n")
    problems = validate_paths(find([], tags=[]))
    assert [(Path(p.file).name, p.line) for p in problems] == [
        ("beta.yaml", 1),
        ("beta.yaml", 1),
        ("beta.yaml", 2),
        ("gamma.yaml", 1),
    ]


def test_validation_shows_warnings_when_asked(folder: Path) -> None:
    """Warnings are no problems of a file unless they are asked for."""
    fault = "{id: f, at: 1s, duration: 9s, target: gemini, toxic: {type: timeout, toxicity: 50%}}"
    (folder / "beta.yaml").write_text(f"{GOOD % 'ci'}faults: [{fault}]\n")
    paths = find([], tags=[])
    assert validate_paths(paths) == []
    assert [problem.severity for problem in validate_paths(paths, warnings=True)] == ["warning"]


def test_our_own_scenarios_are_found() -> None:
    """The scenarios of CI are found by their tag and by their names."""
    names = ["all-down", "primary-dark", "throttled"]
    assert set(find(names, tags=[])) <= set(find([], tags=["ci"]))
    assert [path.parent for path in find(names, tags=[])] == [scenarios_dir()] * 3
