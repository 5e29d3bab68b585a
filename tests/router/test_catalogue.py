"""Which model a name means: the table is whole, and every name leads somewhere."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.arbitrage import AUTO
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
        ("gpt-4o", ModelType.OPENAI, "gpt-4o", "claude-sonnet-4-5"),
        ("gpt-3.5-turbo", ModelType.OPENAI, "gpt-3.5-turbo", "claude-haiku-4-5"),
        ("gemini-pro", ModelType.GEMINI, "gemini-2.5-pro", "claude-sonnet-4-5"),
        ("claude-haiku", ModelType.CLAUDE, "claude-haiku-4-5", "claude-haiku-4-5"),
        ("llama3:8b", ModelType.LOCAL, "llama3:8b", "claude-haiku-4-5"),
        ("my-own", ModelType.LOCAL, "my-own", "claude-haiku-4-5"),
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
