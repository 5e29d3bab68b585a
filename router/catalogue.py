"""
Which model a name means, and which model stands in for it at another provider. Pure; the table is a data file.

`resolve("gpt-4o")` is OpenAI's large model; after a failover the same *tier* is asked of the next provider.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import msgspec

from router.arbitrage import AUTO
from router.errors import RequestError
from router.models import ModelType

__all__ = ["Choice", "known_models", "model_at", "resolve"]


class Choice(msgspec.Struct, frozen=True):
    """What a model name means: who is asked first, with which model; `tier` decides the model of the others."""

    provider: ModelType
    model: str | None
    """None: the provider's default (for LOCAL the setting OLLAMA_MODEL)."""
    tier: str | None


class _Model(msgspec.Struct, frozen=True):
    provider: ModelType
    tier: str


class _Catalogue(msgspec.Struct, frozen=True):
    as_of: str
    defaults: dict[ModelType, str | None]
    models: dict[str, _Model]
    aliases: dict[str, str]
    tiers: dict[str, dict[ModelType, str | None]]


@cache
def _catalogue() -> _Catalogue:
    data = files("router").joinpath("data/models.json").read_bytes()
    return msgspec.json.decode(data, type=_Catalogue)


def known_models() -> tuple[str, ...]:
    """Return every name that a caller may give: providers, `auto`, models, aliases."""
    table = _catalogue()
    return (*(str(provider) for provider in ModelType), AUTO, *table.models, *table.aliases)


def resolve(name: str, local_model: str) -> Choice:
    """Return what `name`, which is not `auto`, means. Raises RequestError for a name that nobody knows."""
    table = _catalogue()
    if name in tuple(ModelType):
        return Choice(ModelType(name), None, None)
    if name == local_model:
        return Choice(ModelType.LOCAL, name, "small")
    canonical = table.aliases.get(name, name)
    entry = table.models.get(canonical)
    if entry is None:
        raise RequestError(f"unknown model {name!r}; known are {', '.join(known_models())}", status=404)
    return Choice(entry.provider, canonical, entry.tier)


def model_at(provider: ModelType, choice: Choice, local_model: str) -> str:
    """Return the model to ask `provider` for, given what the caller chose."""
    table = _catalogue()
    if provider is choice.provider and choice.model is not None:
        return choice.model
    model = table.tiers[choice.tier][provider] if choice.tier else table.defaults[provider]
    return model if model is not None else local_model
