"""
One container of a pod: a process, started, probed, started again, and ended as a real kubelet does it.

    waiting ──start──▶ running ──started──▶ ready ⇄ unready
       ▲                  └────────exit─────────┘
       └──restart policy, after CrashLoopBackOff──┘        ──else──▶ terminated
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from seawall.cluster.client import ApiError
from seawall.cluster.kubelet.addresses import PodAddress
from seawall.cluster.kubelet.backoff import Backoff
from seawall.cluster.kubelet.checks import check
from seawall.cluster.kubelet.environment import MissingReference
from seawall.cluster.kubelet.manifest import Object, part
from seawall.cluster.kubelet.options import command_of
from seawall.cluster.kubelet.probes import Kind, ProbeSpec, ProbeState, Unsupported, action_of, probe_specs
from seawall.cluster.kubelet.recorder import timestamp
from seawall.cluster.kubelet.runtime import CommandLine, Runtime
from seawall.cluster.kubelet.status import ContainerView, state_running, state_terminated, state_waiting
from seawall.cluster.kubelet.usage import Usage, UsageWindow, tree_use
from seawall.journal.events import Pod as PodEvent
from seawall.processes import Child, ProcessFailed

__all__ = ["Container"]

_SHORTEST_GRACE_S = 2.0
"""What SIGTERM is given at least, whatever the grace: `minimumGracePeriodInSeconds` of a real kubelet."""
_NICENESS = 10
"""A pod's processes go behind the load generator, the probes and the control plane, which share the machine's cores."""
_HOOK_GRACE_S = 1.0
"""What a preStop hook is given at least."""
_RETRY_S = 1.0
_START_FAILED = 128


class Container:
    """
    One container. `run` is its whole life; `end` ends it, and may be called again with less grace.

    `changed` is called when `view` is another. `policy` is the restart policy that holds for it.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        pod: Callable[[], Object],
        address: PodAddress,
        runtime: Runtime,
        *,
        policy: str,
        changed: Callable[[], None],
        former: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = str(spec["name"])
        self.view = ContainerView(
            name=self.name, image=str(spec.get("image") or ""), state=state_waiting("ContainerCreating")
        )
        if former and (former.get("containerID") or former.get("restartCount")):
            self._take_over(former)
        self._spec = spec
        self._pod = pod
        self._address = address
        self._runtime = runtime
        self._policy = policy
        self._changed = changed
        self._child: Child | None = None
        self._window = UsageWindow(runtime.options.cpu_window_s)
        self._line: CommandLine | None = None
        self._numbers = itertools.count(1)
        self._begun = bool(self.view.last_state)
        self._closing = asyncio.Event()
        self._hurry = asyncio.Event()
        self._deadline = 0.0

    @property
    def usage(self) -> Usage | None:
        """What its process uses; None while too little is known."""
        return self._window.usage() if self._child is not None else None

    def sample(self) -> None:
        """Take a sample of its process's use."""
        if self._child is not None and self._child.is_running:
            use = tree_use(self._child.pid)
            if use is not None:
                self._window.add(time.monotonic(), time.time(), use)

    async def run(self) -> None:
        """Run it, again and again as its policy says, until it has ended for good or `end` was called."""
        backoff = Backoff(self._runtime.options.backoff_scale)
        while not self._closing.is_set():
            code = await self._once()
            if code is None:  # it never came to run
                await self._pause(_RETRY_S)
                continue
            if self._closing.is_set() or self._policy == "Never" or (self._policy == "OnFailure" and code == 0):
                return
            delay = backoff.delay_s(time.monotonic())
            if delay:
                pod = self._pod()
                message = f"back-off {delay:g}s restarting failed container={self.name} pod={pod['metadata']['name']}"
                self._show(state=state_waiting("CrashLoopBackOff", message), last_state=self.view.state)
                self._tell("BackOff", f"Back-off restarting failed container {self.name}", warning=True)
                await self._pause(delay)

    async def end(self, grace_s: float) -> None:
        """
        End it: preStop, SIGTERM, and SIGKILL when the grace is over. Returns when it has ended.

        Called again while it does so, it shortens what is left. At grace 0 it still gives SIGTERM two seconds, as a
        real kubelet does, unless the options say `at-once`.
        """
        limit = time.monotonic() + grace_s
        self._deadline = min(self._deadline, limit) if self._closing.is_set() else limit
        first = not self._closing.is_set()
        self._closing.set()
        self._hurry.set()
        child = self._child
        if child is None:
            return
        if grace_s <= 0 and self._runtime.kills_at_once:
            child.kill()
        elif first:
            self._tell("Killing", f"Stopping container {self.name}")
            await self._wind_down(child, lambda: self._deadline)
        await child.exited.wait()

    async def _once(self) -> int | None:
        """Start its process and stay with it to its end; return the exit code, None when it could not be started."""
        try:
            self._line = await self._runtime.command_line(self._pod(), self._spec, self._address)
            specs = probe_specs(self._spec)
        except (MissingReference, ApiError) as error:
            self._refuse("CreateContainerConfigError", error)
            return None
        except (Unsupported, OSError) as error:
            self._refuse("CreateContainerError", error)
            return None
        if self._closing.is_set():
            return None
        self._tell("Created", f"Created container {self.name}")
        began = timestamp()
        try:
            child = await self._start("container", self._line)
        except (ProcessFailed, OSError) as error:
            self._end_of("", _START_FAILED, began, str(error))
            self._tell("Failed", f"Error: {error}", warning=True)
            return _START_FAILED
        self._child, self._window = child, UsageWindow(self._runtime.options.cpu_window_s)
        restarts = self.view.restarts + (1 if self._begun else 0)
        self._begun = True
        last = self.view.state if "terminated" in self.view.state else self.view.last_state
        self._show(state=state_running(began), last_state=last, restarts=restarts, id=str(child.pid))
        self._tell("Started", f"Started container {self.name}")
        self._write("start", pid=child.pid)
        if self._closing.is_set():  # it was told to end while it was being started
            child.kill()
        attendance = asyncio.create_task(self._attend(child, specs), name=f"attend {self.name}")
        try:
            code = await child.wait()
        finally:
            attendance.cancel()
            await asyncio.gather(attendance, return_exceptions=True)
            self._runtime.processes.children.pop(child.name, None)
        quoted = self._spec.get("terminationMessagePolicy") == "FallbackToLogsOnError" and code
        self._end_of(str(child.pid), code, began, "\n".join(child.tail()) if quoted else "")
        self._child = None
        return code

    async def _start(self, title: str, line: CommandLine) -> Child:
        pod = self._pod()
        name = f"{pod['metadata']['uid']}/{self.name}/{title}-{next(self._numbers)}"
        log = self._runtime.log_of(pod, self.name)
        argv, environment = line.argv, line.environment
        child = await self._runtime.processes.start(name, argv, log=log, env=environment, cwd=line.folder)
        _step_back(child.pid)
        return child

    async def _attend(self, child: Child, specs: Mapping[Kind, ProbeSpec]) -> None:
        """Carry out the hooks and the probes of a running process."""
        hook = part(self._spec, "lifecycle").get("postStart")
        if hook and (problem := await self._hook(hook, self._grace_s)):
            self._tell("FailedPostStartHook", f"PostStartHook failed: {problem}", warning=True)
            await self._kill(child, "FailedPostStartHook", self._grace_s)
            return
        if "startup" in specs:
            await self._probe(specs["startup"], child)
        self._show(started=True, ready="readiness" not in specs)
        async with asyncio.TaskGroup() as group:
            for kind, spec in specs.items():
                if kind != "startup":
                    group.create_task(self._probe(spec, child))

    async def _probe(self, spec: ProbeSpec, child: Child) -> None:
        """Probe until the container's end, or until the first success of a startup probe."""
        state, eager = ProbeState(spec), self._runtime.options.eager_probe_s
        await asyncio.sleep(spec.initial_delay_s)
        due = time.monotonic()
        while True:
            now = time.monotonic()
            problem = await check(spec.action, self._address.real, spec.timeout_s, self._run)
            # Between two periods a first success may be looked for, but only a period's answer is held against it.
            if (problem is None or now >= due) and self._answered(spec, state, problem):
                if spec.kind == "startup" and state.result:
                    return
                if spec.kind != "readiness" and state.result is False and not self._closing.is_set():
                    why = f"Container {self.name} failed {spec.kind} probe, will be restarted"
                    await self._kill(child, why, spec.grace_s if spec.grace_s is not None else self._grace_s)
                    return
            if now >= due:
                due = now + spec.period_s
            wait = due - time.monotonic()
            if eager and state.result is not True and spec.kind != "liveness":
                wait = min(wait, eager)
            await asyncio.sleep(max(0.0, wait))

    def _answered(self, spec: ProbeSpec, state: ProbeState, problem: str | None) -> bool:
        """Take an answer of a probe; tell whether it means something else than before."""
        if problem is not None:
            self._tell("Unhealthy", f"{spec.kind.capitalize()} probe failed: {problem}", warning=True)
        changed = state.take(ok=problem is None)
        if changed and spec.kind == "readiness":
            self._show(ready=bool(state.result))
        return changed

    async def _kill(self, child: Child, why: str, grace_s: float) -> None:
        """End the process and let the restart policy decide."""
        self._tell("Killing", why)
        limit = time.monotonic() + grace_s
        await self._wind_down(child, lambda: min(limit, self._deadline) if self._closing.is_set() else limit)

    async def _wind_down(self, child: Child, deadline: Callable[[], float]) -> None:
        """Give preStop and SIGTERM what is left until `deadline`, which may come nearer, then SIGKILL."""
        hook = part(self._spec, "lifecycle").get("preStop")
        if hook:
            allowed = max(_HOOK_GRACE_S, deadline() - time.monotonic())
            doing = asyncio.ensure_future(self._hook(hook, allowed))
            began = time.monotonic()
            await self._until(child, lambda: min(began + allowed, max(deadline(), began + _HOOK_GRACE_S)), doing)
            doing.cancel()
            result = (await asyncio.gather(doing, return_exceptions=True))[0]
            if isinstance(result, str):
                self._tell("FailedPreStopHook", f"PreStopHook failed: {result}", warning=True)
        child.send_signal(signal.SIGTERM)
        child.send_signal(signal.SIGCONT, group=True)  # one that was stopped could not act on it
        told = time.monotonic()
        if not await self._until(child, lambda: max(deadline(), told + _SHORTEST_GRACE_S)):
            child.kill()

    async def _until(
        self, child: Child, deadline: Callable[[], float], other: asyncio.Future[Any] | None = None
    ) -> bool:
        """Wait for the process's end, or that of `other`, at most until `deadline`; tell whether it has ended."""
        while not child.exited.is_set() and (left := deadline() - time.monotonic()) > 0:
            self._hurry.clear()
            waits = [asyncio.ensure_future(each.wait()) for each in (child.exited, self._hurry)]
            try:
                await asyncio.wait([*waits, *([other] if other else [])], timeout=left, return_when="FIRST_COMPLETED")
            finally:
                for wait in waits:
                    wait.cancel()
            if other is not None and other.done():
                break
        return child.exited.is_set()

    async def _hook(self, hook: Mapping[str, Any], limit_s: float) -> str | None:
        """Carry out a lifecycle hook; return what went wrong."""
        if "sleep" in hook:
            await asyncio.sleep(min(limit_s, float(hook["sleep"]["seconds"])))
            return None
        try:
            return await check(action_of(hook, self._spec), self._address.real, limit_s, self._run)
        except Unsupported as error:
            return str(error)

    async def _run(self, command: tuple[str, ...], limit_s: float) -> str | None:
        """Run a command beside the container's process, with its environment."""
        assert self._line is not None  # noqa: S101 - there is a process
        try:
            argv = command_of(command, self._runtime.options.commands)
            child = await self._start("exec", msgspec.structs.replace(self._line, argv=argv))
        except (Unsupported, ProcessFailed, OSError) as error:
            return str(error)
        try:
            if not await child.ended_within(limit_s):
                return f"{command[0]} took longer than {limit_s:g} s"
            return None if child.code == 0 else f"{command[0]} ended with exit code {child.code}"
        finally:
            child.kill()
            self._runtime.processes.children.pop(child.name, None)

    @property
    def _grace_s(self) -> float:
        return float(self._pod()["spec"].get("terminationGracePeriodSeconds") or 0)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    def _take_over(self, former: Mapping[str, Any]) -> None:
        """Go on counting where a kubelet before us was; its processes ended with it."""
        last = part(former, "lastState")
        state = part(former, "state")
        if "terminated" in state:
            last = {"terminated": state["terminated"]}
        elif "running" in state:
            started, now = state["running"].get("startedAt") or timestamp(), timestamp()
            last = state_terminated(137, started_at=started, finished_at=now, id=str(former.get("containerID") or ""))
            last["terminated"]["reason"] = "ContainerStatusUnknown"
        self.view = msgspec.structs.replace(self.view, last_state=last, restarts=int(former.get("restartCount") or 0))

    def _refuse(self, reason: str, error: Exception) -> None:
        if part(self.view.state, "waiting").get("message") != str(error):
            self._tell("Failed", f"Error: {error}", warning=True)
        self._show(state=state_waiting(reason, str(error)))

    def _end_of(self, id: str, code: int, began: str, message: str) -> None:  # noqa: A002 - the API's word
        state = state_terminated(code, started_at=began, finished_at=timestamp(), id=id, message=message)
        self._show(state=state, ready=False, started=False)
        self._write("exit", pid=int(id) if id else None, code=code)

    def _show(self, **changes: Any) -> None:
        view = msgspec.structs.replace(self.view, **changes)
        if view != self.view:
            self.view = view
            self._changed()

    def _tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        pod = self._pod()
        self._runtime.recorder.tell(
            pod, str(pod["spec"]["nodeName"]), reason, message, warning=warning, container=self.name
        )

    def _write(self, action: Any, *, pid: int | None, code: int | None = None) -> None:
        pod = self._pod()
        metadata = pod["metadata"]
        self._runtime.journal.write(
            PodEvent(
                namespace=metadata["namespace"],
                name=metadata["name"],
                uid=metadata["uid"],
                action=action,
                node=pod["spec"]["nodeName"],
                address=self._address.real,
                container=self.name,
                pid=pid,
                code=code,
                restarts=self.view.restarts,
            )
        )


def _step_back(pid: int) -> None:
    """
    Let a process that has just begun take only the time that others leave.

    Pods that are made to burn their CPU are what a scenario is about; a generator that is late because of them would
    make it invalid. Linux weighs whole sessions first where autogroups are on, so both are told.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, _NICENESS)
        Path(f"/proc/{pid}/autogroup").write_text(str(_NICENESS), "utf-8")
