"""
Faults and schedules in plain Python: the scenario language without a file.

    from seawall.builders import Schedule, outage, respond

    schedule = (
        Schedule("Gemini goes dark while Claude throttles")
        .at(8, outage("gemini"), for_s=15)
        .at(12, respond("claude", status=429, retry_after_s=5), for_s=5)
    )
    schedule.write("scenarios/mine.yaml")  # or run it: the fixture `seawall` takes it as it is

A fault is also a context manager. Inside a `seawall.simulation.Simulation` it is in force for the block:

    with outage("gemini") as block:
        reply = await router.complete(request)
    assert block.met and reply.provider == "claude"

Nothing heavy is imported before something is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from seawall.scenario import Loaded, Scenario
    from seawall.scenario.model import FaultSpec
    from seawall.simulation.playground import Block

__all__ = [
    "Harm",
    "Schedule",
    "budget_left",
    "clock_skew",
    "cut_stream",
    "kill",
    "latency",
    "outage",
    "respond",
    "stop",
    "toxic",
]

_TAIL_S = 10.0
"""How long the load goes on after the last fault when nothing is said of it: time to come back."""
_LOAD_MIN_S = 20.0
_AT_ONCE: dict[str, Any] = {"at": "0s", "duration": "1s"}
_SHARED = ("budget", "redis")


class Harm:
    """
    What goes wrong at `target`, in the words of the scenario language. Made by the functions of this module.

    Raises ValueError when the language would not take it.
    """

    def __init__(self, target: str, **words: Any) -> None:
        self.target = target
        self.words = words
        self._blocks: list[Block] = []
        self.spec("harm", _AT_ONCE)

    def spec(self, name: str, when: Mapping[str, Any]) -> FaultSpec:
        """Return the fault of a scenario that it is; `when` are the words for its time. Raises ValueError."""
        # Here and below: a module of tests that only imports builders loads no models.
        from pydantic import ValidationError  # noqa: PLC0415

        from seawall.scenario.harm import FaultSpec  # noqa: PLC0415

        try:
            return FaultSpec.model_validate({"id": name, **when, "target": self.target, **self.words})
        except ValidationError as error:
            told = [f"{'.'.join(map(str, one['loc'])) or 'fault'}: {one['msg']}" for one in error.errors()]
            raise ValueError(f"{self!r}: {'; '.join(told).replace('Value error, ', '')}") from None

    def __enter__(self) -> Block:
        """Put it in force in the simulation that this code runs in, for the block. Raises RuntimeError outside one."""
        from seawall.simulation.playground import current  # noqa: PLC0415

        block = current().inject(self)
        self._blocks.append(block)
        return block

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.pop().heal()

    def __repr__(self) -> str:
        return f"Harm({self.target!r}, {', '.join(f'{name}={value!r}' for name, value in self.words.items())})"


def outage(target: str, *, silent: bool = False) -> Harm:
    """
    Return a provider (or `redis`) that is gone: connections are refused, and those that there are break.

    `silent`: they are taken, and nothing ever comes back.
    """
    return toxic(target, "timeout", timeout=0) if silent else toxic(target, "down")


def latency(target: str, ms: int, *, jitter_ms: int = 0) -> Harm:
    """Return a delay on the way back from a provider or Redis, give or take `jitter_ms`."""
    attributes = {"latency": ms} | ({"jitter": jitter_ms} if jitter_ms else {})
    return Harm(target, toxic={"type": "latency", "attributes": attributes})


def toxic(
    target: str,
    type: str,  # noqa: A002 - Toxiproxy's word
    *,
    stream: Literal["upstream", "downstream"] = "downstream",
    toxicity: float = 1.0,
    **attributes: int,
) -> Harm:
    """Return a toxic of Toxiproxy on the wire to a provider or Redis, by Toxiproxy's names and units."""
    words: dict[str, Any] = {"type": type}
    words |= {"stream": stream} if stream != "downstream" else {}
    words |= {"toxicity": toxicity} if toxicity != 1.0 else {}
    return Harm(target, toxic=words | ({"attributes": attributes} if attributes else {}))


