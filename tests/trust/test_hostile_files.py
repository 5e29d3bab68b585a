"""Hostile files: whatever stands in one, or in the place of one, is a clear error, soon and in little room."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.errors import ConfigurationError
from seawall.cli import main
from seawall.config_file import load_settings
from seawall.gateway.config import GatewaySettings
from seawall.journal.merge import merge
from seawall.journal.read import JournalError, load_journal
from seawall.scenario.loader import load_scenario
from seawall.scenario.problems import ScenarioError

GOOD = "version: 1\ntitle: t\nload: {executor: constant-arrival-rate, rate: 20/s, duration: 60s}\n"
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)) + "tags: *a39\n"
TOUCH = "!!python/object/apply:os.system ['touch pwned']"
# Name → bytes that neither a scenario nor a configuration file may be.
TEXTS: dict[str, bytes] = {
    "aliases that stand for 2^40 values": BOMB.encode(),
    "a python object": f"title: {TOUCH}\n".encode(),
    "a python name": b"title: !!python/name:os.system\n",
    "a tag of one's own": b"title: !mine x\n",
    "a key twice": b"title: a\ntitle: b\n",
    "a number of 200,000 digits": b"seed: " + b"9" * 200_000 + b"\n",
    "a hexadecimal number of 5,000 digits": b"seed: 0x" + b"f" * 5000 + b"\n",
    "100,000 brackets": b"[" * 100_000,
    "10,000 indents": b"".join(b" " * n + b"k:\n" for n in range(600)),
    "a NUL": b"title: a\0b\n",
    "no UTF-8": b"title: \xff\xfe\n",
    "UTF-16": GOOD.encode("utf-16"),
    "a lone surrogate": b"title: \xed\xa0\x80\n",
    "two documents": b"title: a\n---\ntitle: b\n",
    "a list": b"- a\n- b\n",
    "a date that is none": b"title: 2024-99-99\nother: '\n",
    "an escape beyond Unicode": b'title: "\\UFFFFFFFF"\n',
    "an anchor to itself": b"a: &a [*a]\n",
    "binary": bytes(range(256)) * 100,
    "colours": b"title: \x1b[31mred\n",
}
PATIENCE_S = 10.0
GROWS_MB = 200


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to stand in, with another beside it in which nothing may appear."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def refusal_of(load: Callable[[], object]) -> str | None:
    """Return what is said against a configuration, None where it is none."""
    try:
        load()
    except ConfigurationError as error:
        return str(error) or "nothing"
    return None


def one_line(said: str) -> str:
    """Return the only line of what was said; no escape, no traceback."""
    assert "Traceback" not in said
    assert not set(said) & set("\x1b\x00\r")
    (line,) = said.splitlines()
    return line


@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_text_is_an_error_with_its_place(name: str, here: Path) -> None:
    """As a scenario and as a configuration: refused in time, with file and line, nothing run and nothing written."""
    file = here / "made.yaml"
    file.write_bytes(TEXTS[name])
    began_s = time.monotonic()
    with pytest.raises(ScenarioError) as refused:
        load_scenario(file)
    for problem in refused.value.problems:
        assert problem.line >= 1
        assert problem.fix
        assert str(problem).startswith(f"{file}:{problem.line}:")
    for load in (load_settings, GatewaySettings.load):
        said = refusal_of(lambda load=load: load(file, {}, dotenv=None))
        assert said is None or "made.yaml" in said or "is not a setting" in said
        assert len(said or "") < 2000
    assert time.monotonic() - began_s < PATIENCE_S
    assert [path.name for path in here.parent.rglob("*")] == ["here", "made.yaml"]


def odd_places(here: Path) -> dict[str, Path]:
    """Return what is no file, and what is one by a detour: name → path."""
    os.mkfifo(here / "pipe.yaml")
    (here / "zero.yaml").symlink_to("/dev/zero")
    (here / "round.yaml").symlink_to("round.yaml")
    (here / "nowhere.yaml").symlink_to("../../../../nowhere/at/all.yaml")
    (here / "folder.yaml").mkdir()
    return {
        "a pipe": here / "pipe.yaml",
        "a link to a device": here / "zero.yaml",
        "a link to itself": here / "round.yaml",
        "a link to nothing": here / "nowhere.yaml",
        "a folder": here / "folder.yaml",
        "a device": Path("/dev/zero"),
        "a random device": Path("/dev/urandom"),
        "memory": Path("/proc/self/mem"),
        "a name that is too long": here / ("n" * 300),
        "a way up": Path("../../../../../../../nowhere.yaml"),
        "a folder's parent": Path(".."),
    }


def test_what_is_no_file_is_an_error_at_once(here: Path) -> None:
    """Pipes, devices, folders and links in circles are never waited for nor read to an end that they do not have."""
    for name, path in odd_places(here).items():
        began_s = time.monotonic()
        with pytest.raises(ScenarioError) as refused:
            load_scenario(path)
        assert len(refused.value.problems) == 1, name
        assert refused.value.problems[0].fix, name
        with pytest.raises(ConfigurationError, match=r"is not a file|cannot be read"):
            load_settings(path, {}, dotenv=None)
        with pytest.raises(JournalError):
            load_journal(path)
        assert time.monotonic() - began_s < 2, name
    (here / "run").mkdir()
    os.mkfifo(here / "run" / "events-gateway-1.jsonl")
    with pytest.raises(JournalError, match="is not a file"):
        merge(here / "run")


@pytest.mark.real
def test_the_command_says_one_line_of_each(here: Path) -> None:
    """`validate`, `run`, `serve` and `report` of names with newlines, colours and `../`: a line and a code."""
    names = [
        "a\nb.yaml",
        "\x1b[31mred.yaml",
        "../../../etc/passwd",
        "/dev/zero",
        "-\x07.yaml",
        "\u202egpj.yaml",
        "x" * 4000,
    ]
    names.append("x" * 4000)
    for name in names[:2]:
        (here / name).write_text(GOOD.replace("title: t", "titel: t"))
    environment = os.environ | {"NO_COLOR": "1", "SEAWALL_STATE": str(here / "state")}
    code = (
        "import sys\nfrom seawall.cli import main\n"
        "for word in ('validate', 'run', 'serve', 'report'):\n"
        "    for name in sys.argv[1:]:\n"
        "        words = [word, '--', name] if word != 'serve' else [word, '--port', '0', '--config=' + name]\n"
        "        print('=====', main(words), file=sys.stderr, flush=True)\n"
    )
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *names],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert not set(said) & set("\x1b\x07\r\u202e")
    codes = [int(line.split()[1]) for line in said.splitlines() if line.startswith("=====")]
    assert len(codes) == 4 * len(names)
    assert set(codes) <= {2, 3}
    assert time.monotonic() - began_s < 30
    assert len(said.splitlines()) < 6 * len(codes), said


def test_a_suite_leads_nowhere_else(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reports are written beside the suite only: a list of runs that leads away is refused."""
    away = here.parent / "away"
    away.mkdir()
    suite = here / "suites" / "suite"
    suite.mkdir(parents=True)
    for name in ("../../../away", str(away), "..\x00", "../../.."):
        (suite / "runs.json").write_text(json.dumps([name]))
        assert main(["report", str(suite)]) == 3
        assert "suite" in one_line(capsys.readouterr().err)
    for text in ("{", "[1]", "nonsense", '"a"'):
        (suite / "runs.json").write_text(text)
        assert main(["report", str(suite)]) == 3
        one_line(capsys.readouterr().err)
    assert list(away.iterdir()) == []


