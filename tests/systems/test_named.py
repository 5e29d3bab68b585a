"""Systems under test by name: what they are told, what they refuse, and that each has the whole chain."""

from __future__ import annotations

import tomllib

import msgspec
import pytest

from router.errors import ConfigurationError
from seawall.scenario.loader import load_text
from seawall.scenario.model import Scenario
from seawall.scenario.problems import ScenarioError
from seawall.systems import SYSTEMS, system_named

UPSTREAMS = {name: f"http://127.0.0.1:{port}" for port, name in enumerate(("gemini", "claude", "openai", "local"), 71)}
FOREIGN = ("litellm", "portkey", "tensorzero", "bifrost")


def scenario(system: str = "{}", model: str = "gemini", faults: str = "[]") -> Scenario:
    """Return a scenario with this system under test."""
    return load_text(
        f"version: 1\ntitle: t\narenas: [wire]\nsystem: {system}\nfaults: {faults}\n"
        f"load: {{executor: constant-arrival-rate, rate: 1/s, duration: 9s, model: {model}}}\n",
        "t",
    ).scenario


@pytest.mark.parametrize("name", [name for name in SYSTEMS if name != "url"])
@pytest.mark.parametrize("config", ["default", "tuned"])
def test_every_system_has_two_configs_by_name(name: str, config: str) -> None:
    """Each name gives its system, `default` without being said, and the label says which config it is."""
    system = system_named(f"{name}:{config}")
    assert (system.name, system.config) == (name, config)
    assert system.label == (name if config == "default" else f"{name}:tuned")


@pytest.mark.parametrize("word", ["litelm", "litellm:best", "url:", "url:127.0.0.1:4000", "url:http://me:key@host"])
def test_a_word_that_means_no_system_is_refused(word: str) -> None:
    """An unknown name, an unknown config and an address that is none (or holds a password) are configuration errors."""
    with pytest.raises(ConfigurationError):
        system_named(word)


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("config", ["default", "tuned"])
def test_a_foreign_config_holds_the_whole_chain_in_order(name: str, config: str) -> None:
    """What another gateway is configured with names every provider's proxy once, in the order of our chain."""
    system = system_named(f"{name}:{config}")
    text = "".join(system.render(scenario(), UPSTREAMS, port=99).files.values())
    places = [text.index(url) for url in UPSTREAMS.values()]
    assert places == sorted(places)
    assert all(text.count(url) == 1 for url in UPSTREAMS.values())


@pytest.mark.parametrize("name", FOREIGN)
def test_a_neutral_wait_reaches_every_gateway(name: str) -> None:
    """How long to wait for a first byte is set by each gateway's own word for it, in the default config too."""
    plain, waiting = scenario(), scenario("{settings: {first_byte_timeout: 3s}}")
    texts = [system_named(name).render(each, UPSTREAMS, port=99).files for each in (plain, waiting)]
    assert texts[0] != texts[1]
    assert "3" in "".join(texts[1].values())


@pytest.mark.parametrize("name", FOREIGN)
def test_files_are_what_they_say(name: str) -> None:
    """The files of a config can be read as what their names say."""
    for file, text in system_named(name).render(scenario(), UPSTREAMS, port=99).files.items():
        assert tomllib.loads(text) if file.endswith(".toml") else msgspec.json.decode(text)


def test_portkey_is_told_by_a_header() -> None:
    """Portkey's fallback strategy goes with every request, on one line."""
    header = system_named("portkey").target(scenario(), UPSTREAMS).headers["x-portkey-config"]
    assert msgspec.json.decode(header)["strategy"] == {"mode": "fallback"}
    assert "\n" not in header


@pytest.mark.parametrize(
    ("system", "model", "faults", "word"),
    [
        ("{settings: {MIDSTREAM: error}}", "gemini", "[]", "MIDSTREAM"),
        ("{workers: 2}", "gemini", "[]", "workers"),
        ("{}", "auto", "[]", "auto"),
        (
            "{settings: {BUDGET_STORE: redis}}",
            "gemini",
            "[{id: r, at: 1s, duration: 1s, target: redis, process: kill}]",
            "redis",
        ),
    ],
)
def test_what_only_seawall_can_do_is_unsupported(system: str, model: str, faults: str, word: str) -> None:
    """A setting, a model or a target that only Seawall has is said to be unsupported, in a sentence that names it."""
    asked = scenario(system, model, faults)
    assert any(word in text for text in system_named("litellm").unsupported(asked))
    assert system_named("seawall").unsupported(asked) == []


def test_a_neutral_scenario_is_supported_by_all() -> None:
    """A scenario with nothing but provider-level faults and neutral settings is for every system."""
    asked = scenario(
        "{settings: {idle_timeout: 2s}}",
        faults="[{id: a, at: 1s, duration: 1s, target: gemini, respond: {status: 500}}]",
    )
    assert all(system_named(name).unsupported(asked) == [] for name in SYSTEMS if name != "url")


def test_a_foreign_gateway_is_not_simulated() -> None:
    """A scenario that names another gateway and the simulation is refused, with the way out."""
    text = "version: 1\ntitle: t\narenas: [simulation]\nsystem: {gateway: litellm}\n"
    text += "load: {executor: constant-arrival-rate, rate: 1/s, duration: 9s}\n"
    with pytest.raises(ScenarioError, match=r"litellm runs on the wire only.*arenas"):
        load_text(text, "t")


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("url:http://127.0.0.1:4000", "/v1/chat/completions"),
        ("url:http://127.0.0.1:4000/v1", "/v1/chat/completions"),
        ("url:http://127.0.0.1:4000/api", "/api/v1/chat/completions"),
        ("url:http://127.0.0.1:4000/openai/chat/completions", "/openai/chat/completions"),
    ],
)
def test_a_url_says_where_to_ask(word: str, path: str) -> None:
    """The path of a `url` leads to chat completions below it; its providers are always on the same ports."""
    system = system_named(word)
    assert system.base_url({}) == "http://127.0.0.1:4000"
    assert system.target(scenario(), UPSTREAMS).path == path
    assert list(system.upstream_ports) == list(UPSTREAMS)
