"""
Which model a name means, and which model stands in for it at another provider. Pure; the table is a data file.

`resolve("gpt-4o")` is OpenAI's large model; after a failover the same *tier* is asked of the next provider. Settings
(MODELS, ALIASES, TIERS) add to the data file and replace what it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

import msgspec

from router.arbitrage import AUTO
from router.data import data_file
from router.errors import RequestError
from router.models import ModelType

__all__ = ["Catalogue", "Choice", "Model", "Tiers", "catalogue_problems", "default_catalogue", "lacks_of"]

Tiers = Mapping[str, Mapping[ModelType, str]]


class Choice(msgspec.Struct, frozen=True):
    """What a model name means: who is asked first, with which model; `tier` decides the model of the others."""

    provider: ModelType
    model: str | None
    """None: the provider's default (for LOCAL the setting OLLAMA_MODEL)."""
    tier: str | None


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose model it is, which tier stands in for it elsewhere, and the day (UTC) on which its vendor ends it."""

    provider: ModelType
    tier: str
    ends: str | None = None


class Catalogue(msgspec.Struct, frozen=True):
    """The table of models. `defaults` are the models that a provider's own name stands for."""

    as_of: str
    defaults: Mapping[ModelType, str | None]
    models: Mapping[str, Model]
    aliases: Mapping[str, str]
    tiers: Mapping[str, Mapping[ModelType, str | None]]
    lacks: Mapping[ModelType, Mapping[str, frozenset[str]]]
    """What a model cannot do although its provider can, by the names of `router.capabilities`."""
    efforts: Mapping[str, str]
    """The `reasoning_effort` that a model of OpenAI's is asked with."""

    def names(self) -> tuple[str, ...]:
        """Return every name that a caller may give: providers, `auto`, models, aliases."""
        return (*_PROVIDERS, AUTO, *self.models, *self.aliases)

    def resolve(self, name: str, local_model: str) -> Choice:
        """Return what `name`, which is not `auto`, means. Raises RequestError for a name that nobody knows."""
        if name in _PROVIDERS:
            return Choice(ModelType(name), None, None)
        if name == local_model:
            return Choice(ModelType.LOCAL, name, "small")
        canonical = self.aliases.get(name, name)
        entry = self.models.get(canonical)
        if entry is None:
            raise RequestError(f"unknown model {name!r}; known are {', '.join(self.names())}", status=404)
        return Choice(entry.provider, canonical, entry.tier)

    def model_at(self, provider: ModelType, choice: Choice, local_model: str) -> str:
        """Return the model to ask `provider` for, given what the caller chose."""
        if provider is choice.provider and choice.model is not None:
            return choice.model
        model = self.tiers[choice.tier][provider] if choice.tier else self.defaults[provider]
        return model if model is not None else local_model

    def replaced(self, models: Mapping[str, Model], aliases: Mapping[str, str], tiers: Tiers) -> Catalogue:
        """Return the table with these on top; the tier `default` replaces the providers' own models."""
        rows = {name: {**self.tiers.get(name, {}), **row} for name, row in tiers.items() if name != "default"}
        return msgspec.structs.replace(
            self,
            defaults={**self.defaults, **tiers.get("default", {})},
            models={**self.models, **models},
            aliases={**self.aliases, **aliases},
            tiers={**self.tiers, **rows},
        )


_PROVIDERS = tuple(map(str, ModelType))
# `llama3:8b` is a size of llama3, `gpt-4o-2024-08-06` an edition of gpt-4o.
_EDITION = re.compile(r":.*|-\d{4}-?\d\d-?\d\d$")


@cache
def default_catalogue() -> Catalogue:
    """Return the table of the data file."""
    return data_file("models", Catalogue)


def catalogue_problems(table: Catalogue, local_model: str) -> Iterator[str]:
    """Yield what leads nowhere in a table that settings have changed."""
    known = {*table.models, local_model}
    for name, model in table.models.items():
        if model.tier not in table.tiers:
            yield f"MODELS: {name} is of the tier {model.tier!r}, which TIERS does not have"
    for alias, name in table.aliases.items():
        if name not in table.models:
            yield f"ALIASES: {alias} stands for {name!r}, which is not known; add it to MODELS"
        elif alias in table.models or alias in (*_PROVIDERS, AUTO):
            yield f"ALIASES: {alias} is itself the name of a model or provider"
    for tier, row in {**table.tiers, "default": table.defaults}.items():
        for provider in ModelType:
            model = row.get(provider, "")
            if model == "":
                yield f"TIERS: {tier} has no model of {provider}"
            elif model is not None and model not in known:
                yield f"TIERS: {tier} has {model!r} of {provider}, which is not known; add it to MODELS"


def lacks_of(provider: ModelType, model: str) -> frozenset[str]:
    """Return what `model` cannot do although its provider can. Of a model that is not listed nothing is known."""
    listed = default_catalogue().lacks.get(provider, {})
    return listed.get(model) or listed.get(_EDITION.sub("", model)) or frozenset()
