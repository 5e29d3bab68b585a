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
    "answers that are slow calls in health": """
        system: {settings: {TOTAL_TIMEOUT: 20s, CIRCUIT_BREAKER_SLOW_RATIO: 0.5, CIRCUIT_BREAKER_SLOW_CALL: 500ms,
          CIRCUIT_BREAKER_WINDOW_MIN: 5, CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 2s}}
        load: {executor: arrivals, arrivals: [{at: 0s, count: 4}, {at: 1s}, {at: 7s}, {at: 8s}]}
        providers: {gemini: {tokens: 8, tokens_per_second: 10}}
    """,
    "a breaker whose probe left, and nobody came": """
        system: {settings: {TOTAL_TIMEOUT: 700ms, CIRCUIT_BREAKER_FAILURE_THRESHOLD: 1,
          CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 2s}}
        load: {executor: arrivals, arrivals: [{at: 0s}, {at: 3s}, {at: 38s}]}
        faults: [{id: f1, at: 0s, duration: 1s, target: gemini, respond: {status: 503}}]
        providers: {gemini: {tokens: 4, tokens_per_second: 5}}
    """,
    "the fast model in front of a provider that the prompt chose": """
        system: {settings: {TOTAL_TIMEOUT: 20s, OPENAI_API_KEY: ""}}
        load: {executor: arrivals, model: auto, arrivals: [{at: 0s, count: 3}, {at: 800ms}, {at: 1.6s, count: 2},
          {at: 1.7s}, {at: 2.3s}]}
        faults: [{id: f1, at: 1.5s, duration: 1s, target: claude, respond: {status: 503}}]
        providers: {gemini: {tokens: 4, tokens_per_second: 5}, claude: {tokens: 4, tokens_per_second: 5},
          local: {tokens: 4, tokens_per_second: 5}}
    """,
    "a connection that breaks after the last word": """
        system: {settings: {TOTAL_TIMEOUT: 20s}}
        load: {executor: arrivals, arrivals: [{at: 1s, stream: true}, {at: 1.1s, stream: true}]}
        faults:
          - {id: f1, at: 500ms, duration: 1.5s, target: gemini, toxic: {type: limit_data, attributes: {bytes: 1500}}}
          - {id: f2, at: 500ms, duration: 1.5s, target: claude, toxic: {type: down}}
          - {id: f3, at: 500ms, duration: 1.5s, target: openai, toxic: {type: limit_data, attributes: {bytes: 1500}}}
        providers: {gemini: {tokens: 8, tokens_per_second: 10}, openai: {tokens: 8, tokens_per_second: 10}}
    """,
    "an allowance beside a reservation of which the answer was lost": """
        system: {settings: {TOTAL_TIMEOUT: 20s, BUDGET_STORE_DOWN: allowance, BUDGET_STORE: redis}}
        load: {executor: arrivals, arrivals: [{at: 1s}, {at: 4s}, {at: 4.1s}]}
        faults:
          - {id: f1, at: 500ms, duration: 1.5s, target: budget, remaining: 0 USD}
          - {id: f2, at: 3.5s, duration: 1.5s, target: redis, toxic: {type: timeout, attributes: {timeout: 0}}}
    """,
    "a provider whose slowness is noticed by the second single request": """
        system: {settings: {TOTAL_TIMEOUT: 20s, CIRCUIT_BREAKER_RECOVERY_TIMEOUT: 2s}}
        load: {executor: arrivals, model: claude, arrivals: [{at: 1s, count: 2}, {at: 28.5s}, {at: 31s}]}
        faults:
          - {id: f1, at: 500ms, duration: 1.5s, target: claude, toxic: {type: latency, attributes: {latency: 900}}}
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
