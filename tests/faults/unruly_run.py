"""
A run that is made to be killed: creates proxies, poisons, disables, heals and deletes them in a tight loop.

Arguments: Toxiproxy's URL, the undo folder, the run's name, a foreign proxy's name, a seed, the upstream. Prints `go`
when it begins.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from faults import registry
from faults.base import Undo
from faults.down import DownFault
from faults.proxy import OwnProxy
from faults.toxic import ToxicFault
from faults.undo import UndoFile


def main(url: str, folder: str, run: str, foreign: str, seed: str, upstream: str) -> None:
    """Do so until killed."""
    draw = random.Random(seed)
    undo = UndoFile.create(Path(folder), run)
    print("go", flush=True)
    number = 0
    while True:
        number += 1
        open_: list[tuple[int, Undo]] = []
        own = OwnProxy(name=f"seawall-{run}-{number}", upstream=upstream, url=url)
        open_.append((undo.append(own.prepare()), own.prepare()))
        own.create()
        for part in range(draw.randint(1, 4)):
            proxy = draw.choice([own.name, own.name, foreign])
            mine = proxy == own.name
            fault: ToxicFault | DownFault
            if mine and draw.random() < 0.3:
                fault = DownFault(id=f"d{part}", target="gemini", proxy=proxy, url=url)
            else:
                fault = ToxicFault(
                    id=f"t{number}-{part}",
                    target="gemini",
                    run=run,
                    proxy=proxy,
                    url=url,
                    type="latency",
                    attributes={"latency": 5},
                    owns_proxy=mine,
                )
            open_.append((undo.append(fault.prepare()), fault.prepare()))
            fault.inject()
        while open_:
            index, record = open_.pop()
            registry.undo(record)
            undo.mark_done(index)


if __name__ == "__main__":
    main(*sys.argv[1:])
