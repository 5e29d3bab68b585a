"""Five runs with planted causes: the first screen names each, and what a person needs to find it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from played import play, rewrite

from reports.page import run_page
from reports.render import view_in

HEAD = """\
version: 1
title: {title}
seed: 7
system: {{gateway: seawall, settings: {settings}}}
load: {{executor: constant-arrival-rate, rate: 25/s, duration: 16s, stream: 60%, prompts: short}}
faults:
{faults}
expect:
{expect}
"""
DARK = "  - {id: dark, at: 5s, duration: 5s, target: gemini, toxic: {type: timeout, attributes: {timeout: 0}}}"


class Planted(msgspec.Struct, frozen=True, kw_only=True):
    """A run that must not pass. `seen` are the words that name the cause."""

    verdict: str
    seen: tuple[str, ...]
    settings: str = "{}"
    faults: str = DARK
    expect: str = '  thresholds:\n    - {metric: success_rate, limit: ">= 99.9%"}'
    edit: str = ""


PLANTED = {
    "streams are cut and not mended": Planted(
        verdict="fail",
        settings="{midstream: error}",
        faults="  - {id: snip, at: 4s, duration: 6s, target: gemini, respond: {cut_after_chunks: 6}}",
        seen=("success_rate >= 99.9%", "stream told an error", "truncated_body", "fault snip at gemini", "cut after 6"),
    ),
    "the breaker never opens": Planted(
        verdict="fail",
        settings="{CIRCUIT_BREAKER_FAILURE_THRESHOLD: 1000, first_byte_timeout: 1s, LATENCY_LIMIT: 0}",
        expect="  sometimes:\n    - {breaker: gemini, reaches: open}",
        seen=("the breaker of gemini reaches open", "0 times"),
    ),
    "nobody met the fault": Planted(
        verdict="invalid",
        faults="  - {id: far, at: 5s, duration: 5s, target: openai, toxic: {type: timeout, attributes: {timeout: 0}}}",
        seen=("fault far was in force and met", "nobody met it"),
    ),
    "an answer is lost": Planted(
        verdict="fail",
        edit="lost",
        seen=("request 000200", "the connection was closed after 3 of 16 tokens"),
    ),
    "a call goes to an open breaker": Planted(
        verdict="fail",
        settings="{CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 4s, first_byte_timeout: 1s}",
        expect="  always:\n    - {calls_to: gemini, while: open, at_most: 0}",
        edit="called",
        seen=("gemini", "open", "000212", "fault dark at gemini"),
    ),
}


def _lost(event: dict[str, Any]) -> dict[str, Any]:
    if event["kind"] == "request" and event["request_id"] == "000200":
        event |= {"outcome": "cut", "tokens": 3, "problem": "the connection was closed after 3 of 16 tokens"}
    return event


def _called(event: dict[str, Any]) -> dict[str, Any]:
    """Let the call of one request, which was answered by Claude while Gemini's breaker was open, be one to Gemini."""
    if event["kind"] in ("call", "attempt") and event["request_id"] == "000212":
        event["provider"] = "gemini"
    return event


EDITS = {"lost": _lost, "called": _called}


@pytest.mark.parametrize("name", PLANTED)
def test_the_first_screen_names_the_cause(name: str, tmp_path: Path, parse_page: Any) -> None:
    """Before anything that must be scrolled to stand the verdict, the cause, and the command that shows it again."""
    planted = PLANTED[name]
    text = HEAD.format(title=name.capitalize(), settings=planted.settings, faults=planted.faults, expect=planted.expect)
    folder = play(text, tmp_path / "run", name="planted")
    if planted.edit:
        rewrite(folder, EDITS[planted.edit])
    content = run_page(view_in(folder)).decode()
    start = content.index('<section class="verdict')
    screen = parse_page(content[start : content.index("<dl", start)].encode())
    assert f"v-{planted.verdict}" in screen.html
    for words in planted.seen:
        assert words in screen.text, (words, screen.text)
    assert "seawall run --arena simulation planted --seed 7" in screen.text
