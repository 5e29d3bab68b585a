"""Runs of the simulation for the tests of the reports, as they are or with somebody else's words in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from seawall.paths import scenarios_dir
from seawall.scenario import load_text
from seawall.simulation.run import write_journal

__all__ = ["HOSTILE", "HUGE", "play", "play_pair", "rewrite"]

HOSTILE = (
    "</script></style><img src=x onerror=alert(1)><svg onload=alert(2)>'\"&\x00\x1b[31mred\x1b[0m\u202egnp.exe\u2066]]>"
)
"""Markup, a NUL byte, colours of a terminal, marks that turn the direction of writing."""
HUGE = 1_000_000


def play(text: str, folder: Path, *, name: str = "played", hostile: str = "") -> Path:
    """Simulate the scenario `text` into the new `folder` and return that; `hostile` is added to all free words."""
    loaded = load_text(text, f"{name}.yaml")
    folder.mkdir(parents=True)
    write_journal(loaded, loaded.scenario, folder)
    for part in folder.glob("events-*.jsonl"):
        part.unlink()
    if hostile:
        rewrite(folder, lambda event: _poison(event, hostile))
    return folder


def play_pair(root: Path) -> tuple[Path, Path]:
    """Return the folders of a run that passes, and of the same run with one answer lost."""
    text = (scenarios_dir() / "primary-dark.yaml").read_text(encoding="utf-8")
    good, bad = (play(text, root / name, name="primary-dark") for name in ("good", "bad"))

    def lose(event: dict[str, Any]) -> dict[str, Any]:
        if event["kind"] == "request" and event["request_id"] == "000200":
            event |= {"outcome": "cut", "tokens": 3, "problem": "the connection was closed after 3 of 16 tokens"}
        return event

    rewrite(bad, lose)
    return good, bad


def rewrite(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Replace each event of the journal in `folder` by what `change` makes of it; None takes it out, and the seal."""
    path = folder / "journal.jsonl"
    lines = (line for line in path.read_bytes().splitlines() if b'"kind":"seal"' not in line)
    events = (change(msgspec.json.decode(line)) for line in lines)
    path.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events if event is not None))


def _poison(event: dict[str, Any], words: str) -> dict[str, Any]:
    """Put `words` wherever somebody else's may stand: titles, notes, errors, evidence, versions, settings."""
    match event["kind"]:
        case "header":
            event["title"] += words
            event["commit"] = words
            event["versions"][f"part{words}"] = words
            event["settings"]["SOME_SETTING"] = words
        case "request" if event["problem"] is not None:
            # One error of a megabyte, as a provider's page of HTML may be.
            event["problem"] += words * (HUGE // len(words) if event["request_id"].endswith("7") else 1)
        case "attempt" if event["error"] is not None:
            event["error"] += words
        case "fault":
            event["description"] += words
            event["evidence"] = {**event["evidence"], words: words * 1000}
        case "process":
            event["detail"] = words
        case "breaker":
            event["cause"] += words
        case _:
            pass
    return event
