"""`python -m seawall.cluster.kubelet --state FOLDER`: a kubelet for the local cluster in that folder."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence

from router.errors import SeawallError
from seawall.cluster.kubelet.kubelet import running
from seawall.cluster.kubelet.options import Options, parse_options

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; one line of JSON on standard output says when it is ready. Returns the exit code."""
    options = parse_options(argv)
    try:
        asyncio.run(_serve(options))
    except* (SeawallError, OSError) as errors:
        sys.stderr.writelines(f"kubelet: {error}\n" for error in _each(errors))
        code = 3
    else:
        code = 0
    return code


def _each(errors: BaseExceptionGroup[Exception]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _each(error)
        else:
            yield error


async def _serve(options: Options) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with running(options) as kubelet:
        ready = {"pid": os.getpid(), "nodes": options.node_names, "metrics_port": kubelet.metrics_port}
        print(json.dumps(ready), flush=True)
        waits = [asyncio.ensure_future(each.wait()) for each in (stopping, kubelet.ended)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


if __name__ == "__main__":
    raise SystemExit(main())
