"""
The admin port: who may change what the providers do.

    GET    /ping                              {"providers": [...]}
    GET    /behaviours/{provider}             the behaviours in force, in order of installation
    PUT    /behaviours/{provider}/{fault_id}  install one; the same id again replaces it in its place
    DELETE /behaviours/{provider}/{fault_id}  take it out; 404 when it is not there
    GET    /pings/last_fin                    {"gemini": ns, ...}: the latest FIN seen on a connection that had a ping
    GET    /pings/{provider}                  the last pings: id (`?id=` of the ping), arrival_ns, fin_ns

Every request carries `authorization: Bearer <token>`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

import msgspec

from seawall.emulators.connection import Connection
from seawall.emulators.parts import PartStation
from seawall.emulators.station import Station
from seawall.emulators.steps import Behaviour
from seawall.emulators.wire import HttpRequest, Reply, reply_json

__all__ = ["Admin"]

_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]{0,198}[!-~])?")


class Admin:
    """Serves the admin port for these stations; of `parts` only the pings."""

    def __init__(
        self, stations: Mapping[str, Station], token: str, parts: Mapping[str, PartStation] | None = None
    ) -> None:
        self._stations = stations
        self._pinged: Mapping[str, Station | PartStation] = {**stations, **(parts or {})}
        self._expected = f"Bearer {token}".encode()

    async def handle(self, request: HttpRequest, connection: Connection) -> None:
        """Answer one request."""
        await connection.reply(self._reply(request))

    def _reply(self, request: HttpRequest) -> Reply:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, self._expected):
            return _problem(401, "the token is missing or wrong")
        if request.too_large:
            return _problem(413, "the body is over 1 MiB")
        match request.method, request.path.strip("/").split("/"):
            case ("GET", ["ping" | "pings", *rest]):
                return self._seen(rest)
            case (method, ["behaviours", provider, *rest]) if provider in self._stations:
                return _behaviours(self._stations[provider], method, rest, request.body)
            case (_, ["behaviours", provider, *_]):
                return _problem(404, f"there is no provider {provider!r} here")
            case _:
                return _problem(404, f"there is no {request.method} {request.path}")

    def _seen(self, rest: list[str]) -> Reply:
        """Return who is here, or what was seen of the providers' pings."""
        match rest:
            case []:
                return reply_json(200, {"providers": sorted(self._stations)})
            case ["last_fin"]:
                return reply_json(200, {name: station.pings.last_fin_ns for name, station in self._stations.items()})
            case [name] if name in self._pinged:
                return reply_json(200, self._pinged[name].pings.all())
            case _:
                return _problem(404, f"there is no provider {'/'.join(rest)!r} here")


def _behaviours(station: Station, method: str, rest: list[str], body: bytes) -> Reply:
    match method, rest:
        case ("GET", []):
            return reply_json(200, list(station.behaviours.values()))
        case ("PUT", [fault_id]):
            try:
                behaviour = msgspec.json.decode(body, type=Behaviour)
            except msgspec.DecodeError as error:
                return _problem(400, f"the body is no behaviour: {error}")
            problem = _violation(behaviour, fault_id)
            if problem is not None:
                return _problem(400, problem)
            station.behaviours[fault_id] = behaviour
            return reply_json(200, behaviour)
        case ("DELETE", [fault_id]):
            gone = station.behaviours.pop(fault_id, None)
            return _problem(404, f"there is no behaviour {fault_id!r}") if gone is None else reply_json(200, gone)
        case _:
            return _problem(405, f"{method} is not for this path")


def _violation(behaviour: Behaviour, fault_id: str) -> str | None:
    if behaviour.fault_id != fault_id:
        return f"fault_id {behaviour.fault_id!r} is not the path's {fault_id!r}"
    if not 0 <= behaviour.injection_rate <= 1:
        return f"injection_rate {behaviour.injection_rate} is not from 0 to 1"
    if behaviour.status is not None and not 400 <= behaviour.status <= 599:
        return f"status {behaviour.status} is not from 400 to 599"
    for name in ("retry_after_s", "first_token_s", "cut_after_chunks", "dribble_s"):
        value = getattr(behaviour, name)
        if value is not None and value < 0:
            return f"{name} {value} is negative"
    if behaviour.content_type is not None and not _HEADER_VALUE.fullmatch(behaviour.content_type):
        return f"content_type {behaviour.content_type!r} is nothing that a header can carry"
    return None


def _problem(status: int, message: str) -> Reply:
    return reply_json(status, {"error": message})
