"""Which model a name means: the table is whole, and every name leads somewhere."""

from __future__ import annotations

from datetime import date, timedelta
from importlib.resources import files
from typing import Any, get_args

import msgspec
import pytest
from anthropic.resources.messages.messages import DEPRECATED_MODELS
from anthropic.types import Model as AnthropicModel
from hypothesis import given
from hypothesis import strategies as st
from openai.types.shared import ChatModel

from router.arbitrage import AUTO, default_rules
from router.capabilities import CAPABILITIES
from router.catalogue import Choice, default_catalogue
from router.errors import RequestError
from router.models import ModelType
from router.pricing import price_of


def _table() -> dict[str, Any]:
    return msgspec.json.decode(files("router").joinpath("data/models.json").read_bytes())


@pytest.mark.parametrize("name", [name for name in default_catalogue().names() if name != AUTO])
@pytest.mark.parametrize("provider", list(ModelType))
def test_every_name_has_a_model_with_a_price_everywhere(name: str, provider: ModelType) -> None:
    """Whatever is asked for, each provider has a stand-in, and it has a price or is local."""
    model = default_catalogue().model_at(provider, default_catalogue().resolve(name, "llama3"), "llama3")
    assert model
    assert price_of(provider, model) is not None


def test_every_model_in_the_table_is_priced() -> None:
    """No cloud model that can be named is without a price."""
    models = _table()["models"]
    unpriced = [name for name, entry in models.items() if price_of(ModelType(entry["provider"]), name) is None]
    assert not unpriced


def test_table_is_whole() -> None:
    """Aliases lead to models, tiers know every provider, and a tier's model is of that tier and provider."""
    table = _table()
    assert set(table["defaults"]) == set(ModelType)
    assert set(table["aliases"].values()) <= set(table["models"])
    assert not set(table["aliases"]) & (set(table["models"]) | set(ModelType))
    for tier, models in table["tiers"].items():
        assert set(models) == set(ModelType)
        for provider, model in models.items():
            if model is not None:
                assert table["models"][model] == {"provider": provider, "tier": tier}
    assert {entry["tier"] for entry in table["models"].values()} <= set(table["tiers"])
    assert {model for model in table["defaults"].values() if model} <= set(table["models"])


def test_what_nobody_named_lives_on() -> None:
    """Defaults, tiers, aliases and the rules of `auto` stand on models without an end, or with one that is far."""
    table = _table()
    chosen = {*table["defaults"].values(), *table["aliases"].values(), *(rule.model for rule in default_rules())}
    chosen |= {model for row in table["tiers"].values() for model in row.values()}
    far = date.fromisoformat(table["as_of"]) + timedelta(days=180)
    ends = {name: table["models"][name].get("ends") for name in chosen if name is not None}
    assert ends
    assert not {name for name, end in ends.items() if end is not None and date.fromisoformat(end) < far}


def test_a_model_that_has_ended_is_asked_for_when_it_is_named() -> None:
    """Its vendor says what becomes of it; the others stand in for it as before."""
    choice = default_catalogue().resolve("gpt-3.5-turbo", "llama3")
    assert default_catalogue().models["gpt-3.5-turbo"].ends == "2026-10-23"
    assert default_catalogue().model_at(ModelType.OPENAI, choice, "llama3") == "gpt-3.5-turbo"
    assert default_catalogue().model_at(ModelType.GEMINI, choice, "llama3") == "gemini-3.5-flash-lite"


def test_vendors_own_clients_know_the_models() -> None:
    """OpenAI's and Anthropic's SDKs list our names of theirs, and Anthropic's the day on which one ends."""
    models = _table()["models"]
    ours = {name: entry for name, entry in models.items() if entry["provider"] == "claude"}
    assert ours.keys() <= {name for kind in get_args(AnthropicModel) for name in get_args(kind)}
    for name, entry in ours.items():
        assert (name in DEPRECATED_MODELS) == ("ends" in entry), name
    assert DEPRECATED_MODELS["claude-sonnet-4-5"] == "November 30th, 2026"
    assert ours["claude-sonnet-4-5"]["ends"] == "2026-11-30"
    assert {name for name, entry in models.items() if entry["provider"] == "openai"} <= set(get_args(ChatModel))


def test_what_models_lack_is_a_capability_and_who_lacks_is_known() -> None:
    """A name that is mistyped in `lacks` or `efforts` would be of no effect."""
    table = _table()
    local = {"llama3", "mistral"}
    for provider, listed in table["lacks"].items():
        for model, lacks in listed.items():
            assert set(lacks) <= set(CAPABILITIES), model
            assert model in local or table["models"][model]["provider"] == provider
    assert {table["models"][model]["provider"] for model in table["efforts"]} == {"openai"}


@pytest.mark.parametrize("provider", list(ModelType))
def test_provider_name_means_its_default_model(provider: ModelType) -> None:
    """`gemini` is Gemini's default model, `local` the one of OLLAMA_MODEL."""
    choice = default_catalogue().resolve(provider, "mistral")
    assert choice == Choice(provider, None, None)
    expected = _table()["defaults"][provider] or "mistral"
    assert default_catalogue().model_at(provider, choice, "mistral") == expected


@pytest.mark.parametrize(
    ("name", "provider", "model", "stand_in"),
    [
        ("gpt-4o", ModelType.OPENAI, "gpt-4o", "claude-sonnet-5-5"),
        ("gpt-3.5-turbo", ModelType.OPENAI, "gpt-3.5-turbo", "claude-haiku-5-5"),
        ("gemini-pro", ModelType.GEMINI, "gemini-3.8-flash", "claude-sonnet-5-5"),
        ("claude-haiku", ModelType.CLAUDE, "claude-haiku-5-5", "claude-haiku-5-5"),
        ("llama3:8b", ModelType.LOCAL, "llama3:8b", "claude-haiku-5-5"),
        ("my-own", ModelType.LOCAL, "my-own", "claude-haiku-5-5"),
    ],
)
def test_failover_keeps_the_tier(name: str, provider: ModelType, model: str, stand_in: str) -> None:
    """A large model is stood in for by a large one, a small one by a small one."""
    choice = default_catalogue().resolve(name, "my-own")
    assert (choice.provider, default_catalogue().model_at(provider, choice, "my-own")) == (provider, model)
    assert default_catalogue().model_at(ModelType.CLAUDE, choice, "my-own") == stand_in
    if provider is not ModelType.LOCAL:
        assert default_catalogue().model_at(ModelType.LOCAL, choice, "my-own") == "my-own"


@given(name=st.text(max_size=40))
def test_unknown_name_is_a_request_error(name: str) -> None:
    """A name that nobody knows is 404, and the message lists those that are known."""
    if name in default_catalogue().names():
        return
    with pytest.raises(RequestError, match=r"unknown model .* known are gemini, claude") as caught:
        default_catalogue().resolve(name, "llama3")
    assert caught.value.status == 404
