"""compose.yaml and the image, as far as they can be checked where no container engine is."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from seawall.toolchain import resolve

ROOT = Path(__file__).resolve().parents[2]
PINNED = re.compile(r"^[a-z0-9./-]+:v?\d+\.\d+\.\d+(-[a-z0-9.]+)?$")


def read(path: Path) -> Any:
    """Read a YAML file."""
    yaml: Any = YAML(typ="safe", pure=True)
    return yaml.load(path.read_bytes())


COMPOSE: dict[str, Any] = read(ROOT / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_all_that_belongs_to_the_gateway_is_there() -> None:
    """The gateway with Redis, Jaeger, Prometheus, Toxiproxy and nginx; every image is one exact version."""
    assert set(SERVICES) == {"gateway", "redis", "jaeger", "prometheus", "toxiproxy", "nginx"}
    loose = [name for name, service in SERVICES.items() if not PINNED.match(service["image"])]
    assert not loose


def test_nothing_is_published_beyond_this_machine() -> None:
    """Every port is published on 127.0.0.1, none twice; Jaeger's page is on 16686."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published)
    assert len({port.split(":")[1] for port in published}) == len(published)
    assert "127.0.0.1:16686:16686" in SERVICES["jaeger"]["ports"]


def test_what_is_named_exists() -> None:
    """Mounted files are in this tree, named volumes are declared, and services depend on services."""
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (ROOT / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"], mount
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        for name, condition in service.get("depends_on", {}).items():
            assert condition["condition"] == "service_started" or "healthcheck" in SERVICES[name]


def test_the_services_find_each_other() -> None:
    """Redis is reached through Toxiproxy, Prometheus asks the gateway, and the gateway is what the image starts."""
    (proxy,) = json.loads((ROOT / "k8s/compose/toxiproxy.json").read_text())
    gateway = SERVICES["gateway"]
    assert gateway["environment"]["REDIS_URL"] == f"redis://toxiproxy:{proxy['listen'].rpartition(':')[2]}/0"
    assert proxy["upstream"] == "redis:6379"
    (job,) = read(ROOT / "k8s/compose/prometheus.yml")["scrape_configs"]
    assert job["static_configs"][0]["targets"] == ["gateway:8080"]
    assert gateway["command"] == ["serve", "--host", "0.0.0.0", "--port", "8080"]
    assert "set $gateway http://gateway:8080;" in (ROOT / "k8s/compose/nginx.conf").read_text()


def test_the_image_is_built_in_two_stages_and_runs_as_nobody_special() -> None:
    """The last stage has no build tools and a user of its own; what it copies from the tree exists."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    stages = [line.split() for line in lines if line.startswith("FROM ")]
    assert [stage[2:] for stage in stages] == [["AS", "build"], []]
    last = lines[max(n for n, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert "USER 10001" in last
    assert all("--from=build" in line for line in last if line.startswith("COPY"))
    for line in lines:
        if line.startswith("COPY requirements/"):
            assert all((ROOT / name).is_file() for name in line.split()[1:-1])
    deployment = read(ROOT / "k8s/base/deployment.yaml")["spec"]["template"]["spec"]
    assert deployment["securityContext"]["runAsUser"] == 10001
    assert deployment["containers"][0]["image"] == SERVICES["gateway"]["image"]


@pytest.mark.real
def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    """The real nginx finds no fault with the file that is mounted into it."""
    program = resolve("nginx").path
    assert program is not None
    (tmp_path / "logs").mkdir()
    done = subprocess.run(
        [str(program), "-t", "-p", str(tmp_path), "-c", str(ROOT / "k8s/compose/nginx.conf"), "-e", "stderr"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
