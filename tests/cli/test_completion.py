"""Shell completion: what bash offers at each place, and that the other shells' scripts name everything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seawall.commands.completion import script
from seawall.commands.table import COMMANDS
from seawall.paths import scenarios_dir


def _offered(tmp_path: Path, *words: str) -> list[str]:
    """Return what bash would offer for the last of the words, with `seawall` being this very package."""
    command = tmp_path / "seawall"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m seawall "$@"\n')
    command.chmod(0o755)
    line = " ".join(f"'{word}'" for word in words)
    program = f"""{script("bash")}
complete() {{ :; }}
COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}
_seawall
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("seawall", "re"), {"report", "recover"}),
        (("seawall", "run", "--f"), {"--fail-fast"}),
        (("seawall", "run", "primary-d"), {"primary-dark"}),
        (("seawall", "run", "--tag", "fail"), {"failover"}),
        (("seawall", "completion", ""), {"bash", "zsh", "fish"}),
        (("seawall", "serve", "--de"), {"--demo"}),
        (("seawall", "run", "--jobs", ""), set()),
    ],
)
def test_bash_offers_what_fits(tmp_path: Path, words: tuple[str, ...], offered: set[str]) -> None:
    """bash offers commands, options, scenario names and tags, each at its place."""
    assert set(_offered(tmp_path, *words)) == offered


def test_bash_offers_files_beside_names(tmp_path: Path) -> None:
    """Scenario files of one's own are offered beside the names of ours."""
    (tmp_path / "mine.yaml").write_text("")
    (tmp_path / "notes.txt").write_text("")
    offered = _offered(tmp_path, "seawall", "validate", "")
    assert "mine.yaml" in offered
    assert "notes.txt" not in offered
    assert {path.stem for path in scenarios_dir().glob("*.yaml")} <= set(offered)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_know_everything(shell: str, tmp_path: Path) -> None:
    """The script names every command and option, asks for scenario names, and is correct where the shell is here."""
    text = script(shell)
    for command in COMMANDS:
        assert command.name in text
        for argument in command.arguments:
            if argument.is_option:
                assert (argument.names[0] if shell == "zsh" else f"-l {argument.names[0][2:]}") in text
    assert "seawall list --names" in text
    if shutil.which(shell):
        place = tmp_path / "script"
        place.write_text(text)
        assert subprocess.run([shell, "-n", str(place)], check=False, timeout=30).returncode == 0
