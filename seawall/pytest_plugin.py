"""
Scenarios in your own test suite: `@pytest.mark.seawall("scenarios/dark.yaml")`, and the fixture `seawall`.

A marked test fails when the run of its scenario, in the simulation, does not pass; then its own body runs. The body of
an async one runs in virtual time, with a router in `seawall.router` and faults from `seawall.builders`.

pytest loads this module at every start, so it imports nothing but pytest. See docs/how-to/pytest.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from router.hybrid import HybridRouter
    from router.settings import Settings
    from seawall.simulation.checked import CheckedRun
    from seawall.simulation.playground import Simulation

__all__ = [
    "Seawall",
    "pytest_addoption",
    "pytest_configure",
    "pytest_pyfunc_call",
    "pytest_runtest_call",
    "seawall",
]

_MARK = (
    "seawall(*scenarios, seed=None, settings=None, router=None): run the scenarios in the simulation and fail unless "
    "they pass; an async test runs in virtual time"
)
_KEYS = ("seed", "settings", "router")


class Seawall:
    """What the fixture `seawall` is: call it with a scenario to run that; see `runs`, `router`, `simulation`."""

    def __init__(self, item: pytest.Item) -> None:
        self.runs: list[CheckedRun] = []
        """Every run of this test, those of its marks first."""
        self._item = item
        self._simulation: Simulation | None = None

    def __call__(
        self,
        scenario: Any,
        *,
        seed: int | None = None,
        settings: Mapping[str, Any] | Settings | None = None,
        router: Callable[..., Any] | None = None,
        check: bool = True,
    ) -> CheckedRun:
        """
        Run a scenario (a path, the name of one of Seawall's, a `Schedule`, a `Scenario`) and return what it came to.

        Settings and router default to those of the test's mark. Fails the test when the run does not pass, unless
        `check` is false.
        """
        __tracebackhide__ = True
        options = _options(self._item)
        wanted = self._item.config.getoption("--seawall-seed")
        run = _run(
            lambda: self._found(scenario),
            seed=wanted if wanted is not None else seed if seed is not None else options["seed"],
            settings=options["settings"] if settings is None else settings,
            router=options["router"] if router is None else router,
        )
        self.runs.append(run)
        if check and not run.passed:
            pytest.fail(_told(self._item, run), pytrace=False)
        return run

    @property
    def run(self) -> CheckedRun:
        """The last run. Raises LookupError when there was none."""
        if not self.runs:
            raise LookupError("no scenario was run: name one in the mark, or call `seawall(scenario)`")
        return self.runs[-1]

    @property
    def simulation(self) -> Simulation:
        """The simulation that the body of a marked async test runs in. Raises LookupError elsewhere."""
        if self._simulation is None:
            raise LookupError("only the body of an async test that is marked with @pytest.mark.seawall has a router")
        return self._simulation

    @property
    def router(self) -> HybridRouter:
        """The router of that simulation."""
        return self.simulation.router

    def play(self, test: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
        """Run an async test in virtual time, in a simulation of its own."""
        from seawall.simulation import Simulation, run_virtual  # noqa: PLC0415
        from seawall.simulation.checked import changed_settings  # noqa: PLC0415

        options = _options(self._item)
        wanted = self._item.config.getoption("--seawall-seed")
        given: dict[str, Any] = {"settings": changed_settings(options["settings"])}
        seed = options["seed"] if wanted is None else wanted
        given |= {} if seed is None else {"seed": seed}
        given |= {} if options["router"] is None else {"router": options["router"]}

        async def body() -> None:
            async with Simulation(**given) as simulation:
                self._simulation = simulation
                try:
                    await test(**arguments)
                finally:
                    self._simulation = None

        run_virtual(body())

    def _found(self, scenario: Any) -> Any:
        """Return a path as it is meant: beside the test, below pytest's root, or the name of one of Seawall's own."""
        if not isinstance(scenario, str | Path):
            return scenario
        for folder in (self._item.path.parent, self._item.config.rootpath):
            if (folder / scenario).is_file():
                return folder / scenario
        from seawall.scenario import find  # noqa: PLC0415

        return find([str(scenario)])[0]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the simulation."""
    group = parser.getgroup("seawall", "scenarios in the simulation")
    group.addoption("--seawall-seed", type=int, metavar="N", help="run every scenario with this seed")
    group.addoption("--seawall-out", type=Path, metavar="FOLDER", help="where reports of failures go")


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", _MARK)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Run the scenarios of the test's marks before its body."""
    if item.get_closest_marker("seawall") is None:
        return
    scenarios = [name for mark in reversed(list(item.iter_markers("seawall"))) for name in mark.args]
    runner = _runner(item)
    for scenario in scenarios:
        runner(scenario)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the body of a marked async test in virtual time, whatever other plugin has a loop for it."""
    if pyfuncitem.get_closest_marker("seawall") is None:
        return None
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        # pytest-asyncio has put a function of its own in its place, which knows it.
        test = getattr(test, "__wrapped__", None)
    if not inspect.iscoroutinefunction(test):
        return None
    names = pyfuncitem._fixtureinfo.argnames  # pyright: ignore[reportPrivateUsage]
    _runner(pyfuncitem).play(test, {name: pyfuncitem.funcargs[name] for name in names})
    return True


@pytest.fixture(name="seawall")
def seawall(request: pytest.FixtureRequest) -> Seawall:
    """Run scenarios in the simulation: `seawall(scenario)`; see docs/how-to/pytest.md."""
    return _runner(request.node)


_RUNNERS = pytest.StashKey[Seawall]()


def _runner(item: pytest.Item) -> Seawall:
    return item.stash.setdefault(_RUNNERS, Seawall(item))


def _options(item: pytest.Item) -> dict[str, Any]:
    """Return what the marks say besides scenarios, that of the closest one first."""
    found: dict[str, Any] = dict.fromkeys(_KEYS)
    for mark in item.iter_markers("seawall"):
        strange = sorted(mark.kwargs.keys() - set(_KEYS))
        if strange:
            raise pytest.UsageError(f"@pytest.mark.seawall does not know {', '.join(strange)}; it takes {_KEYS}")
        found |= {name: mark.kwargs[name] for name in mark.kwargs if found[name] is None}
    return found


def _run(find: Callable[[], Any], **how: Any) -> CheckedRun:
    """Run what `find` finds; what is wrong with it, or with its settings, fails the test in its own words."""
    __tracebackhide__ = True
    from seawall.cli import shadowed  # noqa: PLC0415

    shadow = shadowed()
    if shadow is not None and "'reports'" not in shadow:
        pytest.fail(shadow, pytrace=False)
    try:
        from seawall.scenario import ScenarioError  # noqa: PLC0415
        from seawall.simulation.checked import run_checked  # noqa: PLC0415
    except ModuleNotFoundError as error:
        pytest.fail(f"{error.name} is not installed; pip install 'seawall[harness]'", pytrace=False)
    from router.errors import ConfigurationError  # noqa: PLC0415
    from seawall.simulation.loop import Stalled  # noqa: PLC0415

    try:
        return run_checked(find(), **how)
    except ScenarioError as error:
        told = "\n".join(str(problem) for problem in error.problems)
    except ConfigurationError as error:
        told = f"settings: {error}"
    except Stalled as error:
        told = f"the router stands still: {error}"
    pytest.fail(told, pytrace=False)


def _told(item: pytest.Item, run: CheckedRun) -> str:
    """Return what a failure says: the table of checks, the report, and how to see it again."""
    return "\n".join([run.table(passes=item.config.get_verbosity() > 0), *_reported(item, run)])


def _reported(item: pytest.Item, run: CheckedRun) -> list[str]:
    from seawall.cli import report_of, shadowed  # noqa: PLC0415
    from seawall.paths import runs_dir  # noqa: PLC0415

    out: Path = item.config.getoption("--seawall-out") or runs_dir()
    lines: list[str] = []
    try:
        folder = run.write(out)
        shadow = shadowed()
        if shadow is None:
            page = report_of(folder)
            item.user_properties.append(("seawall_report", str(page)))
            lines.append(f"report: {page}")
        else:
            lines.append(f"journal: {folder / 'journal.jsonl'} (no report: {shadow})")
    except OSError as error:
        lines.append(f"no report: {error}; choose another folder with --seawall-out")
    lines.append(f"again: pytest {item.nodeid!r} --seawall-seed {run.seed}")
    return lines
