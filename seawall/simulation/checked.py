"""
A simulation for somebody's own tests: any kind of scenario in, a verdict and a table to read out.

Nothing is written but on request: `CheckedRun.report` leaves the same folder as `seawall run`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from router.errors import ConfigurationError
from router.hybrid import HybridRouter
from router.settings import Settings
from seawall.console import headline
from seawall.hunt.document import yaml_of
from seawall.journal.merge import merge
from seawall.journal.view import Journal
from seawall.scenario import Loaded, Problem, Scenario, ScenarioError, load_scenario, load_text
from seawall.scenario.nodes import compose, plain
from seawall.simulation.arena import IN_MEMORY, run_scenario_virtually
from seawall.simulation.recorder import Recorder
from seawall.simulation.run import header_of
from seawall.simulation.workers import MakeRouter
from seawall.verdicts.judge import judge_scenario
from seawall.verdicts.model import Check, RunVerdict, Verdict

__all__ = ["CheckedRun", "changed_settings", "run_checked"]

_GOOD = (Verdict.PASS, Verdict.SAFE, Verdict.PARTIAL)
_EVIDENCE_SHOWN = 3
_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}
_OF_THE_ARENA = ("_BASE_URL", "_API_KEY", "OLLAMA_HOST", "REDIS_URL", "BUDGET_SQLITE_PATH", "DEPLOYMENTS")


class CheckedRun:
    """One run and what it came to. `name` is the scenario's, `folder` that of its report once there is one."""

    def __init__(self, loaded: Loaded, scenario: Scenario, recorder: Recorder, folder_name: str) -> None:
        self.name = Path(loaded.name).stem
        self.loaded = loaded
        self.scenario = scenario
        self.seed = scenario.seed
        self.folder: Path | None = None
        self._recorder = recorder
        self._folder_name = folder_name

    @cached_property
    def journal(self) -> Journal:
        """The journal: requests, attempts, calls, breakers, spends, faults."""
        return self._recorder.journal(IN_MEMORY)

    @cached_property
    def verdict(self) -> RunVerdict:
        """The verdict, with every check."""
        return judge_scenario(self.journal, self.scenario)

    @property
    def figures(self) -> dict[str, float | None]:
        """The figures of the run by name, such as `success_rate` and `latency_ms_p99`."""
        return self.verdict.figures

    @property
    def passed(self) -> bool:
        """Whether `seawall run` would end with 0: pass, safe or partial, and everything undone."""
        return self.verdict.verdict in _GOOD and self.verdict.undone is not False

    def write(self, out: Path) -> Path:
        """Write the journal into a new folder below `out`, from which reports are made; return the folder."""
        folder = out / self._folder_name
        folder.mkdir(parents=True)
        self._recorder.write_files(folder)
        merge(folder)
        self.folder = folder
        return folder

    def table(self, *, passes: bool = False) -> str:
        """Return the checks that did not pass, what `why` tells of first, with evidence; with `passes` all of them."""
        verdict = self.verdict
        told = verdict.told
        bad = [check for check in verdict.checks if check.verdict is not Verdict.PASS]
        bad.sort(key=lambda check: (check is not told, _RANK[check.verdict], _first_s(check)))
        good = [check for check in verdict.checks if check.verdict is Verdict.PASS]
        rows = [*bad, *(good if passes else [])]
        lines = [f"{verdict.verdict.upper()} {self.name} (seed {self.seed}): {headline(verdict)}"]
        if rows:
            lines += ["", *_table(rows)]
        if good and not passes:
            lines += ["", f"{len(good)} other checks passed"]
        if verdict.undone is False:
            lines.append("not every fault was verified undone")
        return "\n".join(lines)


