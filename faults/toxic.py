"""The fault `toxic`: one Toxiproxy toxic, by Toxiproxy's own names of types and attributes."""

from __future__ import annotations

import msgspec

from faults.base import FaultError, Undo
from faults.hung import PATIENCE, remove_toxic
from faults.registry import register
from faults.toxiproxy import Stream, Toxiproxy, ToxiproxyError

__all__ = ["ATTRIBUTES", "ToxicFault", "give_up_proxies"]

ATTRIBUTES = {
    "bandwidth": {"rate": "KB/s"},
    "latency": {"latency": "ms", "jitter": "ms"},
    "limit_data": {"bytes": "B"},
    "reset_peer": {"timeout": "ms"},
    "slicer": {"average_size": "B", "size_variation": "B", "delay": "µs"},
    "slow_close": {"delay": "ms"},
    "timeout": {"timeout": "ms"},
}
"""The toxics, and the unit of each of their attributes."""

# By URL, proxy and name. Only a run that lives has use for its proxies; a recovery has none, and a deadline.
_injected_here: set[tuple[str, str, str]] = set()


class ToxicFault(msgspec.Struct, frozen=True, kw_only=True):
    """
    A toxic on `proxy` of the Toxiproxy at `url`.

    `toxicity` is the share of *connections* it takes. `owns_proxy=False` says that the proxy is somebody else's, which
    is then never deleted, not even when Toxiproxy hangs on removing the toxic. Raises FaultError with every violation.
    """

    id: str
    target: str
    run: str
    proxy: str
    url: str
    type: str
    stream: Stream = "downstream"
    toxicity: float = 1.0
    attributes: dict[str, int] = {}
    allow_remote: bool = False
    owns_proxy: bool = True
    upstream: str | None = None
    """Where the proxy leads to; when it is given, a proxy of the name that leads elsewhere is left alone."""

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise FaultError(f"fault {self.id}: {'; '.join(problems)}")

    @property
    def toxic(self) -> str:
        """The toxic's name on the server. It carries the run's id, so that an undo never hits a namesake."""
        return f"seawall-{self.run}-{self.id}"

    def describe(self) -> str:
        """Return the fault in a few words, such as `toxic timeout (timeout 0 ms, downstream)`."""
        words = [f"{name} {value} {ATTRIBUTES[self.type][name]}" for name, value in sorted(self.attributes.items())]
        words.append(self.stream)
        if self.toxicity < 1:
            words.append(f"{self.toxicity:.0%} of connections")
        return f"toxic {self.type} ({', '.join(words)})"

    def prepare(self) -> Undo:
        """Return how to undo it. Changes nothing."""
        return Undo(
            kind="toxic",
            arguments={
                "url": self.url,
                "proxy": self.proxy,
                "toxic": self.toxic,
                "owns_proxy": self.owns_proxy,
                "allow_remote": self.allow_remote,
            },
        )

    def inject(self) -> None:
        """Put it in force and read it back. Raises ToxiproxyError."""
        server = Toxiproxy(self.url, allow_remote=self.allow_remote)
        if self.upstream is not None:
            server.require_upstream(self.proxy, self.upstream)
        _injected_here.add((self.url, self.proxy, self.toxic))
        server.add_toxic(self.proxy, self.toxic, self.type, self.stream, self.toxicity, self.attributes)


def give_up_proxies() -> None:
    """Say that the run is being broken off: from now on no removal of a toxic waits for the sake of its proxy."""
    _injected_here.clear()


def _problems(fault: ToxicFault) -> list[str]:
    known = ATTRIBUTES.get(fault.type)
    if known is None:
        return [f"there is no toxic {fault.type!r}; there are {', '.join(ATTRIBUTES)}"]
    values = fault.attributes
    problems = [
        f"toxic {fault.type} has no attribute {name}; it has {', '.join(known)}" for name in set(values) - set(known)
    ]
    problems += [f"{name} is {value!r}; it is a whole number from 0 up" for name, value in values.items() if value < 0]
    if fault.stream not in {"downstream", "upstream"}:
        problems.append(f"stream is {fault.stream!r}; it is downstream or upstream")
    if not 0 < fault.toxicity <= 1:
        problems.append(f"toxicity is {fault.toxicity}; it is a share above 0, at most 1")
    if fault.type == "bandwidth" and values.get("rate", 0) < 1:
        # At rate 0 Toxiproxy spins and sends nothing for ever.
        problems.append("bandwidth needs a rate of at least 1 KB/s; to pass nothing, use timeout")
    if fault.type == "slicer" and values.get("average_size", 0) < 1:
        # Toxiproxy halves a chunk until it is small enough: never, at 0, which overflows its stack and ends the server.
        problems.append("slicer needs an average_size of at least 1 byte")
    elif fault.type == "slicer" and values.get("size_variation", 0) >= values["average_size"]:
        problems.append("slicer needs a size_variation below its average_size")
    return problems


def _undo(record: Undo, *, deadline_s: float) -> str | None:
    arguments = record.arguments
    server = Toxiproxy.of(record, deadline_s=deadline_s)
    try:
        owned = bool(arguments.get("owns_proxy", True))
        place = (arguments["url"], arguments["proxy"], arguments["toxic"])
        patience = PATIENCE if place in _injected_here else 0.0
        return remove_toxic(
            server, place[1], place[2], owned=owned, patience=patience, is_needed=lambda: place in _injected_here
        )
    except ToxiproxyError as error:
        if not error.gone:
            raise
    return None


def _verify(record: Undo, *, deadline_s: float) -> bool:
    try:
        return (
            Toxiproxy.of(record, deadline_s=deadline_s).toxic(record.arguments["proxy"], record.arguments["toxic"])
            is None
        )
    except ToxiproxyError as error:
        if error.gone:
            return True
        raise


register("toxic", undo=_undo, verify=_verify)
