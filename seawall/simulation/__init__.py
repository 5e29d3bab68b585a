"""
The simulation arena: any scenario in virtual time, in one process, from one seed.

    from seawall.scenario import load_scenario
    from seawall.simulation import simulate
    from seawall.verdicts.judge import judge_scenario

    scenario = load_scenario(path).scenario
    journal = simulate(scenario, seed=7)  # in memory; nothing is written anywhere
    verdict = judge_scenario(journal, scenario)

The router, its adapters and parsers, the budget's store, the emulators' behaviour, the plan, the life of faults, the
journal and the verdicts are the real ones. Simulated are time (`loop`), the network with its toxics (`network`,
`toxics`, `transport`), the processes (`workers`, `processes`), Redis (`redis`) and the clients (`client`).

The same scenario, seed and commit give the same journal, byte for byte but for `run.UNEQUAL_FIELDS` of its header:
every draw is keyed (`seawall.draws`), ids are counted, and the clocks begin at `loop.START_S` and
`recorder.WALL_START_S`. `seawall run --arena simulation` writes reports as it does for the wire.

What is not simulated: the gateway's HTTP face (a client sees the router's API through the gateway's own words for
answers and errors), TLS, breakers shared in Redis (BREAKER_STORE=redis is refused), and the time that code takes: every
callback takes a microsecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seawall.simulation.arena import simulate
    from seawall.simulation.loop import Stalled, VirtualLoop, run_virtual
    from seawall.simulation.playground import Simulation
    from seawall.simulation.run import run_simulation

__all__ = ["Simulation", "Stalled", "VirtualLoop", "run_simulation", "run_virtual", "simulate"]

_HOMES = {
    "Simulation": "playground",
    "Stalled": "loop",
    "VirtualLoop": "loop",
    "run_simulation": "run",
    "run_virtual": "loop",
    "simulate": "arena",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for: the loop alone needs none of the rest."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only here

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
