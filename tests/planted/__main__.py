"""
Hunt all planted bugs and print the table: `python tests/planted [NAME ...] [--seeds 3] [--budget 60] [--jobs 1]`.

With `--wire [FOLDER]` finds are played on the wire instead, the bug in the real gateway, and beside it without.
Exit code 1 when a bug was missed with any of its seeds, or a find does not fail on the wire.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hunting import Hunted, hunt, seeds
from planting import BUGS, bug
from wire import FINDS, bug_of, play_on_the_wire


def main() -> int:
    """Hunt, print and count."""
    parser = argparse.ArgumentParser(prog="planted", description="hunt planted bugs by the product's own hunt")
    parser.add_argument("names", nargs="*", default=[], metavar="NAME", help=f"of {', '.join(BUGS)}; default: all")
    parser.add_argument("--seeds", type=int, default=3, help="how many hunts a bug")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds a hunt")
    parser.add_argument("--jobs", type=int, default=1, help="hunts at a time; one a core")
    parser.add_argument("--keep", type=Path, help="a folder for the shrunk schedules")
    parser.add_argument(
        "--wire", type=Path, nargs="?", const=FINDS, metavar="FOLDER", help="play the finds of a folder on the wire"
    )
    options = parser.parse_args()
    if options.wire is not None:
        return _wire(sorted(options.wire.glob("*.yaml")), {bug(name).name for name in options.names or BUGS})
    from seawall.version import commit as commit_of

    commit = commit_of() or "unknown"
    sys.stdout.write(f"seeds from commit {commit}, {options.budget:g} s a hunt\n\n")
    sys.stdout.write("| bug | seed | caught by | schedules | faults | requests | seconds |\n")
    sys.stdout.write("| --- | --- | --- | --- | --- | --- | --- |\n")
    names = [bug(name).name for name in options.names or BUGS]
    tasks = [(name, seed) for name in names for seed in seeds(name, commit, options.seeds)]
    found: list[Hunted] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for one in pool.map(lambda task: hunt(task[0], task[1], options.budget), tasks):
            found.append(one)
            _tell(one)
            if options.keep is not None and one.text:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{one.name}-{one.seed}.yaml").write_text(one.text, encoding="utf-8")
    return _sum(found)


def _wire(finds: list[Path], wanted: set[str]) -> int:
    sys.stdout.write("| bug | on the wire | fails | without the bug |\n| --- | --- | --- | --- |\n")
    failed: set[str] = set()
    played: set[str] = set()
    for path in finds:
        name = bug_of(path)
        if name not in wanted:
            continue
        one, without = play_on_the_wire(path, name), play_on_the_wire(path, None)
        played.add(name)
        failed |= {name} if one.verdict == "fail" and without.verdict != "fail" else set()
        sys.stdout.write(f"| `{name}` | {one.verdict} | {', '.join(one.broken) or '–'} | {without.verdict} |\n")
        sys.stdout.flush()
    sys.stdout.write(f"\n{len(failed)} of {len(played)} bugs are seen on the wire\n")
    return 1 if played - failed else 0


def _tell(one: Hunted) -> None:
    told = one.check or (f"**{one.evidence}**" if one.evidence else f"**missed** in {one.schedules}")
    figures = f"{one.found_after} | {one.faults} | {one.requests}" if one.check else "– | – | –"
    sys.stdout.write(f"| {one.name} | {one.seed} | {told} | {figures} | {one.elapsed_s:.0f} |\n")
    sys.stdout.flush()


def _sum(found: list[Hunted]) -> int:
    caught = [one for one in found if one.check]
    missed = sorted({one.name for one in found if not one.check})
    sys.stdout.write(f"\n{len(caught)} of {len(found)} hunts caught their bug")
    if caught:
        faults, requests = [one.faults for one in caught], [one.requests for one in caught]
        sys.stdout.write(
            f"; shrunk to at most {max(faults)} faults (median {statistics.median(faults):g}) and "
            f"{max(requests)} requests (median {statistics.median(requests):g})"
        )
    sys.stdout.write(f"; missed at least once: {', '.join(missed) or 'none'}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
