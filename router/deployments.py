"""
Several deployments or keys of one provider, as settings say them. Pure.

    deployments:
      openai:
        - {name: eu, api_key_env: OPENAI_EU_KEY, base_url: https://eu.example}
        - {name: us, api_key_env: OPENAI_US_KEY, weight: 2}

A provider without an entry has one deployment without a name: its own key at its own address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from router.models import ModelType
from router.values import Secret

__all__ = ["Deployment", "Deployments", "entry_problems", "keyed", "shown"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Deployment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key at one address."""

    name: str
    """What events and the status call it."""
    api_key: Secret = Secret("")
    """Its key; without one of these two, the provider's own."""
    api_key_env: str = ""
    """The environment variable that holds its key."""
    base_url: str = ""
    """Where it is called; empty: the provider's own address."""
    weight: float = 1.0
    """How much it can carry beside its siblings: one of weight 2 is as busy with two calls as another with one."""


Deployments = Mapping[ModelType, tuple[Deployment, ...]]


def keyed(deployments: Deployments, environment: Mapping[str, str]) -> Deployments:
    """Return the deployments with the keys that their `api_key_env` name. Raises ValueError for one that is not set."""
    filled: dict[ModelType, tuple[Deployment, ...]] = {}
    for provider, entries in deployments.items():
        found: list[Deployment] = []
        for one in entries:
            key = environment.get(one.api_key_env, "").strip()
            if one.api_key_env and not key and not one.api_key:
                raise ValueError(f"names {one.api_key_env} as the key of {provider}/{one.name}, which is not set")
            found.append(msgspec.structs.replace(one, api_key=Secret(key)) if key else one)
        filled[provider] = tuple(found)
    return filled


def entry_problems(deployments: Deployments) -> Iterator[str]:
    """Yield what is wrong with names and weights; no message holds a key."""
    for provider, entries in deployments.items():
        names = [one.name for one in entries]
        for one in entries:
            who = f"DEPLOYMENTS of {provider}: {one.name[:64]!r}"
            if not _NAME.fullmatch(one.name):
                yield f"{who} is no name; use at most 64 letters, digits, '.', '_' and '-'"
            elif names.count(one.name) > 1:
                yield f"{who} stands there twice; every deployment of a provider needs a name of its own"
            if not 0.01 <= one.weight <= 100:
                yield f"{who} has the weight {one.weight}; it must be from 0.01 to 100"


def shown(deployments: Deployments) -> str:
    """Return them as JSON text, keys masked, fit to be read again where keys come from the environment."""
    if not deployments:
        return ""
    plain = msgspec.to_builtins(deployments, enc_hook=lambda key: "***" if key else "")
    for entry in (entry for entries in plain.values() for entry in entries):
        if entry["api_key_env"]:
            entry["api_key"] = ""
    return msgspec.json.encode(
        {name: [{k: v for k, v in entry.items() if v} for entry in entries] for name, entries in plain.items()}
    ).decode()
