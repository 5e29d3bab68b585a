"""What hunts found in the harness itself stays mended; those that are whole scenarios are in scenarios/regressions."""

from __future__ import annotations

from pathlib import Path

import pytest

from seawall.hunt.trial import play
from seawall.scenario import load_scenario, load_text

FOLDER = Path(__file__).parents[2] / "scenarios"
HEAD = "version: 1\ntitle: t\narenas: [simulation]\n"

FINDS = {
    "an answer that outlasts the restart of its worker": """
        system: {settings: {TOTAL_TIMEOUT: 20s}}
        load: {executor: arrivals, model: openai, arrivals: [{at: 500ms, stream: true}, {at: 3s}]}
        faults:
          - {id: f1, at: 0s, duration: 2s, target: openai, respond: {dribble: 500ms}}
          - {id: f2, at: 1s, duration: 2s, target: gateway, process: restart}
    """,
    "a reservation of which the answer was lost, and a restart": """
        system: {settings: {TOTAL_TIMEOUT: 20s, BUDGET_STORE: redis}}
        load: {executor: arrivals, arrivals: [{at: 0s}, {at: 2s}]}
        faults:
          - {id: f1, at: 0s, duration: 1s, target: redis, toxic: {type: timeout, attributes: {timeout: 0}}}
          - {id: f2, at: 1s, duration: 1s, target: gateway, process: restart}
    """,
    "a provider that was slow before anybody looked": """
        system: {settings: {TOTAL_TIMEOUT: 20s, CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 2s}}
        load: {executor: arrivals, arrivals: [{at: 0s, count: 3}, {at: 27s}]}
        faults:
          - {id: f1, at: 0s, duration: 1s, target: gemini, respond: {first_token: 800ms}}
    """,
    "a call under way for longer than its worker lived": """
        system: {settings: {TOTAL_TIMEOUT: 20s}}
        load: {executor: arrivals, arrivals: [{at: 0s}, {at: 4s}]}
        faults:
          - {id: f1, at: 0s, duration: 2s, target: gemini, toxic: {type: timeout, attributes: {timeout: 0}}}
          - {id: f2, at: 2s, duration: 1s, target: gateway, process: kill}
    """,
}


@pytest.mark.parametrize("text", FINDS.values(), ids=FINDS)
def test_what_was_found_is_mended(text: str) -> None:
    """It was no fault of the router, and is not held against it any more."""
    lines = text.strip("\n").splitlines()
    body = "\n".join(line[8:] for line in lines)
    assert play(load_text(f"{HEAD}{body}", "find.yaml").scenario).broken == ()


@pytest.mark.parametrize("path", sorted((FOLDER / "regressions").glob("*.yaml")), ids=lambda path: path.stem)
def test_regressions_break_nothing(path: Path) -> None:
    """What once broke an invariant breaks none."""
    assert play(load_scenario(path).scenario).broken == ()
