"""What a good file becomes, and what its author is warned of."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest

from seawall.scenario import Loaded, Problem, Scenario, ScenarioError, load_scenario, load_text
from seawall.scenario.expectations import Always, Eventually, Expect, Sometimes, SteadyState, StopWhen, Threshold
from seawall.scenario.harm import FaultSpec, Respond, ToxicSpec
from seawall.scenario.load import FirstToken, Load, ProviderSpec, System
from seawall.scenario.nodes import resolve
from seawall.scenario.quantities import parse_limit

GOOD = "version: 1\ntitle: t\nload: {executor: constant-arrival-rate, rate: 20/s, duration: 60s}\n"
SAMPLE = (Path(__file__).parent / "sample.yaml").read_text(encoding="utf-8")


def test_the_sample_of_the_design_parses_to_what_it_says() -> None:
    """The sample becomes the model that its words mean, in seconds, fractions and requests a second."""
    limit = parse_limit
    expected = Scenario.model_construct(
        version=1,
        title="Gemini goes dark for 15 s; traffic moves to Claude and comes back",
        motivation="https://github.com/BerriAI/litellm/issues/40405",
        tags=("failover", "breaker", "ci"),
        arenas=("simulation", "wire"),
        seed=7,
        system=System.model_construct(
            gateway="seawall",
            settings={"CIRCUIT_BREAKER_RECOVERY_TIMEOUT": "5s", "first_byte_timeout": "1s", "idle_timeout": "2s"},
        ),
        providers={
            "gemini": ProviderSpec.model_construct(
                first_token=FirstToken.model_construct(p50=0.08, p99=0.2), tokens_per_second=100.0, tokens=16
            )
        },
        load=Load.model_construct(executor="constant-arrival-rate", rate=20.0, duration=60.0, stream=0.3),
        steady_state=SteadyState.model_construct(
            window=5.0, success_rate=limit(">= 99.9%"), latency_p99=limit("< 800ms")
        ),
        faults=(
            FaultSpec.model_construct(
                id="dark",
                at=8.0,
                duration=15.0,
                target="gemini",
                toxic=ToxicSpec.model_construct(type="timeout", attributes={"timeout": 0}),
            ),
            FaultSpec.model_construct(
                id="throttle",
                follows="dark",
                delay=10.0,
                duration=5.0,
                target="claude",
                respond=Respond.model_construct(status=429, retry_after=5.0),
                injection_rate=0.5,
            ),
        ),
        expect=Expect.model_construct(
            always=(Always.model_construct(calls_to="gemini", state="open", at_most=0),),
            sometimes=(
                Sometimes.model_construct(breaker="gemini", reaches="open"),
                Sometimes.model_construct(served_by="claude", requests=limit(">= 20")),
            ),
            eventually=(
                Eventually.model_construct(breaker="gemini", state="closed", within=8.0, after="dark"),
                Eventually.model_construct(served_by="gemini", share=limit(">= 95%"), within=10.0, after="dark"),
            ),
            thresholds=(
                Threshold.model_construct(metric="success_rate", limit=limit(">= 99.9%")),
                Threshold.model_construct(
                    metric="latency_p99", during="dark", limit=limit("< 1500ms"), severity="advisory"
                ),
            ),
        ),
        stop_when=StopWhen.model_construct(success_rate=limit("< 20%"), for_=10.0),
    )
    loaded = load_text(SAMPLE, "sample")
    assert loaded.scenario.model_dump() == expected.model_dump()
    assert loaded.warnings == ()
    assert loaded.scenario.fault_starts() == {"dark": 8.0, "throttle": 33.0}


def test_a_loaded_file_keeps_its_text_its_hash_and_its_name(tmp_path: Path) -> None:
    """`text` is the file's, `sha256` that of its bytes, and the name is the file's without its ending."""
    path = tmp_path / "primary-dark.yaml"
    path.write_bytes(SAMPLE.encode())
    loaded = load_scenario(path)
    assert (loaded.text, loaded.name) == (SAMPLE, "primary-dark")
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_text(SAMPLE, "sample").sha256 == loaded.sha256


def test_byte_order_mark_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    """A file from an editor of another system means the same."""
    path = tmp_path / "foreign.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SAMPLE.replace("\n", "\r\n").encode())
    assert load_scenario(path).scenario == load_text(SAMPLE, "sample").scenario


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(
            (word, word)
            for word in ("yes", "no", "on", "off", "y", "N", "tRue", "nUll", "1_000", "12:30", "0b1", "=", "<<")
        ),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *((word, None) for word in ("", "~", "null", "Null", "NULL")),
        ("0", 0),
        ("-12", -12),
        ("+7", 7),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("-.inf", float("-inf")),
        ("9" * 41, "9" * 41),
        ("2024-01-01", "2024-01-01"),
        ("8s", "8s"),
        ("30%", "30%"),
    ],
)
def test_bare_words_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    """The core schema of YAML 1.2: no yes and no, no octal by a leading zero, no dates, no sexagesimals."""
    found = resolve(text)
    assert (type(found), found) == (type(value), value)


def test_not_a_number_is_one() -> None:
    """`.nan` is a float that equals nothing."""
    found = resolve(".nan")
    assert isinstance(found, float)
    assert found != found  # noqa: PLR0124 - what makes it not a number


DARK = "faults:\n  - {id: dark, at: 10s, duration: 10s, target: gemini, toxic: {type: timeout}}\n"
REPEATED = "faults: [{id: f, at: 10s, duration: %s, every: 8s, target: gemini, respond: {status: 503}}]\n"
RESET = "faults: [{id: f, at: 1s, duration: 9s, target: local, toxic: {type: reset_peer, attributes: {timeout: %d}}}]\n"
WARNINGS = [
    (
        "faults: [{id: f, at: 10s, duration: 10s, target: gemini, toxic: {type: timeout, toxicity: 50%}}]\n",
        ["4:91 `toxicity` is drawn once for each connection"],
    ),
    (
        "faults: [{id: f, at: 10s, duration: 1s, target: gemini, toxic: {type: timeout}}]\n",
        ["4:37 fault `f` may heal before it is proven, which takes up to 1.6s"],
    ),
    (
        "faults: [{id: f, at: 10s, duration: 9s, target: local, toxic: {type: latency, attributes: {latency: 2}}}]\n",
        ["4:101 a latency of 2 ms cannot be told from noise"],
    ),
    (
        RESET % 9000,
        ["4:36 fault `f` may heal before it is proven, which takes up to 9.6s"],
    ),
    (
        RESET % 31000,
        ["4:55 fault `f` cannot be proven: one probe would take 31 s"],
    ),
    (
        DARK + "  - {id: two, at: 15s, duration: 10s, target: gemini, toxic: {type: timeout}}\n",
        ["6:5 faults `dark` and `two` are both timeout on gemini"],
    ),
    (
        """faults:
  - {id: one, at: 9s, duration: 9s, target: local, respond: {hang: true}, injection_rate: 50%}
  - {id: two, at: 15s, duration: 3s, target: local, respond: {status: 500}}
