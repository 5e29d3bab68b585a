"""The system under test: its settings by its own word for them, and what faults and load need of them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from seawall.scenario.problems import Problem, nearest, shown, split_fix
from seawall.scenario.sentences import Path
from seawall.scenario.situation import Situation

__all__ = ["check_system"]

DEFAULT_MODEL = "seawall"
"""What a client sends as `model` when it leaves the choice to the gateway's chain."""
_OF_THE_ARENA = (
    "gemini_base_url",
    "anthropic_base_url",
    "openai_base_url",
    "ollama_host",
    "redis_url",
    "budget_sqlite_path",
    "deployments",
)


def check_system(situation: Situation) -> Iterator[Problem]:
    """Yield the problems of `system`, of what faults need there, and of the model that the load asks for."""
    if not situation.system_known:
        return
    yield from _elsewhere(situation)
    yield from _settings(situation)
    yield from _shared_budget(situation)
    yield from _parts(situation)
    if situation.load_known:
        yield from _model(situation)


def _elsewhere(situation: Situation) -> Iterator[Problem]:
    gateway = situation.scenario.system.gateway
    if gateway != "seawall" and set(situation.scenario.arenas) != {"wire"}:
        message = f"{gateway} runs on the wire only"
        yield situation.problem(("system", "gateway"), message, "write `arenas: [wire]`, or another gateway")


def _settings(situation: Situation) -> Iterator[Problem]:
    settings = situation.scenario.system.settings
    if not settings:
        return
    try:
        router: Any = importlib.import_module("router.settings")
    except ImportError:
        return
    names = [name.lower() for name in router.setting_names()]
    for key, value in settings.items():
        path: Path = ("system", "settings", key)
        if key.lower() in _OF_THE_ARENA:
            message = f"`{key}` is set by the arena, which puts its own there"
            yield situation.problem(path, message, "take it out", on_key=True)
        elif key.lower() not in names:
            word = nearest(key, names)
            shape = word.upper() if word and key.isupper() else word
            fix = f"did you mean `{shape}`?" if shape else "`seawall` lists them in its documentation"
            yield situation.problem(path, f"`{key[:60]}` is no setting of the gateway", fix, on_key=True)
        elif key.lower() == "breaker_store" and value == "redis" and "simulation" in situation.scenario.arenas:
            message = "breakers that workers share are not simulated"
            yield situation.problem(path, message, "take `simulation` out of `arenas`, or the setting out")
        elif key.lower().endswith("_api_key") and value:
            message = f"`{key}` is a secret, and a scenario goes into every journal"
            yield situation.problem(path, message, "take it out and set it in the environment", on_key=True)
        else:
            reason = _refused(router, key, value)
            if reason:
                message, fix = split_fix(reason)
                yield situation.problem(path, message, fix or "see what the setting takes")


def _refused(router: Any, key: str, value: object) -> str:
    """Return why the gateway would not take the value, or nothing."""
    try:
        router.Settings.from_mapping({key: value})
    except Exception as error:  # noqa: BLE001 - whatever the gateway says against it is what the reader has to know
        text = str(error) or f"{key}: {shown(value)} is refused"
        return text.replace(": write ", "; write ")
    return ""


def _shared_budget(situation: Situation) -> Iterator[Problem]:
    if situation.shares_budget:
        return
    for index, fault in enumerate(situation.scenario.faults):
        if fault.target == "budget":
            message = f"fault `{fault.id}` changes a budget that nobody but the gateway can reach"
            path: Path = ("faults", index, "remaining")
            yield situation.problem(path, message, "add BUDGET_STORE: redis to system.settings")
        elif fault.target == "redis":
            message = f"fault `{fault.id}` is aimed at Redis, which the gateway does not use"
            yield situation.problem(("faults", index, "target"), message, "add BUDGET_STORE: redis to system.settings")
    if situation.scenario.system.workers > 1 and situation.setting("DAILY_SPEND_LIMIT_USD") is not None:
        workers = situation.scenario.system.workers
        message = f"{workers} workers keep a budget each, so {workers} times the limit may be spent"
        yield situation.warning(("system", "workers"), message, "add BUDGET_STORE: redis to system.settings")


def _parts(situation: Situation) -> Iterator[Problem]:
    """Yield what is aimed at a part that the run will not have, and transcripts where there cannot be any."""
    needs = {"collector": "TELEMETRY: otel to system.settings", "key_service": "transcripts: closed to system"}
    words = {"collector": "a collector of traces", "key_service": "a key service"}
    for index, fault in enumerate(situation.scenario.faults):
        if fault.target in needs and fault.target not in situation.scenario.parts:
            message = f"fault `{fault.id}` is aimed at {words[fault.target]}, which the gateway does not use"
            yield situation.problem(("faults", index, "target"), message, f"add {needs[fault.target]}")
    system = situation.scenario.system
    if system.transcripts is not None:
        path: Path = ("system", "transcripts")
        if set(situation.scenario.arenas) != {"wire"}:
            message = "transcripts are kept on the wire only"
            yield situation.problem(path, message, "write `arenas: [wire]`, or take it out", on_key=True)
        if system.gateway != "seawall":
            message = f"{system.gateway} keeps no transcripts of ours"
            yield situation.problem(path, message, "take it out, or write `gateway: seawall`", on_key=True)


def _model(situation: Situation) -> Iterator[Problem]:
    # Imported here: only who loads a scenario needs the router's table of models.
    from router.catalogue import default_catalogue  # noqa: PLC0415

    local = situation.setting("OLLAMA_MODEL")
    known = [DEFAULT_MODEL, *default_catalogue().names(), "llama3" if local is None else str(local)]
    model = situation.scenario.load.model
    if model not in known:
        word = nearest(model, known)
        fix = f"did you mean `{word}`?" if word else f"write {DEFAULT_MODEL}, auto, a provider or a model it knows"
        yield situation.problem(("load", "model"), f"`model` is {shown(model)}, which the gateway does not know", fix)
