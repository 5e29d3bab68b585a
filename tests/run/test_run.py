"""The command on real parts: what passes, what must turn red, and what is left behind."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest
from command_harness import LATE, Harness, until, wait_for

from faults.toxiproxy import Toxiproxy

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

SCENARIO = Path(__file__).with_name("dark.yaml")


def _checks(verdict: dict[str, object], word: str) -> list[dict[str, str]]:
    return [check for check in verdict["checks"] if check["verdict"] == word]  # type: ignore[attr-defined]


def test_outage_of_the_primary_is_survived(harness: Harness) -> None:
    """The scenario holds on real parts: exit code 0, a report with every part, nothing left to undo."""
    code, output = harness.run_scenarios(str(SCENARIO))
    verdict = harness.verdict()
    assert [check["name"] for check in _checks(verdict, "fail")] == []
    assert {check["name"] for check in _checks(verdict, "invalid")} <= {LATE}  # a busy machine is no defect of ours
    assert verdict["undone"] is True
    assert code == (3 if _checks(verdict, "invalid") else 0), output
    for name in ("index.html", "junit.xml", "summary.md", "journal.jsonl"):
        assert (harness.folder() / name).stat().st_size > 0
    assert not list((harness.tmp_path / "state" / "undo").iterdir())


def test_breaker_that_never_opens_is_a_failure(harness: Harness) -> None:
    """A router whose breaker never opens turns the run red, with the cause in the first lines."""
    harness.plant(
        "seawall.gateway",
        """
        from router.breaker import Breaker
        Breaker._open = lambda self, now_s, cause: None
        """,
    )
    code, output = harness.run_scenarios(str(SCENARIO))
    assert code == 1, output
    told = output[output.index("FAIL dark") :]
    assert "gemini" in told.splitlines()[0]
    assert "open" in told.splitlines()[0]


def test_toxic_without_effect_is_invalid(harness: Harness) -> None:
    """A fault that was never put in force makes the run invalid, never a pass, and the reason names the fault."""
    harness.plant(
        "seawall",
        """
        from faults.toxic import ToxicFault
        ToxicFault.inject = lambda self: None
        """,
    )
    code, output = harness.run_scenarios(str(SCENARIO))
    assert code == 3, output
    assert harness.verdict()["verdict"] == "invalid"
    assert any("dark" in check["name"] for check in _checks(harness.verdict(), "invalid"))


@pytest.mark.parametrize("moment", ["injecting", "met by traffic", "healing"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_undoes_and_reports(
    harness: Harness, others_toxiproxy: Toxiproxy, number: signal.Signals, moment: str
) -> None:
    """Ctrl-C and SIGTERM in mid-run leave no process, no proxy and no toxic of ours; the report is there."""
    harness.environment["SEAWALL_TOXIPROXY_URL"] = others_toxiproxy.url
    process = harness.start_scenario(SCENARIO)
    until(process, moment)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    wait_for(lambda: not any(child.is_running() for child in children), 5)
    assert list(others_toxiproxy.proxies()) == ["theirs"]
    assert [toxic.name for toxic in others_toxiproxy.proxies()["theirs"].toxics] == ["slow"]
    assert harness.verdict()["undone"] is True
    assert (harness.folder() / "index.html").stat().st_size > 0
    assert not list((harness.tmp_path / "state" / "undo").iterdir())


@pytest.mark.parametrize("moment", ["injecting", "met by traffic", "healing"])
def test_kill_is_recovered_from(harness: Harness, others_toxiproxy: Toxiproxy, moment: str) -> None:
    """After SIGKILL the children end by themselves, `seawall recover` takes back the rest, `seawall report` reports."""
    harness.environment["SEAWALL_TOXIPROXY_URL"] = others_toxiproxy.url
    process = harness.start_scenario(SCENARIO)
    until(process, moment)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=10)
    wait_for(lambda: not any(child.is_running() for child in children), 10)
    assert len(others_toxiproxy.proxies()) > 1
    code, output = harness.run("recover")
    assert code == 0, output
    assert list(others_toxiproxy.proxies()) == ["theirs"]
    assert [toxic.name for toxic in others_toxiproxy.proxies()["theirs"].toxics] == ["slow"]
    code, output = harness.run("report", str(harness.folder()))
    assert "INVALID" in output or "FAIL" in output
    assert (harness.folder() / "index.html").stat().st_size > 0
    code, output = harness.run("recover")
    assert (code, output.strip()) == (0, "Nothing to undo.")


def test_bad_scenario_starts_nothing(harness: Harness) -> None:
    """A broken file is refused with its place and exit code 2 before anything is started or written."""
    broken = harness.tmp_path / "broken.yaml"
    broken.write_text(SCENARIO.read_text().replace("timeout: 0", "timeuot: 0"))
    code, output = harness.run("run", str(broken), "--out", str(harness.out))
    assert code == 2
    assert "broken.yaml:" in output
    assert "`timeout`" in output
    assert not harness.out.exists()


def test_gateway_that_dies_ends_the_run(harness: Harness) -> None:
    """When a part ends unasked the run is broken off at once, undone, and invalid with the part's name."""
    process = harness.start_scenario(SCENARIO)
    until(process, "met by traffic")
    gateway = next(
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "seawall.gateway" in child.cmdline() and "seawall.supervise" not in " ".join(child.cmdline())
    )
    gateway.kill()
    output, _ = process.communicate(timeout=30)
    assert "gateway" in output
    assert process.returncode in {1, 3}, output
    assert harness.verdict()["undone"] is True