""",
        ["6:5 faults `one` and `two` both change what local answers at the same time"],
    ),
    (
        "faults: [{id: f, at: 10s, duration: 9s, target: local, respond: {cut_after_chunks: 16}}]\n",
        ["4:84 an answer of local has 16 tokens, so nothing is cut after 16"],
    ),
    (
        DARK.replace("10s, duration: 10s", "10s, duration: 4s")
        + 'expect: {thresholds: [{metric: latency_p99, during: dark, limit: "< 1s"}]}\n',
        ["6:32 `latency_p99` needs 100 requests, and about 80 are sent in its time"],
    ),
    (
        DARK + 'steady_state: {window: 900ms, success_rate: "> 99%", latency_p99: "< 1s"}\n',
        ["6:45 `success_rate` needs 20 requests, and about 18", "6:67 `latency_p99` needs 100 requests, and about 18"],
    ),
    (
        DARK + "expect: {eventually: [{breaker: gemini, state: closed, within: 41s, after: dark}]}\n",
        ["6:64 `within` of fault `dark` reaches to 61s, but the load ends at 60s"],
    ),
    (
        DARK
        + "  - {id: two, at: 30s, duration: 10s, target: local, toxic: {type: timeout}}\n"
        + "expect: {eventually: [{breaker: gemini, state: closed, within: 11s, after: dark}]}\n",
        ["7:64 `within` of fault `dark` reaches to 31s, but fault `two` starts at 30s"],
    ),
    (
        DARK + 'expect: {thresholds: [{metric: first_token_p50, limit: "< 1s"}]}\n',
        ["6:32 `first_token_p50` needs 1 stream, and about 0 are sent in its time"],
    ),
    (
        DARK + "  - {id: out, at: 15s, duration: 2s, target: toxiproxy, process: kill}\n",
        ["6:5 fault `out` takes Toxiproxy away, which makes fault `dark`"],
    ),
    (
        DARK + "  - {id: gone, at: 12s, duration: 4s, target: gemini, toxic: {type: down}}\n",
        ["6:5 faults `dark` and `gone` are on gemini at the same time, and down hides the other"],
    ),
    (
        """system: {settings: {BUDGET_STORE: redis}}