def test_memory_stays_small(here: Path) -> None:
    """The worst of the texts and a journal of one endless line cost a bounded piece of memory."""
    code = (
        "import re, sys\nfrom pathlib import Path\nfrom seawall.config_file import load_settings\n"
        "from seawall.journal.read import load_journal\nfrom seawall.scenario.loader import load_scenario\n"
        "from seawall.verdicts.judge import judge\n"
        "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024\n"
        "before = peak()\n"
        "for name in sys.argv[1:]:\n"
        "    for load in (load_scenario, load_settings, load_journal):\n"
        "        try: load(Path(name))\n"
        "        except Exception as error: assert type(error).__module__.startswith(('seawall', 'router')), error\n"
        "print(peak() - before)\n"
    )
    files: list[str] = []
    for number, data in enumerate(TEXTS.values()):
        (here / f"{number}.yaml").write_bytes(data)
        files.append(f"{number}.yaml")
    with (here / "long.jsonl").open("wb") as file:
        file.truncate(300 << 20)
    done = subprocess.run(
        [sys.executable, "-c", code, *files, "long.jsonl"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    grown_mb = float(done.stdout)
    print(f"{len(files) + 1} hostile files: peak memory grown by {grown_mb:.0f} MB")
    assert grown_mb < GROWS_MB


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=400),
        st.lists(
            st.sampled_from([b"a: ", b"&a ", b"*a", b"!!x ", b"- ", b"[", b"{", b"}", b"\n", b'"', b"0x", b"~"])
        ).map(b"".join),
        st.binary(max_size=30).map(lambda data: GOOD.encode() + data),
    )
)
@example(b"? [1]\n: 2\n")
@example(b"gateway: {1: 2}\n")
@example(b"seed: 0x" + b"f" * 5000)
def test_any_bytes_are_a_model_or_one_clear_error(data: bytes) -> None:
    """A scenario or its problems with their places; settings or a ConfigurationError; nothing else is ever raised."""
    file = Path("any.yaml")
    file.write_bytes(data)
    problems = ()
    try:
        assert load_scenario(file).scenario.version == 1
    except ScenarioError as error:
        problems = error.problems
    assert all(problem.line >= 1 and problem.message and problem.fix for problem in problems)
    assert all("\n" not in str(problem) for problem in problems)
    for load in (load_settings, GatewaySettings.load):
        assert refusal_of(lambda load=load: load(file, {}, dotenv=None)) != "nothing"
