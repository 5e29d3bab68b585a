"""Metrics: a real Prometheus takes them, its rules fire when they should, and every name on a dashboard is one."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from platform_parts import Running, ended
from prometheus_client.parser import text_string_to_metric_families

from seawall.gateway.metrics import Metrics
from seawall.paths import k8s_dir
from seawall.ports import HeldPort

OBSERVABILITY = k8s_dir() / "observability"
UNITS = ("seconds", "usd", "bytes", "total")
UNITLESS = {"seawall_breakers", "seawall_slow", "seawall_workers", "seawall_requests_in_flight"}
LABELS = {"outcome", "provider", "mode", "error", "reason", "state", "to", "kind", "le"}


def program(name: str) -> str:
    """Return where a program of Prometheus is; skip without it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on PATH: apt-get install prometheus")
    return found


def exposition() -> bytes:
    """Return what `/metrics` says."""
    return Metrics().render((("seawall_budget_spent_usd", "a", 1.0), ("seawall_budget_limit_usd", "b", 2.0)))


def named() -> set[str]:
    """Return every name that a query may use: those told, and those that histograms make."""
    found: set[str] = set()
    for line in exposition().decode().splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            found |= {f"{name}_{end}" for end in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return found


def test_names_have_units_and_labels_are_few() -> None:
    """Counters end in `_total`, everything else in its unit, and no label can take just any value."""
    for line in exposition().decode().splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert name.startswith("seawall_")
            assert name.endswith("_total") is (kind == "counter"), name
            assert name.endswith(UNITS) or name in UNITLESS, name
    samples = [sample for family in text_string_to_metric_families(exposition().decode()) for sample in family.samples]
    assert {label for sample in samples for label in sample.labels} <= LABELS
    assert len(samples) < 500


def test_dashboard_and_rules_name_what_there_is() -> None:
    """Every metric in the dashboard and in the rules is one that the gateway tells or that a rule records."""
    dashboard = json.loads((OBSERVABILITY / "dashboard.json").read_text("utf-8"))
    told = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = (OBSERVABILITY / "rules.yml").read_text("utf-8")
    expressions = re.findall(r"^ +expr: (.*(?:\n {10,}.*)*)", rules, re.MULTILINE)
    recorded = set(re.findall(r"record: (\S+)", rules))
    assert len(told) >= 12
    assert len(expressions) == 11
    for expression in (*told, *expressions):
        names = set(re.findall(r"\bseawall[_:][a-z0-9_:]+", expression))
        assert names or expression.startswith("up{"), expression
        assert names <= named() | recorded, expression
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_outcomes_in_the_rules_are_outcomes() -> None:
    """The outcomes that the rules leave out or ask for are codes that the gateway counts."""
    from seawall.gateway import metrics

    rules = (OBSERVABILITY / "rules.yml").read_text("utf-8")
    for labels in re.findall(r'seawall_requests_total\{outcome!?~?="?([^"]+)"', rules):
        assert set(labels.strip('~="').split("|")) <= set(metrics._OUTCOMES)


def rule_expressions() -> dict[str, tuple[str, str]]:
    """Return the expression and all of the text of each alert in the rules."""
    rules = (OBSERVABILITY / "rules.yml").read_text("utf-8")
    blocks = rules.split("- alert: ")[1:]
    return {each.split()[0]: (each[each.index("expr:") + 5 : each.index("labels: {")], each) for each in blocks}


def test_every_alert_is_tried_out_with_all_its_labels() -> None:
    """For each rule the file of trials says when it keeps quiet, when it fires, and with which labels and words."""
    trials = (OBSERVABILITY / "rules.test.yml").read_text("utf-8")
    well, broken = trials.split("- name: ")[1:]
    for alert in rule_expressions():
        assert f"{{eval_time: 15m, alertname: {alert}}}" in well
        assert re.search(rf"alertname: {alert}\n +exp_alerts:\n +- exp_labels: \{{severity: ", broken), alert


@pytest.mark.real
def test_labels_of_the_alerts_are_what_a_real_gateway_tells(
    tmp_path: Path,
    start_gateway: Callable[..., AbstractContextManager[Running]],
    question: Callable[..., dict[str, Any]],
) -> None:
    """Each metric of an alert is there when its harm is, with the labels that the rule asks for and tells of."""
    samples: list[Any] = []
    with HeldPort() as nobody:
        gone = f"http://127.0.0.1:{nobody.port}"
        harms: tuple[dict[str, str], ...] = (
            {
                "GEMINI_BASE_URL": gone,
                "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1",
                "TELEMETRY": "otel",
                "OTEL_EXPORTER_OTLP_ENDPOINT": gone,
                "OTEL_BSP_SCHEDULE_DELAY": "50",
                "TRANSCRIPTS": str(tmp_path / "data" / "transcripts.db"),
                "TRANSCRIPTS_KEY_STORE": str(tmp_path / "keys" / "keys.db"),
                "TRANSCRIPTS_KEYS": "vault",
                "TRANSCRIPTS_DOWN": "open",
                "VAULT_ADDR": gone,
                "VAULT_TOKEN": "a-token",
            },
            dict.fromkeys(("GEMINI_BASE_URL", "ANTHROPIC_BASE_URL", "OPENAI_BASE_URL", "OLLAMA_HOST"), gone),
        )
        for harm in harms:
            with start_gateway(**harm) as gateway:
                url = f"http://127.0.0.1:{gateway.port}"
                body = question(stream=True, user="somebody")
                httpx.post(f"{url}/v1/chat/completions", json=body, timeout=20, trust_env=False)
                end = time.monotonic() + 10
                while True:
                    text = httpx.get(f"{url}/metrics", trust_env=False).text
                    if "TRANSCRIPTS" not in harm or re.search(r'unrecorded_total\{reason="key_store"\} 1\n', text):
                        break
                    assert time.monotonic() < end, gateway.says
                    time.sleep(0.05)
                if "TRANSCRIPTS" in harm:
                    assert "answer unrecorded outcome=key_store" in gateway.says
            samples += [each for family in text_string_to_metric_families(text) for each in family.samples]
    told: dict[str, list[dict[str, str]]] = {}
    for sample in samples:
        told.setdefault(sample.name, []).append(sample.labels)
    for alert, (expression, text) in rule_expressions().items():
        by = set(re.findall(r"by \((\w+)\)", expression))
        for name, matchers in re.findall(r"\b(seawall_[a-z_]+)(?:\{([^}]*)\})?", expression):
            assert name in told, alert
            assert all(by <= labels.keys() for labels in told[name]), alert
            wanted = dict(re.findall(r'(\w+)="([^"]*)"', matchers))
            assert any(wanted.items() <= labels.items() for labels in told[name]), (alert, wanted)
        # What a scrape adds is there for whatever is not summed up.
        known = by or ({"instance", "job"} if "sum" not in expression else set())
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= known, alert


@pytest.mark.real
def test_alerts_fire_when_they_should() -> None:
    """Prometheus's own tool finds no fault with the rules, and each alert fires in the trial that breaks everything."""
    for arguments in (["check", "rules", "rules.yml"], ["test", "rules", "rules.test.yml"]):
        done = subprocess.run(
            [program("promtool"), *arguments],
            cwd=OBSERVABILITY,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
def test_a_prometheus_scrapes_the_gateway(
    tmp_path: Path,
    start_gateway: Callable[..., AbstractContextManager[Running]],
    question: Callable[..., dict[str, Any]],
) -> None:
    """With the key of the metrics Prometheus has the gateway's figures, of a failover too, and all rules are sound."""
    with HeldPort() as nobody, HeldPort() as held:
        settings = {
            "SEAWALL_API_KEYS": "sk-front",
            "METRICS_API_KEY": "for-metrics",
            "GEMINI_BASE_URL": f"http://127.0.0.1:{nobody.port}",
        }
        with start_gateway(**settings) as gateway:
            connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
            headers = {"content-type": "application/json", "authorization": "Bearer sk-front"}
            connection.request("POST", "/v1/chat/completions", json.dumps(question()), headers)
            answer = connection.getresponse()
            answer.read()
            connection.close()
            assert answer.status == 200
            shutil.copyfile(OBSERVABILITY / "rules.yml", tmp_path / "rules.yml")
            config = {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": ["rules.yml"],
                "scrape_configs": [
                    {
                        "job_name": "gateway",
                        "authorization": {"credentials": "for-metrics"},
                        "static_configs": [{"targets": [f"127.0.0.1:{gateway.port}"]}],
                    }
                ],
            }
            (tmp_path / "prometheus.yml").write_text(json.dumps(config))
            command = [
                program("prometheus"),
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{held.port}",
            ]
            with (
                (tmp_path / "log").open("wb") as log,
                subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log) as process,
                ended(process),
            ):
                url = f"http://127.0.0.1:{held.port}/api/v1"
                failed = value_of(url, 'seawall_attempts_total{provider="gemini",outcome="failed"}', process)
                assert failed == 1
                assert value_of(url, 'seawall_requests_total{outcome="ok",provider="claude"}', process) == 1
                assert value_of(url, 'up{job="gateway"}', process) == 1
                rules = httpx.get(f"{url}/rules", trust_env=False).json()["data"]["groups"][0]["rules"]
                assert len(rules) == 11
                assert not [rule["name"] for rule in rules if rule["health"] == "err"]


def value_of(url: str, query: str, process: subprocess.Popen[bytes]) -> float:
    """Wait until a query has a value, and return it."""
    end = time.monotonic() + 40
    while time.monotonic() < end:
        assert process.poll() is None
        try:
            found = httpx.get(f"{url}/query", params={"query": query}, trust_env=False).json()["data"]["result"]
        except (httpx.HTTPError, ValueError, KeyError):
            found = []
        if found:
            return float(found[0]["value"][1])
        time.sleep(0.2)
    raise AssertionError(query)