faults:
  - {id: slow, at: 9s, duration: 9s, target: redis, toxic: {type: latency, attributes: {latency: 300}}}
  - {id: dead, at: 15s, duration: 9s, target: redis, process: stop}
""",
        ["7:5 faults `slow` and `dead` are on redis at the same time, and one of them takes its process"],
    ),
    (
        DARK.replace("{type: timeout}", "{type: slicer, attributes: {average_size: 8}}"),
        ["5:56 fault `dark` cannot be proven: without a delay the slices of a slicer merge"],
    ),
    (
        "faults: [{id: f, at: 40s, duration: 5s, every: 20s, target: gemini, respond: {status: 503}}]\n",
        ["4:48 fault `f` never starts a second time"],
    ),
    (
        REPEATED % "5s" + "expect: {eventually: [{breaker: gemini, state: closed, within: 4s, after: f}]}\n",
        ["5:64 `within` of fault `f` reaches to 19s, but fault `f` starts at 18s"],
    ),
    (
        REPEATED % "4s" + 'expect: {thresholds: [{metric: latency_p99, during: f, limit: "< 1s"}]}\n',
        ["5:32 `latency_p99` needs 100 requests, and about 80 are sent in its time"],
    ),
    (
        "faults: [{id: f, at: 10s, duration: 4s, target: openai, respond: {no_done: true}}]\n",
        ["4:76 `no_done` shows in streams only, and the load asks for none"],
    ),
    (
        "system: {workers: 2, settings: {DAILY_SPEND_LIMIT_USD: 1}}\n",
        ["4:19 2 workers keep a budget each, so 2 times the limit may be spent"],
    ),
    (
        DARK + 'expect: {sometimes: [{refused: all_clouds_down, requests: ">= 1"}]}\n',
        ["6:32 `refused: all_clouds_down` expects refusals that `allow_refusal` does not allow"],
    ),
]


@pytest.mark.parametrize(("rest", "expected"), WARNINGS)
def test_what_is_legal_and_probably_not_meant_is_warned_of(rest: str, expected: list[str]) -> None:
    """Each doubtful thing gets one warning, at its place, and the file is loaded all the same."""
    loaded = load_text(GOOD + rest, "made")
    said = [f"{w.line}:{w.column} {w.message}" for w in loaded.warnings]
    assert [text[: len(start)] for text, start in zip(said, expected, strict=True)] == expected
    assert {w.severity for w in loaded.warnings} == {"warning"}


def test_written_arrivals_may_end_before_the_fault_does() -> None:
    """With the executor `arrivals` a fault that outlasts the last request is warned of, not refused."""
    text = (
        "version: 1\ntitle: t\nload: {executor: arrivals, arrivals: [{at: 1s}, {at: 2s, stream: true}]}\n"
        "faults: [{id: f, at: 500ms, duration: 4s, target: gemini, respond: {hang: true}}]\n"
    )
    (warning,) = load_text(text, "made").warnings
    assert warning.message == "fault `f` ends at 4.5s, after the load"


def test_settings_may_be_written_in_any_case() -> None:
    """A setting's name is known in upper, lower and mixed case."""
    for name in ("MIDSTREAM", "midstream", "Midstream"):
        loaded = load_text(f"{GOOD}system: {{settings: {{{name}: continue}}}}\n", "made")
        assert loaded.scenario.system.settings == {name: "continue"}


def test_a_broken_part_does_not_hide_the_problems_of_others() -> None:
    """A fault that cannot be read is known by its id, so that what names it is not called wrong."""
    text = GOOD + (
        "faults:\n  - {id: dark, at: 10, duration: 10s, target: gemini, toxic: {type: timeout}}\n"
        "  - {id: next, follows: dark, duration: 5s, target: gemini, respond: {hang: true}}\n"
        "expect: {eventually: [{breaker: gemini, state: closed, within: 5s, after: dark}]}\n"
    )
    with pytest.raises(ScenarioError) as caught:
        load_text(text, "made")
    assert [(p.line, p.column) for p in caught.value.problems] == [(5, 20)]


def test_problems_travel_between_processes() -> None:
    """A ScenarioError survives pickling with its problems and its text."""
    error = ScenarioError([Problem("a.yaml", 1, 2, "this", "do that")])
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (again.problems, str(again)) == (error.problems, "a.yaml:1:2: this; do that")


def test_loaded_is_plain_data() -> None:
    """What `load_text` returns cannot be changed by whoever gets it."""
    loaded = load_text(GOOD, "made")
    assert isinstance(loaded, Loaded)
    with pytest.raises(AttributeError):
        loaded.name = "other"  # pyright: ignore[reportAttributeAccessIssue]
