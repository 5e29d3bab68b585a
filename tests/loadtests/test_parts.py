"""The small pure parts: the lag figures, the descriptor limit, the configuration."""

from __future__ import annotations

import math
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.command import command, environment, read_status, write_config
from loadtests.config import ConfigError, LoadConfig, LoadStatus, read_config, target_of, write_json
from loadtests.descriptors import peak_in_flight, require_descriptors
from loadtests.meter import LagMeter
from seawall.plan import ArrivalSpec, LoadPlan, RateStage, arrivals


def steady(rate: float, duration_s: float, deadline_s: float) -> LoadPlan:
    """Return a plan with one rate."""
    stages = (RateStage(duration_s=duration_s, start_rate=rate, end_rate=rate),)
    return LoadPlan(executor="constant-arrival-rate", seed=1, stages=stages, deadline_s=deadline_s)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=300))
def test_lag_figures_are_order_statistics(lags_ns: list[int]) -> None:
    """p50 and p99 are the least values that so many sends do not exceed; max is the largest."""
    meter = LagMeter(0, 0)
    for lag_ns in lags_ns:
        meter.sent(100, 100 + lag_ns)
    lag = meter.report(1_000_000_000, 250_000_000)
    assert lag is not None
    assert (lag.requests, lag.cpu_share) == (len(lags_ns), 0.25)
    for figure, share in ((lag.p50_ms, 0.5), (lag.p99_ms, 0.99), (lag.max_ms, 1.0)):
        value = sorted(lags_ns)[math.ceil(share * len(lags_ns)) - 1]
        assert figure == pytest.approx(value / 1e6, abs=0.001)


def test_each_report_begins_anew() -> None:
    """A report covers the time since the last one; without a send there is none."""
    meter = LagMeter(0, 0)
    meter.sent(0, 5_000_000)
    assert meter.report(1_000_000_000, 0) is not None
    assert meter.report(2_000_000_000, 0) is None
    meter.sent(0, 1_000_000)
    lag = meter.report(3_000_000_000, 500_000_000)
    assert lag is not None
    assert (lag.requests, lag.max_ms, lag.cpu_share) == (1, 1.0, 0.5)


@given(
    times=st.lists(st.floats(0, 100), max_size=60),
    deadline_s=st.floats(0.1, 200),
)
def test_peak_in_flight_of_written_arrivals(times: list[float], deadline_s: float) -> None:
    """The peak is what is in flight when nothing answers: the most arrivals within one deadline."""
    specs = tuple(ArrivalSpec(at_s=at_s) for at_s in times)
    plan = LoadPlan(executor="arrivals", seed=1, arrivals=specs, deadline_s=deadline_s)
    due = [arrival.at_s for arrival in arrivals(plan)]
    expected = max((sum(1 for other in due if at_s - deadline_s < other <= at_s) for at_s in due), default=0)
    assert abs(peak_in_flight(plan) - expected) <= 1


@pytest.mark.parametrize(
    ("rate", "duration_s", "deadline_s", "peak"),
    [(100, 60, 30, 3000), (100, 2, 30, 200), (7, 10, 0.5, 4), (0, 5, 9, 0)],
)
def test_peak_in_flight_of_rates(rate: float, duration_s: float, deadline_s: float, peak: int) -> None:
    """With rates, the peak is rate times deadline, or all arrivals where these are fewer."""
    assert peak_in_flight(steady(rate, duration_s, deadline_s)) == peak


def test_the_limit_counts_a_worker_s_share() -> None:
    """A plan that is too large for one process may be executed by several."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        require_descriptors(steady(1_000_000, 2.0, 1.0))  # without a limit there is no plan to refuse
        return
    plan = steady(hard, 2.0, 1.0)
    with pytest.raises(ConfigError, match=f"the limit is {hard}"):
        require_descriptors(plan)
    require_descriptors(plan, workers=2)


def config(tmp_path: Path, **changes: str) -> LoadConfig:
    """Return a usable configuration."""
    values = {"base_url": "http://127.0.0.1:8080", **changes}
    return LoadConfig(plan=steady(5, 2, 3), events=str(tmp_path), status_file=str(tmp_path / "status.json"), **values)


def test_configuration_comes_back_as_written(tmp_path: Path) -> None:
    """What the harness writes is what the load generator reads, and the command line names the locustfile."""
    path = tmp_path / "load.json"
    with pytest.raises(FileNotFoundError):
        command(path)
    write_config(path, config(tmp_path))
    assert read_config(path) == config(tmp_path)
    arguments = command(path)
    assert arguments[1:4] == ["-m", "locust", "-f"]
    assert Path(arguments[4]).is_file()
    assert "--headless" in arguments
    assert environment(path) == {"SEAWALL_LOAD": str(path)}
    assert read_status(config(tmp_path)) is None
    status = LoadStatus(pid=1, t0_ns=2, arrivals=3, duration_s=4.0)
    write_json(Path(config(tmp_path).status_file), status)
    assert read_status(config(tmp_path)) == status
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["load.json", "status.json"]


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1:1", "127.0.0.1:80", "http://", "http://h:99999", "http://h/v1", "http://u:p@h", "ftp://h", ""],
)
def test_unusable_addresses_are_refused(url: str) -> None:
    """Only a plain HTTP address is taken, and the message repeats what was given."""
    with pytest.raises(ConfigError, match="base_url"):
        target_of(url)


def test_usable_addresses() -> None:
    """Host and port are found, the port defaults to 80, IPv6 goes without its brackets."""
    assert target_of("http://127.0.0.1:8080/") == ("127.0.0.1", 8080)
    assert target_of("http://localhost") == ("localhost", 80)
    assert target_of("http://[::1]:90") == ("::1", 90)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": "v1"}, "slash"),
        ({"api_key_env": "SEAWALL_NO_SUCH_KEY"}, "not set"),
        ({"base_url": "https://h"}, "base_url"),
    ],
)
def test_unusable_configurations_are_refused(tmp_path: Path, change: dict[str, str], words: str) -> None:
    """A configuration that could not work is refused before anything starts."""
    write_config(tmp_path / "load.json", config(tmp_path, **change))
    with pytest.raises(ConfigError, match=words):
        read_config(tmp_path / "load.json")


def test_malformed_or_missing_configurations_are_refused(tmp_path: Path) -> None:
    """What is no configuration is refused with the file's name."""
    with pytest.raises(ConfigError, match=r"load\.json cannot be read"):
        read_config(tmp_path / "load.json")
    (tmp_path / "load.json").write_text('{"plan": 3}')
    with pytest.raises(ConfigError, match=r"load\.json is malformed"):
        read_config(tmp_path / "load.json")
