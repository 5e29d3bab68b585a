"""
Build the wheel, install it outside the tree as a newcomer would, and use it from an empty folder.

Run by `nox -s newcomer`, on a Python that has the build tools of `requirements/build.txt`. The dependencies come from
the locks, checked by hash; the wheel is installed without them. Exits with 1 and one line on the first thing amiss.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHECKS = Path(__file__).with_name("installed.py")
PACKAGES = {"faults", "loadtests", "reports", "router", "seawall"}
STEP_TIMEOUT_S = 900.0


def main() -> int:
    """Take every step, saying which; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="seawall-newcomer-") as folder:
        place = Path(folder)
        wheel = _build(place / "dist")
        _only_ours(wheel)
        _say("the router alone: only what `import router` needs")
        _in_fresh_venv(place / "router", "router", wheel)
        _say("everything: the harness extra")
        python = _in_fresh_venv(place / "harness", "harness", wheel)
        _say("seawall validate, in an empty folder")
        empty = _empty(place / "work")
        _run(python.with_name("seawall"), "validate", cwd=empty)
        left = sorted(path.name for path in empty.iterdir())
        if left:
            _fail(f"`seawall validate` left {', '.join(left)} in the folder where it was called")
    _say("all well")
    return 0


def _build(out: Path) -> Path:
    """Build the sdist, and from it the wheel, as a package index would have them."""
    _say("building the sdist, and the wheel from it")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=ROOT)
    wheels = list(out.glob("*.whl"))
    if len(wheels) != 1:
        _fail(f"expected one wheel in {out}, found {len(wheels)}")
    return wheels[0]


def _only_ours(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    if tops != PACKAGES:
        _fail(f"the wheel's packages are {sorted(tops)}; they must be {sorted(PACKAGES)}")
    strays = [name for name in names if "__pycache__" in name or name.startswith("reports/out/")]
    if strays:
        _fail(f"the wheel carries {strays[0]}, which is nobody's source")
    _say(f"the wheel holds {len(names)} files in {', '.join(sorted(tops))}")


def _in_fresh_venv(place: Path, lock: str, wheel: Path) -> Path:
    """Make a venv with one lock and the wheel, run the checks of that name in it, and return its Python."""
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    pip = (python, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--quiet")
    empty = _empty(place / "work")
    _run(*pip, "--require-hashes", "-r", ROOT / "requirements" / f"{lock}.txt", cwd=empty)
    _run(*pip, "--no-deps", wheel, cwd=empty)
    _run(python, "-P", "-I", CHECKS, lock, ROOT, cwd=empty)
    return python


def _run(*command: str | Path, cwd: Path) -> None:
    """Run a command with no trace of this Python, or of a checkout, in its environment."""
    hidden = ("PYTHON", "VIRTUAL_ENV", "NOX", "UV_", "SEAWALL_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        timeout=STEP_TIMEOUT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        _fail(f"exit code {done.returncode}: {' '.join(str(part) for part in command)}")


def _empty(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _say(text: str) -> None:
    sys.stdout.write(f"newcomer {time.perf_counter() - _BEGAN:5.1f} s  {text}\n")
    sys.stdout.flush()


def _fail(text: str) -> None:
    raise SystemExit(f"newcomer: {text}")


_BEGAN = time.perf_counter()

if __name__ == "__main__":
    sys.exit(main())
