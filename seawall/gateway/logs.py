"""
The gateway's log on standard error: lines of text, or of JSON by structlog (LOG_FORMAT), without secrets.

    what happened ─▶ a queue with a bound ─▶ thread ─▶ redaction ─▶ a line
                       └─ full: counted, and told with the next line

A request that goes well costs nothing unless LOG_REQUESTS=all; and no request waits for whoever reads the log.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from router.errors import ConfigurationError
from router.events import Attempt, BreakerChange, Event, LatencyChange, Skip, Spend
from seawall.gateway.config import GatewaySettings
from seawall.gateway.redaction import Redaction
from seawall.screen import complaints_to
from seawall.telemetry.recent import RECENT

__all__ = ["LEVELS", "Log", "logged"]

LEVELS = ("debug", "info", "warning", "error", "off")
BURST_MAX = 20
"""Lines of one kind (event, provider, outcome) in one second; the rest is counted in the next one's `suppressed`."""
_QUEUE_MAX = 4096
_KINDS_MAX = 1024
_END_S = 2.0
_NEARLY = 0.9
"""As the alert has it."""

_Line = tuple[float, str, str, dict[str, Any]]
Write = Callable[[float, str, str, Mapping[str, Any]], None]


class Log:
    """
    Takes what happens, and hands it to `write` from a thread that begins with the first line.

    `level` is the least that is written of events; `requests` (all, errors, none) alone says of which requests' ends.
    """

    def __init__(self, write: Write, *, level: str = "warning", requests: str = "errors") -> None:
        self._write = write
        self._least = LEVELS.index(level)
        self._tells_debug = level == "debug"
        self.tells_all = requests == "all" and level != "off"
        """Whether requests that went well are told of too."""
        self.tells_errors = requests != "none" and level != "off"
        self._queue: queue.Queue[_Line | None] = queue.Queue(_QUEUE_MAX)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str, str], list[int]] = {}
        self._lost = 0
        self._is_near = False

    def tells(self, level: str) -> bool:
        """Say whether events of a level are written."""
        return self._least <= LEVELS.index(level) and self._least < LEVELS.index("off")

    def event(self, level: str, event: str, **fields: Any) -> None:
        """Log an event, if its level is asked for; fields that are None are left out."""
        if not self.tells(level):
            return
        suppressed = self._suppressed(event, str(fields.get("provider")), str(fields.get("outcome")))
        if suppressed is not None:
            self._put(level, event, fields | {"suppressed": suppressed or None})

    def said(self, text: str) -> None:
        """Log a complaint, whatever the level."""
        self._put("warning", text, {"complaint": True})

    def request(self, request_id: str, outcome: str, *, provider: str, begun_s: float, traceparent: bytes) -> None:
        """Log the end of a request that is to be told of."""
        level = "info" if outcome == "ok" else "warning"
        suppressed = 0 if self.tells_all else self._suppressed("request", provider, outcome)
        if suppressed is None:
            return
        fields: dict[str, Any] = {
            "request_id": request_id,
            "trace_id": RECENT.of(request_id) or traceparent[3:35].decode("latin-1") or None,
            "provider": provider,
            "outcome": outcome,
            "duration_ms": round((time.monotonic() - begun_s) * 1000, 1),
            "suppressed": suppressed or None,
        }
        self._put(level, "request", fields)

    def take(self, event: Event) -> None:
        """Log what the router reports, where it is worth a line."""
        # What goes well passes here on every request: it is let go before anything is looked up.
        if isinstance(event, Spend):
            if self._is_near or event.total_micro_usd > _NEARLY * event.limit_micro_usd:
                self._spend(event)
        elif isinstance(event, Attempt):
            if event.outcome == "failed" or event.reason == "failover" or self._tells_debug:
                self._attempt(event)
        elif isinstance(event, BreakerChange):
            told = "breaker opened" if event.to == "open" else "breaker changed"
            level = "warning" if event.to == "open" else "info"
            self.event(level, told, provider=event.provider, outcome=event.to, cause=event.cause)
        elif isinstance(event, LatencyChange):
            level = "warning" if event.to == "slow" else "info"
            self.event(level, "latency changed", provider=event.provider, outcome=event.to, cause=event.message)
        elif self.tells("debug"):
            self._of_request("debug", "skip", event, outcome=event.reason)

    def close(self) -> None:
        """Write what there is; takes two seconds at most."""
        thread = self._thread
        if thread is not None:
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=_END_S / 2)
            thread.join(_END_S / 2)
            self._thread = None

    def _attempt(self, event: Attempt) -> None:
        if event.outcome == "failed":
            error, status = event.error, event.status
            self._of_request("warning", "attempt failed", event, outcome=event.outcome, error=error, status=status)
        elif event.reason == "failover":
            self._of_request("warning", "failover", event, outcome=event.outcome, attempt=event.n)
        else:
            self._of_request("debug", "attempt", event, outcome=event.outcome, attempt=event.n)

    def _spend(self, event: Spend) -> None:
        if event.action != "reserve" or event.source == "unanswered" or event.limit_micro_usd <= 0:
            return
        is_near = event.total_micro_usd > _NEARLY * event.limit_micro_usd
        if is_near and not self._is_near:
            spent, limit = event.total_micro_usd / 1e6, event.limit_micro_usd / 1e6
            self._of_request("warning", "budget nearly spent", event, total_usd=spent, limit_usd=limit)
        self._is_near = is_near

    def _of_request(self, level: str, told: str, event: Attempt | Spend | Skip, **fields: Any) -> None:
        if self.tells(level):
            request_id = event.request_id
            trace_id = RECENT.of(request_id)
            self.event(level, told, request_id=request_id, trace_id=trace_id, provider=event.provider, **fields)

    def _suppressed(self, *kind: str) -> int | None:
        """Return how many lines of this kind were left out before this one, None when this one is to be."""
        now_s = int(time.monotonic())
        if len(self._seen) >= _KINDS_MAX:
            self._seen.clear()
        seen = self._seen.setdefault((kind[0], kind[1], kind[2]), [now_s, 0, 0])
        if seen[0] != now_s:
            seen[0], seen[1] = now_s, 0
        seen[1] += 1
        if seen[1] > BURST_MAX:
            seen[2] += 1
            return None
        suppressed, seen[2] = seen[2], 0
        return suppressed

    def _put(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    # A daemon: a reader that hangs must not keep the process from ending.
                    self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                    self._thread.start()
        try:
            self._queue.put_nowait((time.time(), level, event, fields))
        except queue.Full:
            self._lost += 1

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            at_s, level, event, fields = line
            if self._lost:
                lost, self._lost = self._lost, 0
                fields = fields | {"lost": lost}
            # Whoever read the log has gone, or cannot take this line: the gateway goes on.
            with contextlib.suppress(Exception):
                self._write(at_s, level, event, {key: value for key, value in fields.items() if value is not None})


class _Records(logging.Handler):
    """What libraries tell the standard library's logging, in this log."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        try:
            exception = logging.Formatter().formatException(record.exc_info) if record.exc_info else None
            level = "error" if record.levelno >= logging.ERROR else "warning"
            self._log._put(level, record.getMessage(), {"logger": record.name, "exception": exception})  # pyright: ignore[reportPrivateUsage]
        except Exception:  # noqa: BLE001 - as every handler of the standard library
            self.handleError(record)


@contextlib.contextmanager
def logged(gateway: GatewaySettings, redaction: Redaction) -> Generator[Log]:
    """
    Give the log that the settings ask for; until the end it takes complaints and the standard library's records too.

    Raises ConfigurationError when a package is missing.
    """
    write = _as_json(redaction) if gateway.log_format == "json" else _as_text(redaction)
    log = Log(write, level=gateway.log_level, requests=gateway.log_requests)
    handler = _Records(log)
    logging.getLogger().addHandler(handler)
    before = complaints_to(log.said)
    RECENT.is_kept = gateway.log_level != "off"
    try:
        yield log
    finally:
        RECENT.is_kept = False
        complaints_to(before)
        logging.getLogger().removeHandler(handler)
        log.close()


def _as_json(redaction: Redaction) -> Write:
    try:
        import structlog  # noqa: PLC0415 - needs a package that most need not have
    except ImportError:
        raise ConfigurationError("LOG_FORMAT=json needs the package structlog: pip install 'seawall[logs]'") from None

    def encoded(event: Any, **_options: Any) -> str:
        return msgspec.json.encode(event).decode()

    logger: Any = structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[redaction, structlog.processors.JSONRenderer(encoded)],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )

    def write(at_s: float, level: str, event: str, fields: Mapping[str, Any]) -> None:
        told = {key: value for key, value in fields.items() if key != "complaint"}
        getattr(logger, level)(event.removeprefix("seawall serve: "), time=_time(at_s), level=level, **told)

    return write


def _as_text(redaction: Redaction) -> Write:
    def write(at_s: float, level: str, event: str, fields: Mapping[str, Any]) -> None:
        if "complaint" in fields:
            line = redaction.text(event)
        else:
            told = redaction(None, level, dict(fields))
            words = [f"{key}={value}" for key, value in told.items() if key != "exception"]
            line = " ".join([_time(at_s), level.upper(), redaction.text(event), *words]).replace("\n", "\\n")
            line += f"\n{told['exception']}" if "exception" in told else ""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    return write


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
