"""
A run on Grafana's dashboards: each fault a region from its injection to its healing, and the verdict a mark.

They are annotations with the tag `seawall`, which `k8s/observability/dashboard.json` shows. Grafana that is away, or
says no, never changes what a run comes to: it is told once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from seawall.journal.view import Journal
from seawall.verdicts.model import RunVerdict

__all__ = ["Grafana", "GrafanaError", "marks_of"]

_TAG = "seawall"
_TEXT_MAX = 1000
_CALL_S = 5.0
_ALL_S = 20.0


class GrafanaError(Exception):
    """Grafana did not take the annotations; the message has no secret in it."""


class Grafana:
    """The Grafana at `url`, with the token of a service account (empty: none). Raises GrafanaError for no URL."""

    def __init__(self, url: str, token: str = "") -> None:
        try:
            parts = urlsplit(url)
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
            place = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        except ValueError:
            is_url, place = False, ""
        if not is_url:
            raise GrafanaError("the address of Grafana must be like http://localhost:3000")
        if not token.isascii() or not token.isprintable():
            raise GrafanaError("GRAFANA_TOKEN has a character that no token has")
        self._url = f"{url.rstrip('/')}/api/annotations"
        self._place = place
        """Without the password that an address may hold."""
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def post(self, marks: Iterable[Mapping[str, Any]]) -> int:
        """Post annotations and return their number; takes 20 s at most and a little. Raises GrafanaError."""
        end_s = time.monotonic() + _ALL_S
        count = 0
        try:
            with httpx.Client(timeout=_CALL_S, headers=self._headers) as client:
                for mark in marks:
                    if time.monotonic() > end_s:
                        raise GrafanaError(f"{self._place} took more than {_ALL_S:g} s; {count} are there")
                    answer = client.post(self._url, json=dict(mark))
                    if answer.status_code != 200:
                        hint = "; is GRAFANA_TOKEN right?" if answer.status_code in (401, 403) else ""
                        raise GrafanaError(f"{self._place} answered {answer.status_code}{hint}")
                    count += 1
        except httpx.HTTPError as error:
            raise GrafanaError(f"{self._place} cannot be reached ({type(error).__name__})") from None
        return count


def marks_of(journal: Journal, verdict: RunVerdict) -> Sequence[dict[str, Any]]:
    """Return the annotations of a run as Grafana's HTTP API takes them, times in milliseconds of the epoch. Pure."""
    offset_s = _offset_s(journal)
    run = journal.header.run if journal.header else "unknown"
    name = journal.header.scenario_name if journal.header else "unknown"

    def at_ms(mono_ns: int) -> int:
        return round((offset_s + mono_ns * 1e-9) * 1000)

    marks: list[dict[str, Any]] = []
    for fault in journal.faults.values():
        for each in fault.intervals:
            if each.injected_ns is None:
                continue
            # One that was never healed lasts until the end of what is known.
            until_ns = journal.last_ns if each.healed_ns is None else each.healed_ns
            text = f"{fault.id}: {fault.description} ({fault.target})" + ("" if each.healed_ns else ", not seen healed")
            marks.append(
                {
                    "time": at_ms(each.injected_ns),
                    "timeEnd": at_ms(until_ns),
                    "tags": [_TAG, run, fault.id],
                    "text": text[:_TEXT_MAX],
                }
            )
    marks.append(
        {
            "time": at_ms(journal.t0_ns),
            "timeEnd": at_ms(journal.load_end_ns),
            "tags": [_TAG, run, "verdict", str(verdict.verdict)],
            "text": f"{name}: {verdict.verdict}: {verdict.why}"[:_TEXT_MAX],
        }
    )
    return sorted(marks, key=lambda mark: (mark["time"], mark["text"]))


def _offset_s(journal: Journal) -> float:
    """Return what is to be added to the journal's monotonic seconds to get those of the epoch."""
    for events in (journal.fault_events, journal.notes, journal.processes, journal.breakers):
        for event in events:
            return event.wall - event.mono_ns * 1e-9
    return 0.0
