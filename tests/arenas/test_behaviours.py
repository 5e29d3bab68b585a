"""What a scenario says of a provider reaches its emulator, every word of it."""

from __future__ import annotations

from typing import Any

import pytest

from seawall.arenas.behaviours import behaviour_of
from seawall.emulators.steps import Behaviour
from seawall.scenario.harm import FaultSpec
from seawall.scenario.respond import Respond

SAMPLES: dict[str, tuple[Any, Any]] = {
    "status": (503, 503),
    "retry_after": ("1500ms", 1.5),
    "first_token": ("2s", 2.0),
    "dribble": ("300ms", 0.3),
    "cut_after_chunks": (0, 0),
    "content_type": ("text/plain", "text/plain"),
}
"""Words whose value is not just true: as written, and as the emulator takes it."""


def spec(respond: dict[str, Any] | None, **more: Any) -> FaultSpec:
    """Return a fault of gemini's."""
    harm = {"respond": respond} if respond is not None else {"toxic": {"type": "timeout"}}
    return FaultSpec.model_validate({"id": "odd", "at": "1s", "duration": "2s", "target": "gemini", **harm, **more})


@pytest.mark.parametrize("word", Respond.model_fields)
def test_every_word_of_the_language_is_a_behaviour(word: str) -> None:
    """Each word sets exactly its own field, durations in seconds."""
    written, taken = SAMPLES.get(word, (True, True))
    also = {"status": 429} if word == "retry_after" else {}
    found = behaviour_of(spec({word: written} | also, injection_rate="25%"))
    field = word if word in Behaviour.__struct_fields__ else f"{word}_s"
    assert found == Behaviour(fault_id="odd", injection_rate=0.25, **{field: taken} | also)


def test_every_behaviour_has_a_word() -> None:
    """Whatever an emulator can do wrong can be said in a scenario."""
    words = {name if name in Behaviour.__struct_fields__ else f"{name}_s" for name in Respond.model_fields}
    assert words == set(Behaviour.__struct_fields__) - {"fault_id", "injection_rate"}


def test_fault_of_another_kind_has_none() -> None:
    """A toxic is not the provider's doing."""
    with pytest.raises(ValueError, match="odd has no respond"):
        behaviour_of(spec(None))
