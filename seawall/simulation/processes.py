"""What may be killed, stopped and restarted in a simulation: gateway workers, Redis, Toxiproxy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from faults.process import Action
from seawall.journal.events import JournalEvent, Process
from seawall.simulation.network import Network
from seawall.simulation.redis import SimRedis
from seawall.simulation.workers import BOOT_S, SimWorker

__all__ = ["GatewayProcess", "RedisProcess", "SimProcess", "ToxiproxyProcess"]

_BOOT_S = 0.1
"""From the start of Redis or Toxiproxy until it serves."""


class SimProcess(Protocol):
    """A process that a fault may strike."""

    @property
    def is_running(self) -> bool: ...
    @property
    def is_stopped(self) -> bool: ...
    @property
    def pid(self) -> int: ...
    @property
    def is_shared(self) -> bool:
        """Whether others serve at the same address."""
        ...

    @property
    def ended(self) -> tuple[int, int] | None:
        """The last process that a fault has ended, with its exit code."""
        ...

    @property
    def sign(self) -> str:
        """What it answers when it serves."""
        ...

    def strike(self, action: Action) -> None:
        """Do it harm."""
        ...

    def heal(self) -> None:
        """Have it run again, continued or begun anew; it serves after a moment."""
        ...


class GatewayProcess:
    """A worker of the gateway."""

    sign = "/readyz 200"

    def __init__(self, worker: SimWorker, *, shared: bool) -> None:
        self.worker = worker
        self.is_shared = shared
        self.ended: tuple[int, int] | None = None
        self._booting = False

    @property
    def is_running(self) -> bool:
        """See SimProcess."""
        return not self.worker.is_dead

    @property
    def is_stopped(self) -> bool:
        """See SimProcess."""
        return self.worker.is_stopped

    @property
    def pid(self) -> int:
        """See SimProcess."""
        return self.worker.pid

    def strike(self, action: Action) -> None:
        """See SimProcess."""
        worker, self.ended = self.worker, None
        if action == "stop":
            worker.stop()
        elif action == "kill":
            worker.kill()
            self.ended = (worker.pid, -9)
        else:
            worker.terminate(self._exited)

    def heal(self) -> None:
        """See SimProcess."""
        if not self.worker.is_dead:
            if self.worker.is_stopped:
                self.worker.go_on()
            elif not self.worker.accepts:  # it had all the time of the fault to end in order
                self.worker.kill()
                self._boot()
        else:
            self._boot()

    def _exited(self) -> None:
        self.ended = (self.worker.pid, 0)
        self._boot()

    def _boot(self) -> None:
        if self._booting:
            return
        self._booting = True

        def start() -> None:
            self._booting = False
            self.worker.start()

        network = self.worker.network
        network.loop.call_later(BOOT_S, start, context=network.context)


class _Part:
    """Redis or Toxiproxy: one process, told of in the journal."""

    name = ""
    sign = ""
    is_shared = False

    def __init__(self, network: Network, pids: Callable[[], int], tell: Callable[[JournalEvent], None]) -> None:
        self.network = network
        self.pid = pids()
        self.is_running = True
        self.is_stopped = False
        self.ended: tuple[int, int] | None = None
        self._pids = pids
        self._tell = tell
        self._booting = False

    def strike(self, action: Action) -> None:
        """See SimProcess."""
        self.ended = None
        if action == "stop":
            self.is_stopped = True
            self.hold()
            return
        code = -9 if action == "kill" else 0
        self.is_running, self.ended = False, (self.pid, code)
        self.end()
        self._say("exit", code)
        if action == "restart":
            self._boot()

    def heal(self) -> None:
        """See SimProcess."""
        if self.is_stopped:
            self.is_stopped = False
            self.go_on()
        elif not self.is_running:
            self._boot()

    def hold(self) -> None:
        """Stand still."""

    def go_on(self) -> None:
        """Serve, again or anew."""

    def end(self) -> None:
        """Be gone."""

    def _boot(self) -> None:
        if self._booting:
            return
        self._booting = True

        def start() -> None:
            self._booting = False
            self.pid, self.is_running = self._pids(), True
            self._say("start")
            self.go_on()
            self._say("ready")

        self.network.loop.call_later(_BOOT_S, start, context=self.network.context)

    def _say(self, action: Literal["start", "ready", "exit"], code: int | None = None) -> None:
        self._tell(Process(name=self.name, action=action, pid=self.pid, code=code))


class RedisProcess(_Part):
    """Redis."""

    name = "redis"
    sign = "PONG"

    def __init__(
        self, redis: SimRedis, network: Network, pids: Callable[[], int], tell: Callable[[JournalEvent], None]
    ) -> None:
        super().__init__(network, pids, tell)
        self._redis = redis

    def hold(self) -> None:
        """See _Part."""
        self._redis.stop()

    def go_on(self) -> None:
        """See _Part."""
        self.network.proxies["redis"].serves = True
        self._redis.go_on()

    def end(self) -> None:
        """See _Part."""
        proxy = self.network.proxies["redis"]
        proxy.serves = False
        proxy.sever()
        self._redis.forget()


class ToxiproxyProcess(_Part):
    """Toxiproxy: all the network that there is."""

    name = "toxiproxy"
    sign = "/proxies 200"

    def hold(self) -> None:
        """See _Part."""
        self.network.stop()

    def go_on(self) -> None:
        """See _Part."""
        self.network.go_on()

    def end(self) -> None:
        """See _Part."""
        self.network.kill()
