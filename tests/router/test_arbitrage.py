"""Cost arbitrage: the right model for a prompt, by rules that are data."""

from __future__ import annotations

import pytest

from router import Message, ModelType, Request
from router.arbitrage import Rule, choose_model, default_rules
from router.catalogue import default_catalogue
from router.testing import ScriptedTransport, scripted_router, test_settings

LONG = "word " * 30


@pytest.mark.parametrize(
    ("prompt", "model"),
    [
        ("What is the capital of France?", "llama3:8b"),
        ("analyze this", "llama3:8b"),
        ("x" * 99, "llama3:8b"),
        ("x" * 100, "gpt-6-luna"),
        (LONG + "Please ANALYZE it", "gpt-6.1-terra"),
        (LONG, "gpt-6-luna"),
        ("[sw:000123] " + "x" * 99, "llama3:8b"),
        ("", "llama3:8b"),
    ],
)
def test_default_rules(prompt: str, model: str) -> None:
    """Short is local, analysis is large, the rest is cheap; the harness's mark does not count."""
    assert choose_model(prompt) == model


def test_rules_are_data() -> None:
    """Other rules give other models, the first that holds wins, and the last is the default."""
    rules = (Rule(contains="code", shorter_than=10, model="a"), Rule(contains="code", model="b"))
    assert [choose_model(text, rules) for text in ("code", "code " * 9, "prose")] == ["a", "b", "b"]


def test_every_rule_names_a_known_model() -> None:
    """No rule of the data file leads to a model that nobody knows."""
    for rule in default_rules():
        default_catalogue().resolve(rule.model, "llama3")


async def test_only_auto_is_arbitrated() -> None:
    """A caller who names a model gets it, whatever the prompt."""
    router = scripted_router(ScriptedTransport({}))
    short = (Message(role="user", content="hi"),)
    assert (await router.complete(Request(messages=short, model="auto"))).model == "llama3:8b"
    assert (await router.complete(Request(messages=short, model="gpt-4o"))).model == "gpt-4o"
    long = (Message(role="user", content=LONG),)
    assert (await router.complete(Request(messages=long, model="auto"))).model == "gpt-6-luna"


async def test_auto_under_the_air_gap_stays_local() -> None:
    """Who leaves the choice to us has named no cloud: local serves."""
    router = scripted_router(ScriptedTransport({}), settings=test_settings(airgap_mode=True))
    reply = await router.complete(Request(messages=(Message(role="user", content=LONG),), model="auto"))
    assert reply.provider is ModelType.LOCAL