def respond(
    provider: str,
    *,
    share: float = 1.0,
    status: int | None = None,
    retry_after_s: float | None = None,
    first_token_s: float | None = None,
    dribble_s: float | None = None,
    cut_after_chunks: int | None = None,
    content_type: str | None = None,
    **flags: bool,
) -> Harm:
    """
    Return a provider that misbehaves in one way, towards a `share` of the requests.

    `flags` are the behaviours without a figure, such as `hang=True`, `empty=True`; docs/behaviours.md has all of them.
    """
    times = {"retry_after": retry_after_s, "first_token": first_token_s, "dribble": dribble_s}
    plain = {"status": status, "cut_after_chunks": cut_after_chunks, "content_type": content_type}
    words: dict[str, Any] = {name: value for name, value in plain.items() if value is not None}
    words |= {name: _duration(seconds) for name, seconds in times.items() if seconds is not None}
    partly = {"injection_rate": f"{share * 100:g}%"} if share != 1.0 else {}
    return Harm(provider, respond=words | flags, **partly)


def cut_stream(provider: str, *, after_chunks: int = 3, share: float = 1.0) -> Harm:
    """Return a provider that breaks the connection after so many chunks of its answer."""
    return respond(provider, share=share, cut_after_chunks=after_chunks)


def budget_left(usd: float) -> Harm:
    """Return a day's budget of which only so much is left."""
    from seawall.scenario.quantities import money_text  # noqa: PLC0415

    return Harm("budget", remaining=money_text(usd))


def kill(target: str = "gateway") -> Harm:
    """Return a process (`gateway`: its first worker, `redis`, `toxiproxy`) that is killed, and started at the end."""
    return Harm(target, process="kill")


def stop(target: str = "gateway") -> Harm:
    """Return a process that stands still, and goes on at the end."""
    return Harm(target, process="stop")


def clock_skew(seconds: float) -> Harm:
    """Return a clock on the wall that is so much fast, or slow below zero. Only the simulation has it."""
    return Harm("gateway", clock_skew=f"{'-' if seconds < 0 else ''}{_duration(abs(seconds))}")


