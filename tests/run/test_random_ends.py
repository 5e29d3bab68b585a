"""
Runs that are ended at random moments, also in the middle of injecting and healing, leave nothing behind.

`SEAWALL_ENDS=50` ends so many; `SEAWALL_ENDS_SEED` draws the moments of an earlier failure again.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_harness import Harness, until, wait_for

from faults.toxiproxy import Toxiproxy
from faults.undo import UndoFile
from seawall.arenas.proxies import OwnProxies

SCENARIO = Path(__file__).with_name("ends.yaml")
ENDS = int(os.environ.get("SEAWALL_ENDS", "6"))
SEED = int(os.environ.get("SEAWALL_ENDS_SEED") or random.SystemRandom().randrange(10**6))
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
# A run takes about 8 s, from its first line to its report: the moments lie anywhere in it.
LONGEST_S = 8.0
# Words of the output after which a moment may be drawn: what follows at once is an injection or a healing.
TURNS = ("injecting", "active", "healing", "healed")

pytestmark = [pytest.mark.real, pytest.mark.timeout(60 + 20 * ENDS)]


def test_random_ends_leave_nothing_behind(
    harness: Harness, others_toxiproxy: Toxiproxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of ours is left, what is somebody else's is as it was, and a report can be made."""
    draws = random.Random(SEED)
    counts: Counter[str] = Counter()
    said = f"seed {SEED}"
    for n in range(ENDS):
        number = SIGNALS[n % len(SIGNALS)]
        is_theirs = n // len(SIGNALS) % 2 == 0
        said = f"SEAWALL_ENDS_SEED={SEED}, end {n}, {number.name}, {'their' if is_theirs else 'our own'} Toxiproxy"
        harness.out = harness.tmp_path / f"out-{n}"
        harness.environment.pop("SEAWALL_TOXIPROXY_URL", None)
        if is_theirs:
            harness.environment["SEAWALL_TOXIPROXY_URL"] = others_toxiproxy.url
        process = harness.start_scenario(SCENARIO)
        when = _wait_for_the_moment(process, draws, in_a_turn=n % 4 != 0)
        process.send_signal(number)
        output, _ = process.communicate(timeout=40)
        told = f"{said}, {when}, exit code {process.returncode}:\n{output}"
        wait_for(lambda: not harness.processes(), 10)
        if number is signal.SIGKILL:
            left = len(others_toxiproxy.proxies()) > 1
            counts["killed with proxies left"] += left
            code, recovered = harness.run("recover")
            assert code == 0, f"{told}\n{recovered}"
        else:
            assert process.returncode in (130, 0, 1, 3, -number), told
            assert "Traceback" not in output, told
            counts[f"exit {process.returncode}"] += 1
        assert harness.undo_files() == [], told
        assert list(others_toxiproxy.proxies()) == ["theirs"], told
        theirs = others_toxiproxy.proxies()["theirs"]
        assert [(toxic.name, toxic.attributes) for toxic in theirs.toxics] == [("slow", {"latency": 100, "jitter": 0})]
        for folder in _run_folders(harness):
            _report_can_be_made(harness, folder, told)
            counts["reports"] += 1
        counts[number.name] += 1
        counts["in a turn" if when.startswith("after") else "anywhere"] += 1
    with capsys.disabled():
        print(f"\n{ENDS} ends, seed {SEED}: {dict(sorted(counts.items()))}")


async def test_creation_that_is_cut_short_leaves_no_proxy(tmp_path: Path, others_toxiproxy: Toxiproxy) -> None:
    """A run that ends while a proxy is being created deletes it, however far the creation was."""
    for moment in range(12):
        undo = UndoFile.create(tmp_path, f"cut-{moment}")
        proxies = OwnProxies(f"cut-{moment}", undo, print)
        proxies.attach(others_toxiproxy.url, is_external=True)
        creation = asyncio.create_task(proxies.create("gemini", 9))
        await asyncio.sleep(moment * 0.0005)
        creation.cancel()
        await asyncio.wait((creation,))
        assert await proxies.remove_all()
        undo.close_clean()
    await asyncio.sleep(0.2)
    assert list(others_toxiproxy.proxies()) == ["theirs"]


def _wait_for_the_moment(process: subprocess.Popen[str], draws: random.Random, *, in_a_turn: bool) -> str:
    """Wait for a drawn moment of the run; return it in words."""
    seconds, word, nth, after_s = draws.random() * LONGEST_S, draws.choice(TURNS), draws.randrange(1, 4), draws.random()
    if not in_a_turn:
        time.sleep(seconds)
        return f"at {seconds:.3f} s"
    try:
        for _ in range(nth):
            until(process, word)
    except AssertionError:  # the run was over first
        return f"after its end, waiting for {word} number {nth}"
    time.sleep(after_s * 0.3)
    return f"after {word} number {nth} and {after_s * 0.3:.3f} s"


def _run_folders(harness: Harness) -> Iterator[Path]:
    """Yield the folder of the run, if it came as far as having an event."""
    if harness.out.is_dir():
        for folder in harness.out.iterdir():
            if not folder.is_symlink() and any(path.stat().st_size for path in folder.glob("events-*.jsonl")):
                yield folder


def _report_can_be_made(harness: Harness, folder: Path, told: str) -> None:
    code, output = harness.run("report", str(folder))
    assert code in (0, 1, 3), f"{told}\n{output}"
    assert "Traceback" not in output, f"{told}\n{output}"
    assert (folder / "index.html").stat().st_size > 0, told
