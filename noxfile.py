#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = ["nox>=2025.11.12"]
# ///
"""
Every command of the project as a nox session; `nox -l` lists them, `nox -s NAME -- ARGUMENTS` runs one.

Packages come from the locks in `requirements/`, each checked by its hash; the project itself is installed without its
dependencies. A session keeps its environment, and installs again only when its locks or `pyproject.toml` change.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.11.12"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"  # an interpreter that is absent is said to be absent
nox.options.error_on_external_run = True
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]
# A kept environment is made anew when nox itself runs on another interpreter than before.
os.environ.setdefault("NOX_ENABLE_STALENESS_CHECK", "1")

ROOT = Path(__file__).parent
REQUIREMENTS = ROOT / "requirements"
OTHER_PYTHONS = ("3.12", "3.13")
# Ctrl-C reaches the processes too: they take back their faults and stop their children before nox may kill them.
PATIENCE = {"interrupt_timeout": 60.0, "terminate_timeout": 30.0}
# What `nox -s chaos` does when it is told nothing else: all in virtual time, the main ones on real parts, a short hunt.
CHAOS = (
    ("run", "--arena", "simulation", "--all", "--brief"),
    ("run", "--tag", "ci"),
    ("hunt", "--budget", "30s", "--seed", "1"),
)
MUTATOR = "mutmut==3.8.1"  # in no lock: it is run by hand, in a copy of the tree
_EXTRAS = ("cluster", "kms", "langchain", "vault")
_EVERYTHING = ("pyproject.toml", *(word for extra in _EXTRAS for word in ("--extra", extra)))
# Lock → what it is made from. `dev` comes first: the others take their versions from it.
LOCKS: dict[str, tuple[str, ...]] = {
    "dev": (*_EVERYTHING, "--group", "dev"),
    "build": ("--group", "build"),
    "cluster": ("pyproject.toml", "--extra", "cluster"),
    "harness": ("pyproject.toml", "--extra", "harness"),
    "lint": ("--group", "lint"),
    "lock": ("--group", "lock"),
    "router": ("--group", "router"),
    "tests": (*_EVERYTHING, "--group", "tests"),
    "types": (*_EVERYTHING, "--group", "types"),
}


@nox.session
def chaos(session: nox.Session) -> None:
    """Break the router and report, in simulation and on real parts; `-- --all`, or names, for others on real parts."""
    _install(session, "build", "harness", project=True)
    if session.posargs:
        session.run("seawall", "run", *_selection(session.posargs), **PATIENCE)
        return
    # One after the other: virtual time takes a whole core, beside which a load generator could not keep its times.
    failed: list[str] = []
    for step in CHAOS:
        try:
            session.run("seawall", *step, **PATIENCE)
        except CommandFailed:
            failed.append(f"seawall {' '.join(step)}")
    if failed:
        session.error(f"not passed: {'; '.join(failed)}")


@nox.session
def compare(session: nox.Session) -> None:
    """Compare gateways under the storm; `-- --few` for a few cells, else what `seawall compare` takes."""
    _install(session, "build", "harness", project=True)
    few = ("--systems", "seawall,tensorzero,direct", "--scenarios", "storm-500,storm-cut-stream,storm-all-500")
    words = session.posargs if session.posargs != ["--few"] else (*few, "--cost-seconds", "4", "--require", "seawall")
    session.run("seawall", "compare", "--out", str(Path(session.create_tmp()) / "compare"), *words, **PATIENCE)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on this Python; arguments go to pytest, such as `-- -k breaker`."""
    _tests(session)


for _version in OTHER_PYTHONS:

    @nox.session(name=f"tests-{_version}", python=_version)
    def tests_elsewhere(session: nox.Session) -> None:
        """Run the tests on another Python; skipped when that interpreter is absent."""
        _tests(session)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting; `-- --fix` mends what can be mended."""
    _install(session, "lint")
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []))
    session.run("ruff", "format", *([] if fix else ["--check"]))


@nox.session
def types(session: nox.Session) -> None:
    """Check the types: strict in router and seawall."""
    _install(session, "types")
    session.run("pyright", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Print the branch coverage of the router and of the verdicts by the tests that start no processes."""
    _install(session, "build", "tests", project=True)
    session.run("coverage", "run", "-m", "pytest", "-m", "not real", "-q", *session.posargs, **PATIENCE)
    session.run("coverage", "report", "--include=router/*,seawall/verdicts/*", "--show-missing", "--skip-covered")


