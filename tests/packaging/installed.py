"""
Check an installed wheel from within: `python -P -I installed.py router|harness TREE`, where TREE is the checkout.

`router`: only httpx and msgspec are installed beside the wheel. `harness`: the whole extra is. Everything must come
from site-packages, nothing from TREE. Imports nothing but the standard library and what it checks.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import sys
import sysconfig
from importlib.resources import files
from pathlib import Path

PINS = ("go.mod", "go.sum", "main.go")
SITE = Path(sysconfig.get_path("purelib")).resolve()


def main(kind: str, tree: Path) -> None:
    """Check everything of `kind`; leave with one line on the first thing amiss."""
    for entry in sys.path:
        _require(not _within(Path(entry or "."), tree), f"{entry!r} of sys.path lies in the checkout")
    if kind == "router":
        _router()
    else:
        _harness()
    sys.stdout.write(f"  {kind}: all comes from the wheel\n")


def _router() -> None:
    for absent in ("dotenv", "fastapi", "locust", "pydantic"):
        _require(importlib.util.find_spec(absent) is None, f"{absent} is installed: this venv proves nothing")
    router = importlib.import_module("router")
    _require(_within(Path(str(router.__file__)), SITE), f"router comes from {router.__file__}, not from the wheel")
    for name in router.__all__:
        _require(getattr(router, name, None) is not None, f"router.{name} is named in __all__ and is not there")
    prices = json.loads((files("router") / "data" / "prices.json").read_text(encoding="utf-8"))
    _require(bool(prices), "router/data/prices.json is empty")


def _harness() -> None:
    for package in ("faults", "loadtests", "reports", "router", "seawall"):
        spec = importlib.util.find_spec(package)
        where = None if spec is None or spec.origin is None else Path(spec.origin)
        _require(where is not None and _within(where, SITE), f"{package} comes from {where}, not from the wheel")
    for package in ("tests", "scenarios", "k8s", "benchmarks"):
        _require(not (SITE / package).exists(), f"the wheel brought a top-level package named {package}")
    scenarios = Path(importlib.import_module("seawall.paths").scenarios_dir()).resolve()
    _require(_within(scenarios, SITE), f"scenarios come from {scenarios}, not from the wheel")
    _require(bool(list(scenarios.rglob("*.yaml"))), f"no scenario lies in {scenarios}")
    manifests = Path(importlib.import_module("seawall.paths").k8s_dir()).resolve()
    _require(_within(manifests, SITE), f"manifests come from {manifests}, not from the wheel")
    for manifest in ("base/kustomization.yaml", "hpa.yaml", *(f"localcluster/{name}" for name in PINS)):
        _require((manifests / manifest).is_file(), f"k8s/{manifest} is not in the wheel")
    templates = SITE / "reports" / "templates"
    _require(any(path.stat().st_size for path in templates.rglob("*.*")), f"no report template lies in {templates}")
    for data in (
        "router/data/prices.json",
        *(f"seawall/stores/{name}.lua" for name in ("adjust", "breakers", "reserve", "settle")),
        *(f"seawall/gomod/toxiproxy/{name}" for name in ("go.mod", "go.sum", "tools.go")),
    ):
        _require((SITE / data).is_file() and (SITE / data).stat().st_size > 0, f"{data} is not in the wheel, or empty")
    plugins = [plugin.value for plugin in importlib.metadata.entry_points(group="pytest11", name="seawall")]
    _require(plugins == ["seawall.pytest_plugin"], f"pytest would load {plugins} as Seawall's plugin")
    for typed in ("router", "seawall"):
        _require((SITE / typed / "py.typed").is_file(), f"{typed}/py.typed is not in the wheel")
    licences = importlib.metadata.metadata("seawall").get_all("License-File") or []
    _require("LICENSE" in licences, "the wheel carries no licence")


def _within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise SystemExit(f"installed: {message}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