def run_checked(
    source: Any,
    *,
    seed: int | None = None,
    settings: Mapping[str, Any] | Settings | None = None,
    router: MakeRouter | None = None,
) -> CheckedRun:
    """
    Run a scenario (a path, a `Scenario`, a `Schedule`) in the simulation and return what it came to.

    `settings` go over the scenario's own, `seed` replaces its seed, and `router` makes the router from the arguments
    of `HybridRouter`. Raises ScenarioError, ConfigurationError, and Stalled when the router waits for ever.
    """
    loaded = _with_settings(_loaded(source), changed_settings(settings))
    scenario = loaded.scenario if seed is None else loaded.scenario.model_copy(update={"seed": seed})
    if "simulation" not in scenario.arenas:
        where = ", ".join(scenario.arenas)
        message = f"it runs in {where} only, not in the simulation"
        raise ScenarioError([Problem(loaded.name, 0, 0, message, "add `simulation` to its arenas")])
    folder = f"{Path(loaded.name).stem}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    maker = HybridRouter if router is None else _faithful(router)
    recorder = run_scenario_virtually(scenario, header_of(loaded, scenario, folder), make_router=maker)
    return CheckedRun(loaded, scenario, recorder, folder)


def changed_settings(settings: Mapping[str, Any] | Settings | None) -> dict[str, Any]:
    """Return settings by name; of a `Settings` those that are not the default, but for keys and addresses."""
    if not isinstance(settings, Settings):
        return dict(settings or {})
    default = Settings.from_mapping({}).shown()
    return {
        name: value
        for name, value in settings.shown().items()
        if value != default[name] and not name.endswith(_OF_THE_ARENA)
    }


def _loaded(source: Any) -> Loaded:
    from seawall.builders import Schedule  # noqa: PLC0415 - only a user of it has one

    match source:
        case Loaded():
            return source
        case Schedule():
            return source.loaded()
        case Scenario():
            document = source.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            return load_text(yaml_of(document), "scenario")
        case _:
            return load_scenario(Path(source))


def _with_settings(loaded: Loaded, settings: Mapping[str, Any]) -> Loaded:
    """Return the scenario with other settings, text and all: the report judges the text."""
    if not settings:
        return loaded
    document = plain(compose(loaded.text, loaded.name))
    system = document.setdefault("system", {})
    given = {name.upper() for name in settings}
    kept = {name: value for name, value in system.get("settings", {}).items() if name.upper() not in given}
    system["settings"] = {**kept, **settings}
    return msgspec.structs.replace(load_text(yaml_of(document), f"{loaded.name}, with settings"), name=loaded.name)


def _faithful(make: MakeRouter) -> MakeRouter:
    """Return `make`, refusing a router whose settings are not those that the verdict goes by."""

    def made(settings: Settings, **parts: Any) -> Any:
        router = make(settings, **parts)
        own = getattr(router, "settings", settings)
        if own != settings:
            here, there = settings.shown(), own.shown()
            names = ", ".join(name for name in here if here[name] != there.get(name)) or "addresses or keys"
            raise ConfigurationError(
                f"the router was made with other settings than it was given: {names}; pass yours as settings=…"
            )
        return router

    made.observes = getattr(make, "observes", None)  # type: ignore[attr-defined]
    return made


def _first_s(check: Check) -> float:
    at_s = check.evidence[0].at_s if check.evidence else None
    return float("inf") if at_s is None else at_s


def _table(checks: list[Check]) -> list[str]:
    head = ("verdict", "check", "figure", "limit")
    rows = [(str(c.verdict), f"{c.group}: {c.name}", c.figure, c.limit) for c in checks]
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(4)]
    lines = ["  ".join(word.ljust(width) for word, width in zip(head, widths, strict=True)).rstrip()]
    for check, row in zip(checks, rows, strict=True):
        lines.append("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())
        if check.verdict is Verdict.PASS:
            continue
        lines.append(f"  {check.reason}")
        lines += [
            f"    {'' if evidence.at_s is None else f'{evidence.at_s:.2f} s: '}{evidence.text}"
            for evidence in check.evidence[:_EVIDENCE_SHOWN]
        ]
        if len(check.evidence) > _EVIDENCE_SHOWN:
            lines.append(f"    and {len(check.evidence) - _EVIDENCE_SHOWN} more, in the report")
    return lines
