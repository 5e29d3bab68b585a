"""An empty cache, an empty PATH, and no network, for a test to fill as it needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seawall.toolchain.parts import PARTS

Script = Callable[..., Path]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and none of our variables set."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SEAWALL_CACHE", str(folder))
    for part in PARTS.values():
        monkeypatch.delenv(part.url_variable, raising=False)
    return folder


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Put shell scripts on a PATH that has nothing of ours but the system's basic tools."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cat", "cp", "chmod", "sleep", "sh", "mkdir", "touch"):
        (tools / name).symlink_to(
            next(path for path in (Path("/bin") / name, Path("/usr/bin") / name) if path.exists())
        )
    folders = [str(tools)]
    monkeypatch.setenv("PATH", str(tools))

    def put(name: str, body: str, *, folder: str = "bin") -> Path:
        script = tmp_path / folder / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
        if str(script.parent) not in folders:
            folders.insert(-1, str(script.parent))
        monkeypatch.setenv("PATH", ":".join(folders))
        return script

    return put


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Point pip and Go at a port where nobody listens."""
    for name, value in {
        "PIP_INDEX_URL": "http://somebody:hidden-word@127.0.0.1:9/simple",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "0",
        "PIP_DEFAULT_TIMEOUT": "3",
        "GOPROXY": "http://127.0.0.1:9",
        "GOFLAGS": "",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "GOENV"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def said() -> list[str]:
    """The lines of progress: pass `said.append` as `progress`."""
    return []
