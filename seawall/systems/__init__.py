"""Systems under test: one folder a gateway, all of the shape that `base` gives. CREATING_SYSTEMS.md adds one."""

from __future__ import annotations

import importlib

from router.errors import ConfigurationError
from seawall.systems.base import Launch, SystemUnderTest, Target
from seawall.systems.seawall import SeawallSystem

__all__ = ["SYSTEMS", "Launch", "SeawallSystem", "SystemUnderTest", "Target", "system_named"]

SYSTEMS = {
    "seawall": "SeawallSystem",
    "litellm": "LiteLLMSystem",
    "portkey": "PortkeySystem",
    "tensorzero": "TensorZeroSystem",
    "bifrost": "BifrostSystem",
    "direct": "DirectSystem",
    "url": "UrlSystem",
}
"""The class of each system, in the folder of its name."""


def system_named(word: str) -> SystemUnderTest:
    """
    Return the system of a name, with its config after a colon where it is not `default`; or `url:` and an address.

    Raises ConfigurationError for a name or a config that there is not.
    """
    name, _, config = word.partition(":")
    if name not in SYSTEMS:
        raise ConfigurationError(f"there is no system {name!r}; write one of {', '.join(SYSTEMS)}")
    if name == "url":
        config = config or "nothing"
    elif config not in ("", "default", "tuned"):
        raise ConfigurationError(f"{word}: a system's config is default or tuned")
    # One at a time: most runs need none but ours.
    module = importlib.import_module(f"seawall.systems.{name}")
    system: SystemUnderTest = getattr(module, SYSTEMS[name])(config or "default")
    return system
