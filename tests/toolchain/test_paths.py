"""Where things are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from seawall import paths


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own, and none of the variables."""
    for name in ("SEAWALL_CACHE", "SEAWALL_STATE", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_our_variable_wins_over_xdg_over_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache: `~/.cache/seawall`, `$XDG_CACHE_HOME/seawall`, `$SEAWALL_CACHE`, the later the stronger."""
    assert paths.cache_dir() == home / ".cache" / "seawall"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert paths.cache_dir() == home / "xdg" / "seawall"
    monkeypatch.setenv("SEAWALL_CACHE", "~/mine")
    assert paths.cache_dir() == home / "mine"


def test_a_relative_xdg_path_is_ignored_and_ours_is_made_absolute(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative XDG path is invalid, as XDG says; one in our own variable is meant from the working folder."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert paths.cache_dir() == home / ".cache" / "seawall"
    monkeypatch.setenv("SEAWALL_CACHE", "somewhere")
    assert paths.cache_dir() == home / "somewhere"


def test_state_is_private_and_an_existing_folder_is_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state folder and the undo folder are made with mode 0700; one that exists keeps its mode."""
    assert paths.undo_dir() == home / ".local" / "state" / "seawall" / "undo"
    assert paths.state_dir().stat().st_mode & 0o777 == 0o700
    assert paths.undo_dir().stat().st_mode & 0o777 == 0o700
    shared = home / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    monkeypatch.setenv("SEAWALL_STATE", str(shared))
    assert paths.state_dir() == shared
    assert shared.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("pyproject", "scenarios", "inside"),
    [
        ('[project]\nname = "seawall"', True, True),
        ('[project]\nname = "seawall"', False, False),
        ('[project]\nname = "other"', True, False),
        ("[project", True, False),
        ("project = 3", True, False),
        (None, True, False),
    ],
)
def test_runs_go_to_reports_out_only_in_a_checkout(
    home: Path, pyproject: str | None, *, scenarios: bool, inside: bool
) -> None:
    """A checkout is a pyproject.toml that names seawall beside scenarios/; its subfolders are in it too."""
    checkout = home / "code"
    deep = checkout / "scenarios" / "storm" if scenarios else checkout / "docs"
    deep.mkdir(parents=True)
    if pyproject is not None:
        (checkout / "pyproject.toml").write_text(pyproject)
    out = checkout / "reports" / "out"
    assert paths.runs_dir(checkout) == (out if inside else checkout / "seawall-reports")
    assert paths.runs_dir(deep) == (out if inside else deep / "seawall-reports")


def test_scenarios_are_the_checkout_s_or_the_package_s_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a source tree `scenarios/` beside the package, in an installed package `_data/scenarios` in it."""
    package = Path(paths.__file__).parent
    assert paths.scenarios_dir() in (package.parent / "scenarios", package / "_data" / "scenarios")
    monkeypatch.setattr(paths, "_PACKAGE", home / "site-packages" / "seawall")
    assert paths.scenarios_dir() == home / "site-packages" / "seawall" / "_data" / "scenarios"
