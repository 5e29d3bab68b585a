"""The locks in `requirements/`: complete, checked by hash, free of addresses, and of one mind with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PIN = re.compile(
    r"^(?P<requirement>[a-z0-9][^\\]*==[^\\]*)\\\n(?P<hashes>(?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)


def _pins(lock: Path) -> dict[str, Requirement]:
    text = lock.read_text(encoding="utf-8")
    return {r.name: r for r in (Requirement(found["requirement"].strip()) for found in PIN.finditer(text))}


def _version(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    return specifier.version


def _direct(lock: str) -> list[Requirement]:
    """Return what pyproject.toml asks of this lock directly, extras of our own resolved."""
    groups = PROJECT["dependency-groups"]
    extras = PROJECT["project"]["optional-dependencies"]
    core = PROJECT["project"]["dependencies"]
    lines: list[Any] = list(groups.get(lock, []))
    if lock in ("cluster", "dev", "harness", "tests", "types"):
        lines += [*core, *extras["harness"], *extras["gateway"]]
    if lock in ("cluster", "dev", "tests", "types"):
        lines += extras["cluster"]
    if lock in ("dev", "tests", "types"):
        lines += [*extras["crypto"], *extras["kms"], *extras["vault"], *extras["langchain"]]
    while included := [line for line in lines if isinstance(line, dict)]:
        lines = [line for line in lines if isinstance(line, str)]
        lines += [line for group in included for line in groups[group["include-group"]]]
    found = [Requirement(line) for line in lines]
    return [requirement for requirement in found if requirement.name != PROJECT["project"]["name"]]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_locks_hold_names_versions_and_hashes_only(lock: Path) -> None:
    """Each line is a comment, a pin or a hash; every pin has hashes; no address of any index is there."""
    text = lock.read_text(encoding="utf-8")
    rest = PIN.sub("", text)
    strange = [line for line in rest.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert _pins(lock), "the lock is empty"
    assert not strange, strange
    assert "://" not in text


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_locks_satisfy_the_project(lock: Path) -> None:
    """Each direct dependency is pinned within its bounds; otherwise `nox -s lock` was forgotten."""
    pins = {canonicalize_name(name): pin for name, pin in _pins(lock).items()}
    direct = _direct(lock.stem)
    assert direct, "nothing in pyproject.toml asks for this lock"
    missing = [
        str(requirement)
        for requirement in direct
        if (pin := pins.get(canonicalize_name(requirement.name))) is None
        or not requirement.specifier.contains(_version(pin), prereleases=True)
    ]
    assert not missing, f"not in {lock.name}, or out of bounds: {missing}; run `nox -s lock`"


def test_locks_agree() -> None:
    """A package has the same version in every lock that has it, so that all sessions see the same behaviour."""
    versions: dict[str, set[str]] = {}
    for lock in LOCKS:
        for name, pin in _pins(lock).items():
            versions.setdefault(name, set()).add(_version(pin))
    assert not {name: found for name, found in versions.items() if len(found) > 1}


def test_the_router_group_is_the_core_without_dotenv() -> None:
    """The group `router` is the project's own dependencies but python-dotenv, which only a .env file needs."""
    core = {line for line in PROJECT["project"]["dependencies"] if not line.startswith("python-dotenv")}
    assert set(PROJECT["dependency-groups"]["router"]) == core