class Schedule:
    """
    A scenario in Python: what goes wrong and when, under which load. Every method returns a new one.

    Where nothing is said of the load there are 20 requests a second, until 10 s after the last fault.
    """

    def __init__(self, title: str = "A schedule made in Python", *, seed: int = 1) -> None:
        self._data: dict[str, Any] = {"version": 1, "title": title, "seed": seed, "load": {}, "faults": []}
        self._ends_s: dict[str, float] = {}

    def at(
        self, at_s: float, harm: Harm, *, for_s: float, name: str | None = None, every_s: float | None = None
    ) -> Schedule:
        """Let `harm` begin at a time of the load and last `for_s`; `every_s` begins it again and again."""
        return self._with_fault(harm, {"at": _duration(at_s)}, at_s + for_s, for_s, name, every_s)

    def after(
        self, before: str, harm: Harm, *, for_s: float, delay_s: float = 0.0, name: str | None = None
    ) -> Schedule:
        """Let `harm` begin when the fault called `before` has ended, and `delay_s` later. Raises ValueError."""
        if before not in self._ends_s:
            raise ValueError(f"no fault is called {before!r}; there are {', '.join(self._ends_s) or 'none'} so far")
        when = {"follows": before} | ({"delay": _duration(delay_s)} if delay_s else {})
        return self._with_fault(harm, when, self._ends_s[before] + delay_s + for_s, for_s, name, None)

    def load(self, *, rate: float = 20.0, duration_s: float | None = None, **words: Any) -> Schedule:
        """Say what clients send: `rate` requests a second; `words` as in a file, such as `stream="30%"`."""
        lasts = {} if duration_s is None else {"duration": _duration(duration_s)}
        return self._but(load={"rate": f"{rate:g}/s", **lasts, **words})

    def settings(self, **values: str | float | bool) -> Schedule:
        """Set the router's settings by their names, such as `CIRCUIT_BREAKER_RECOVERY_TIMEOUT="5s"`."""
        system = self._data.get("system", {})
        settings = {**system.get("settings", {}), **values}
        return self._but(system={**system, **({"settings": settings} if settings else {})})

    def workers(self, count: int) -> Schedule:
        """Let so many workers share the load."""
        return self._but(system={"workers": count, **self._data.get("system", {})})

    def expect(self, **groups: list[dict[str, Any]]) -> Schedule:
        """Add expectations: `always`, `sometimes`, `eventually`, `thresholds`, each a list as in a file."""
        known = self._data.get("expect", {})
        return self._but(expect={**known, **{name: [*known.get(name, []), *more] for name, more in groups.items()}})

    def words(self, **more: Any) -> Schedule:
        """Add any other word of the language: `providers`, `steady_state`, `allow_refusal`, `tags`."""
        return self._but(**more)

    def text(self) -> str:
        """Return the scenario file."""
        from seawall.hunt.document import yaml_of  # noqa: PLC0415

        return yaml_of(self._document())

    def loaded(self) -> Loaded:
        """Return the scenario with its text. Raises ScenarioError with everything that is wrong with it."""
        from seawall.scenario import load_text  # noqa: PLC0415

        return load_text(self.text(), "schedule")

    def scenario(self) -> Scenario:
        """Return the scenario. Raises ScenarioError."""
        return self.loaded().scenario

    def write(self, path: str | Path) -> Path:
        """Write the scenario file, when it is a good one. Raises ScenarioError and OSError."""
        self.loaded()
        Path(path).write_text(self.text(), encoding="utf-8")
        return Path(path)

    def _with_fault(
        self, harm: Harm, when: dict[str, Any], end_s: float, for_s: float, name: str | None, every_s: float | None
    ) -> Schedule:
        name = name or self._free_name(harm)
        when = {**when, "duration": _duration(for_s)} | ({} if every_s is None else {"every": _duration(every_s)})
        harm.spec(name, when)  # what is wrong is told here, at its line
        made = self._but(faults=[*self._data["faults"], {"id": name, **when, "target": harm.target, **harm.words}])
        made._ends_s = {**self._ends_s, name: end_s}
        return made

    def _free_name(self, harm: Harm) -> str:
        kind, words = next(iter(harm.words.items()))
        word = words.get("type") or next(iter(words)) if isinstance(words, dict) else kind  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType, reportUnknownArgumentType]
        stem = f"{harm.target}_{word}"[:28]
        taken = {fault["id"] for fault in self._data["faults"]}
        return next(name for n in range(1, 1000) if (name := stem if n == 1 else f"{stem}_{n}") not in taken)

    def _but(self, **more: Any) -> Schedule:
        made = Schedule()
        made._data = {**self._data, **more}
        made._ends_s = self._ends_s
        return made

    def _document(self) -> dict[str, Any]:
        data = {**self._data}
        faults = data["faults"]
        wire = not any("clock_skew" in fault for fault in faults)
        lasts = _duration(max(_LOAD_MIN_S, max(self._ends_s.values(), default=0.0) + _TAIL_S))
        load = data.pop("load")
        if "executor" not in load:
            load = {"executor": "constant-arrival-rate", "rate": "20/s", "duration": lasts} | load
        system = {**data.pop("system", {})}
        if any(fault["target"] in _SHARED for fault in faults):
            # Elsewhere nobody but the router itself could reach the budget.
            system["settings"] = {"BUDGET_STORE": "redis"} | system.get("settings", {})
        head = {name: data.pop(name) for name in ("version", "title", "seed")}
        head["arenas"] = ["simulation", "wire"] if wire else ["simulation"]
        return {**head, **({"system": system} if system else {}), "load": load, **data}


def _duration(seconds: float) -> str:
    from seawall.scenario.quantities import duration_text  # noqa: PLC0415

    return duration_text(seconds)