@nox.session
def load(session: nox.Session) -> None:
    """Start Locust's web UI with the chaos page; `-- --headless -u 10 -t 1m` for no web UI."""
    _install(session, "build", "harness", project=True)
    session.run("locust", "-f", "loadtests/locustfile.py", *session.posargs, **PATIENCE)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks, or one: `-- added_latency 5`."""
    _install(session, "build", "harness", project=True)
    every = [["gateway_speed"], ["microseconds"], ["added_latency"], ["frozen_gateway"]]
    chosen = [session.posargs] if session.posargs else every
    for name, *arguments in chosen:
        session.run("python", "-m", f"benchmarks.{name}", *arguments, **PATIENCE)


@nox.session
def soak(session: nox.Session) -> None:
    """Run mixed faults, kills and restarts for 20 minutes, and see that nothing grows; `-- --seconds 60` for less."""
    _install(session, "build", "harness", project=True)
    session.run("python", "-m", "benchmarks.soak", *session.posargs, **PATIENCE)


@nox.session
def pictures(session: nox.Session) -> None:
    """Make the pictures of README and docs from real runs, with the system's Chromium; `-- RUN SUITE` of these two."""
    _install(session, "build", "tests", project=True)
    session.run("python", "docs/make_pictures.py", *session.posargs, **PATIENCE)


@nox.session
def storm(session: nox.Session) -> None:
    """Run the storm table with 200 requests a cell and every cooldown of 30 s waited out; it is printed at the end."""
    _install(session, "build", "tests", project=True)
    session.run("pytest", "tests/storm", "-q", *session.posargs, env={"STORM_REQUESTS": "200"}, **PATIENCE)


@nox.session
def planted(session: nox.Session) -> None:
    """Hunt every planted bug with three seeds, 60 s each; `-- NAME --seeds 1` for less, `-- --wire` on real parts."""
    _install(session, "build", "tests", project=True)
    session.run("python", "tests/planted", *session.posargs, **PATIENCE)


@nox.session
def mutation(session: nox.Session) -> None:
    """Mutate breaker, plan, budget, chain and stream code, and list the mutants that no test kills; `-- NAME*`."""
    _install(session, "build", "tests", project=True)
    session.install(MUTATOR)
    # In a copy: it writes mutants of whole folders beside them.
    tree = Path(session.create_tmp()) / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    skipped = shutil.ignore_patterns(".*", "__pycache__", "out", "dist", "mutants")
    shutil.copytree(ROOT, tree, ignore=skipped)
    with session.chdir(tree):
        # It ends with 0 whatever has survived, and says nothing of it itself.
        session.run("mutmut", "run", *session.posargs, **PATIENCE)
        session.run("mutmut", "results")


