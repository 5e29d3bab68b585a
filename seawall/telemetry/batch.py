"""
Spans on their way to a collector, which may be slow, silent or away: no request ever waits for it.

    a span ends ─▶ encoded ─▶ a queue with a bound ── when a batch is full, or after its delay ─▶ thread ─▶ exporter
                                └─ full: dropped                           not taken within its time: dropped ─┘

OpenTelemetry's own processor does not count what it drops, and its end can take half a minute. A span is encoded where
it ends: a thread that encodes many takes the interpreter away from requests for milliseconds at a time.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from seawall.journal.exchanges import Exchanges
from seawall.screen import complain
from seawall.telemetry.light import LightSpan
from seawall.telemetry.otlp import Collector, encoded_span
from seawall.telemetry.tally import Tally

__all__ = ["BatchExport"]

_TELL_AGAIN_S = 60.0


class BatchExport:
    """
    Hand ended spans to `collector` in batches, from a thread that begins with the first of them.

    `queue_max` spans wait at most, `batch_max` go at once, after `delay_s` at the latest. The end takes `end_s` at
    most, whatever the collector does. What happens to each span is counted in `tally`, and each batch told to
    `exchanges`, where a run wants to know.
    """

    def __init__(
        self,
        collector: Collector,
        tally: Tally,
        *,
        queue_max: int,
        batch_max: int,
        delay_s: float,
        end_s: float,
        exchanges: Exchanges | None = None,
    ) -> None:
        self._collector = collector
        self._tally = tally
        self._queue_max = queue_max
        self._batch_max = min(batch_max, queue_max)
        self._delay_s = delay_s
        self._exchanges = exchanges
        self._end_s = end_s
        self._queue: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None
        self._ending = False
        self._told_s = float("-inf")

    def take(self, span: LightSpan) -> None:
        """Take a span that has ended: a matter of a few microseconds."""
        queued = len(self._queue)
        if queued >= self._queue_max or self._ending:
            self._tally.add(dropped=1)
            return
        self._queue.append(encoded_span(span))
        if self._thread is None:
            self._begin()
        if queued + 1 >= self._batch_max and not self._awake.is_set():
            self._awake.set()

    def close(self) -> None:
        """Send what there is, within the time for it; what is left is dropped."""
        self._ending = True
        self._awake.set()
        if self._thread is not None:
            self._thread.join(self._end_s)
        left = 0
        while self._queue:
            self._queue.popleft()
            left += 1
        self._tally.add(dropped=left)

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None:
                # A daemon: a collector that hangs must not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._ending:
            self._awake.wait(self._delay_s)
            self._awake.clear()
            self._send()
        self._send()
        self._collector.close()

    def _send(self) -> None:
        end_s = None
        while self._queue:
            if self._ending:
                end_s = end_s or time.monotonic() + self._end_s
                if time.monotonic() > end_s:
                    return
            batch = [self._queue.popleft() for _ in range(min(self._batch_max, len(self._queue)))]
            start_ns = time.monotonic_ns()
            try:
                taken = self._collector.export(batch)
            except Exception:  # noqa: BLE001 - a broken collector must not end the thread
                taken = False
            if self._exchanges is not None:
                self._exchanges.tell(start_ns, ok=taken)
            if taken:
                self._tally.add(exported=len(batch))
            else:
                self._tally.add(dropped=len(batch))
                self._tell()

    def _tell(self) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= _TELL_AGAIN_S and not self._ending:
            self._told_s = now_s
            complain(
                "seawall: the trace collector does not take spans; they are dropped, requests are answered as ever"
            )
