"""
The process that owns a cluster which outlives the command: `python -m seawall.cluster.keeper --state FOLDER …`.

Started by `seawall cluster up` in a session of its own. While the cluster starts, it tells what happens as lines of
JSON on standard output: `{"told": …}`, then `{"ready": SECONDS}` or `{"failed": …}`. It ends on SIGTERM and SIGINT,
and takes the cluster with it; when it is killed, its children end by themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from seawall.cluster.components import HpaTimings
from seawall.cluster.errors import ClusterError
from seawall.cluster.local import LocalCluster

__all__ = ["main"]

_FAILED = 3


def main(arguments: list[str] | None = None) -> int:
    """Own a cluster until a signal comes or one of its parts ends: 0, or 3 when it did not come up or did not stay."""
    parser = argparse.ArgumentParser(prog="python -m seawall.cluster.keeper")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--sync-period", type=float, required=True)
    parser.add_argument("--downscale-stabilization", type=float, required=True)
    parser.add_argument("--nodes", type=int, required=True, help="0: no kubelet either")
    options = parser.parse_args(arguments)
    timings = HpaTimings(sync_period_s=options.sync_period, downscale_stabilization_s=options.downscale_stabilization)
    kubelet = ("--nodes", str(options.nodes)) if options.nodes else None
    return asyncio.run(
        _keep(LocalCluster(options.state, timings=timings, kubelet=kubelet, tell=lambda line: _say({"told": line})))
    )


async def _keep(cluster: LocalCluster) -> int:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - we are in one
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        async with cluster:
            _say({"ready": cluster.seconds})
            # Whoever started us may be gone for long.
            with contextlib.suppress(OSError):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, sys.stdout.fileno())
                os.close(nothing)
            await _until_broken(cluster)
            await cluster.stop(keep=True)
            return _FAILED
    except asyncio.CancelledError:
        return 0
    except (ClusterError, OSError) as error:
        _say({"failed": str(error)})
        return _FAILED


async def _until_broken(cluster: LocalCluster) -> None:
    """Wait until a part has ended by itself: then the cluster is none any more, and its logs say why."""
    ends = [asyncio.create_task(child.wait()) for child in cluster.children.values()]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()


def _say(what: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