@nox.session
def minimums(session: nox.Session) -> None:
    """Run the fast tests with the lowest versions that pyproject.toml allows."""
    _install(session, "build", "lock")
    lowest = Path(session.create_tmp()) / "minimums.txt"
    session.log("looking up the lowest versions that pyproject.toml allows")
    source = ("pyproject.toml", "--extra", "harness", "--group", "tests")
    options = ("--resolution", "lowest-direct", "--no-header", "--quiet")
    session.run("uv", "pip", "compile", *source, *options, "--output-file", str(lowest))
    session.install("-r", str(lowest), silent=False)
    session.install("--no-build-isolation", "--no-deps", "-e", ".", silent=False)
    session.run("pytest", "-m", "not real", "-q", *session.posargs, **PATIENCE)


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist, and the wheel from it, into dist/."""
    _install(session, "build")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--no-isolation", "--outdir", "dist")


@nox.session
def cluster_build(session: nox.Session) -> None:
    """Build the control plane of the local cluster: about 8 minutes on two cores, and only when its pins changed."""
    _install(session, "build", "cluster", project=True)
    session.run("seawall", "cluster", "build", **PATIENCE)


@nox.session
def cluster(session: nox.Session) -> None:
    """Build the control plane unless it is built, and run the scenarios on pods; `-- --tag short` for two of them."""
    _install(session, "build", "cluster", project=True)
    session.run("seawall", "cluster", "build", **PATIENCE)
    session.run("seawall", "run", "--arena", "cluster", *(session.posargs or ("--tag", "cluster")), **PATIENCE)


@nox.session
def newcomer(session: nox.Session) -> None:
    """Install the built wheel outside the tree and use it from an empty folder."""
    _install(session, "build")
    session.run("python", "tests/packaging/newcomer.py", **PATIENCE)


@nox.session
def lock(session: nox.Session) -> None:
    """Make requirements/*.txt anew; `-- --upgrade` takes newer versions, `-- --check` only compares."""
    if (REQUIREMENTS / "lock.txt").is_file():
        _install(session, "lock")
    else:  # the very first time
        session.install("uv")
    made = Path(session.create_tmp()) / "requirements"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    stale = [name for name in LOCKS if _compile(session, name, made)]
    if "--check" in session.posargs and stale:
        session.error(f"out of date: {', '.join(stale)}; make them anew with `nox -s lock`")
    if "--check" not in session.posargs:
        for name in LOCKS:
            shutil.copyfile(made / f"{name}.txt", REQUIREMENTS / f"{name}.txt")
    session.log(f"changed: {', '.join(stale)}" if stale else f"all {len(LOCKS)} locks are as they were")


def _tests(session: nox.Session) -> None:
    """Run those without processes on every core, then those with real processes one after the other."""
    _install(session, "build", "tests", project=True)
    if session.posargs:
        session.run("pytest", *session.posargs, **PATIENCE)
        return
    failed: list[str] = []
    for selection in (("-n", "auto", "-m", "not real"), ("-m", "real")):
        try:
            session.run("pytest", *selection, **PATIENCE)
        except CommandFailed:
            failed.append(f"pytest {' '.join(selection)}")
    if failed:
        session.error(f"not passed: {'; '.join(failed)}")


def _install(session: nox.Session, *locks: str, project: bool = False) -> None:
    """Install the packages of `locks`, and the project in editable form, unless this very state is installed."""
    files = [REQUIREMENTS / f"{name}.txt" for name in locks]
    sources = [*files, ROOT / "pyproject.toml"]
    state = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
    stamp = Path(session.virtualenv.location) / "seawall-installed"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == state:
        session.log("packages are as the locks say")
        return
    count = len({line.split("==")[0] for path in files for line in _pins(path)})
    session.log(f"installing {count} packages from the lock{'s' * (len(locks) > 1)} {', '.join(locks)}; done once")
    session.install("--require-hashes", *(part for path in files for part in ("-r", str(path))), silent=False)
    if project:
        session.log("installing this project")
        session.install("--no-build-isolation", "--no-deps", "-e", ".", silent=False)
    stamp.write_text(state, encoding="utf-8")


def _pins(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if "==" in line and line[0].isalnum()]


def _compile(session: nox.Session, name: str, made: Path) -> bool:
    """Make one lock in the folder `made`; say whether it differs from the one in use."""
    target, current = made / f"{name}.txt", REQUIREMENTS / f"{name}.txt"
    upgrade = "--upgrade" in session.posargs
    # uv keeps the versions that the output file already has.
    known = made / "dev.txt" if name != "dev" else current
    if known.is_file() and not (upgrade and name == "dev"):
        shutil.copyfile(known, target)
    options = ("--universal", "--python-version", "3.11", "--generate-hashes", "--annotation-style", "line")
    unmarked = ("--no-header", "--no-emit-index-url", "--no-emit-find-links", "--quiet")
    session.run("uv", "pip", "compile", *LOCKS[name], *options, *unmarked, "--output-file", str(target))
    text = "# Made from pyproject.toml by `nox -s lock`; not edited by hand.\n" + target.read_text(encoding="utf-8")
    if "://" in text:
        session.error(f"requirements/{name}.txt would name an address; a lock holds names, versions and hashes only")
    target.write_text(text, encoding="utf-8")
    return not current.is_file() or current.read_text(encoding="utf-8") != text


def _selection(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of `seawall run`: the scenarios tagged `ci` unless `arguments` choose others."""
    names = {path.stem for path in (ROOT / "scenarios").rglob("*.yaml")}
    chosen = any(
        argument == "--all" or argument.startswith("--tag") or argument in names or Path(argument).is_file()
        for argument in arguments
    )
    return [*([] if chosen else ["--tag", "ci"]), *arguments]


if __name__ == "__main__":
    nox.main()
