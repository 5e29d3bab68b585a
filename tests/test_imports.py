"""The import rule: which room may use which, what stays pure, and what an import may load."""

from __future__ import annotations

import ast
import fnmatch
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Room → what its modules may import of ours; a name stands for its submodules too.
MAY_IMPORT = {
    "router": ("router",),
    "faults": ("faults", "router", "seawall.emulators.client", "seawall.emulators.steps", "seawall.stores"),
    "loadtests": (
        "loadtests",
        "seawall.answers",
        "seawall.draws",
        "seawall.journal.events",
        "seawall.journal.writer",
        "seawall.paths",
        "seawall.plan",
    ),
    "reports": (
        "reports",
        "seawall.answers",
        "seawall.compare.model",
        "seawall.journal",
        "seawall.plan",
        "seawall.scenario",
        "seawall.verdicts",
    ),
    "seawall": ("seawall", "router", "faults", "loadtests"),
}
OURS = (*MAY_IMPORT, "tests", "benchmarks", "noxfile")
# The one exception: the command renders reports, and imports them inside functions only.
RENDERS = "seawall/cli.py"
# Decisions and judgements: given the time and the draws, they reach for nothing themselves.
PURE = (
    "router/breaker.py",
    "router/catalogue.py",
    "router/checks.py",
    "router/deployments.py",
    "router/health.py",
    "router/latency.py",
    "router/plan.py",
    "router/pool.py",
    "router/pricing.py",
    "router/retry.py",
    "router/sse.py",
    "router/usage.py",
    "router/values.py",
    "seawall/answers.py",
    "seawall/draws.py",
    "seawall/emulators/behaviour.py",
    "seawall/emulators/damage.py",
    "seawall/emulators/steps.py",
    "seawall/plan.py",
    "seawall/verdicts/*.py",
)
IMPURE = {"asyncio", "httpx", "random", "requests", "select", "socket", "ssl", "subprocess", "threading", "time"}
# gevent patches the process it is in, so Locust lives in a process of its own.
LOCUST_ONLY = {"gevent", "geventhttpclient", "locust"}
# What httpx and msgspec bring; brotli and zstandard are taken by httpx where they happen to be installed.
ROUTER_MAY_LOAD = {
    *("router", "httpx", "msgspec"),
    *("anyio", "certifi", "h11", "httpcore", "idna", "sniffio", "typing_extensions"),
    *("_brotli", "brotli", "zstandard"),
}


class Import(NamedTuple):
    """One import: the importing file, the line, the module imported, and whether it waits inside a function."""

    path: Path
    line: int
    module: str
    lazy: bool

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"


def test_rooms_import_only_what_the_rule_allows() -> None:
    """A module imports of ours only what its room may use."""
    offences = [
        str(found)
        for room, allowed in MAY_IMPORT.items()
        for found in _imports_of(room)
        if found.module.split(".")[0] in OURS
        and not any(_is_in(found.module, name) for name in allowed)
        and not (_is_in(found.module, "reports") and found.path == ROOT / RENDERS)
    ]
    assert not offences, "\n".join(offences)


def test_the_command_imports_reports_only_when_it_renders() -> None:
    """`seawall/cli.py` imports `reports` inside functions, so that a run does not pay for templates."""
    offences = [str(found) for found in _imports(ROOT / RENDERS) if _is_in(found.module, "reports") and not found.lazy]
    assert not offences, "\n".join(offences)


def test_pure_modules_do_no_io_and_read_no_clock() -> None:
    """Plans, breakers, prices, stream splitters, behaviours and verdicts import nothing that waits, draws or sends."""
    files = [path for path in _files("router", "seawall") if _matches(path, PURE)]
    missing = [name for name in PURE if not any(_matches(path, (name,)) for path in files)]
    offences = [str(found) for path in files for found in _imports(path) if found.module.split(".")[0] in IMPURE]
    assert not missing, f"no such files: {missing}"
    assert not offences, "\n".join(offences)


def test_locust_is_imported_in_loadtests_only() -> None:
    """gevent patches the whole process, so nothing outside `loadtests` imports Locust or gevent."""
    offences = [
        str(found)
        for room in MAY_IMPORT
        if room != "loadtests"
        for found in _imports_of(room)
        if found.module.split(".")[0] in LOCUST_ONLY
    ]
    assert not offences, "\n".join(offences)


def test_importing_the_router_loads_only_httpx_and_msgspec() -> None:
    """`import router` in a fresh interpreter loads the standard library, httpx, msgspec, and nothing else."""
    foreign = {name.split(".")[0] for name in _loaded_by("router")} - ROUTER_MAY_LOAD - set(sys.stdlib_module_names)
    assert not foreign, f"`import router` loads {sorted(foreign)}"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("seawall.plan", {"fastapi", "gevent", "httpx", "locust", "pydantic"}),
        ("seawall.journal.writer", {"fastapi", "gevent", "locust", "pydantic"}),
        ("seawall.cli", {"fastapi", "gevent", "jinja2", "locust", "reports", "uvicorn"}),
    ],
)
def test_imports_stay_light(module: str, heavy: set[str]) -> None:
    """A module that many processes import at their start does not load what it may never use."""
    loaded = _loaded_by(module)
    assert module in loaded
    assert not loaded & heavy, f"`import {module}` loads {sorted(loaded & heavy)}"


def _files(*rooms: str) -> list[Path]:
    return [path for room in rooms for path in sorted((ROOT / room).rglob("*.py")) if "out" not in path.parts]


def _imports_of(room: str) -> list[Import]:
    return [found for path in _files(room) for found in _imports(path)]


def _imports(path: Path) -> Iterator[Import]:
    """Yield every import of a file, those for type checkers too: they are dependencies of the reader."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node, lazy in _walk(tree, lazy=False):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name, lazy)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(path, node)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield Import(path, node.lineno, whole if _is_module(whole) else base, lazy)


def _walk(node: ast.AST, *, lazy: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        yield child, lazy
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _walk(child, lazy=lazy or inside)


def _absolute(path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = path.relative_to(ROOT).parts[: -node.level]
    return ".".join((*package, *([node.module] if node.module else [])))


def _is_module(dotted: str) -> bool:
    place = ROOT.joinpath(*dotted.split("."))
    return place.with_suffix(".py").is_file() or place.is_dir()


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _matches(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(path.relative_to(ROOT).as_posix(), pattern) for pattern in patterns)


def _loaded_by(module: str) -> set[str]:
    """Return what an interpreter has loaded after this import that it had not before."""
    code = f"import sys; before = set(sys.modules); import {module}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())
