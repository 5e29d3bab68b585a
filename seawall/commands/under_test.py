"""`seawall run --system`: another gateway under test than the scenarios name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from router.errors import ConfigurationError
from seawall.run import Exit
from seawall.scenario import Loaded
from seawall.screen import Screen, complain
from seawall.systems import system_named
from seawall.systems.url import upstream_lines
from seawall.toolchain import ToolchainError

__all__ = ["put_under_test"]


def put_under_test(options: Any, scenarios: list[Loaded], screen: Screen) -> Exit | None:
    """Install the system that is named and leave out what it cannot do; return an exit code where nothing is left."""
    if options.arena != "wire":
        complain("seawall run: --system names a gateway on the wire; leave out --arena simulation")
        return Exit.USAGE
    try:
        system = system_named(options.system)
        if not options.plan:
            system.install(lambda line: screen.write(f"  {line}"))
    except (ConfigurationError, ToolchainError) as error:
        complain(f"seawall run: {error}")
        return Exit.INVALID if isinstance(error, ToolchainError) else Exit.USAGE
    for loaded in list(scenarios):
        missing = system.unsupported(loaded.scenario)
        if missing:
            screen.write(f"unsupported by {system.label}: {Path(loaded.name).stem}: {'; '.join(missing)}")
            scenarios.remove(loaded)
    if not scenarios:
        complain(f"seawall run: {system.label} can do none of these scenarios")
        return Exit.USAGE
    if system.upstream_ports:
        for line in upstream_lines():
            screen.write(line)
        if not options.plan:
            options.jobs = 1  # its upstreams are on fixed ports
    return None
