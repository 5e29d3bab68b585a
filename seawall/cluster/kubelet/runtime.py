"""What every pod of a kubelet shares, and how the parts of a container's world are put together from its manifest."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec

from seawall.cluster.client import ApiError
from seawall.cluster.kubelet.addresses import PodAddress
from seawall.cluster.kubelet.api import Api
from seawall.cluster.kubelet.control import Control
from seawall.cluster.kubelet.environment import PodFacts, Sources, environment, expanded, mapped, references
from seawall.cluster.kubelet.manifest import Object, part, scalars
from seawall.cluster.kubelet.options import Options, command_of
from seawall.cluster.kubelet.recorder import Journal, Recorder
from seawall.cluster.kubelet.volumes import mounts_of, prepare, volume_references
from seawall.journal.writer import EVENTS_VARIABLE
from seawall.processes import Processes

__all__ = ["HOST_IP", "CommandLine", "Runtime", "pod_name"]

HOST_IP = "127.0.0.1"
"""The address of every node."""

# What a process of a pod has of our own environment: never keys.
_PASSED = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "VIRTUAL_ENV", EVENTS_VARIABLE)


class CommandLine(msgspec.Struct, frozen=True, kw_only=True):
    """What is run for a container."""

    argv: list[str]
    environment: dict[str, str]
    folder: Path
    mounts: dict[str, str]


def pod_name(pod: Object) -> str:
    """Return `namespace/name`."""
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What every pod shares."""

    api: Api
    options: Options
    processes: Processes
    recorder: Recorder
    journal: Journal
    control: Control

    @property
    def kills_at_once(self) -> bool:
        """Whether a process is killed without notice at grace 0."""
        return (self.control.orders().forced_deletion or self.options.forced_deletion) == "at-once"

    def pod_folder(self, pod: Object) -> Path:
        """Return the folder of a pod; it may not exist."""
        return self.options.folder / "pods" / str(pod["metadata"]["uid"])

    def log_of(self, pod: Object, container: str) -> Path:
        """Return the file of a container's output. It outlives the pod: it is what explains its end."""
        return self.options.folder / "logs" / f"{pod_name(pod).replace('/', '_')}_{container}.log"

    async def command_line(self, pod: Object, container: Mapping[str, Any], address: PodAddress) -> CommandLine:
        """
        Return what to run for a container, its volumes made and filled.

        Raises MissingReference (try again later), Unsupported (it will never do), ApiError and OSError.
        """
        spec = pod["spec"]
        words = command_of(scalars(container, "command"), self.options.commands)
        config_maps, secrets = (
            one | other for one, other in zip(references(container), volume_references(spec), strict=True)
        )
        namespace = str(pod["metadata"]["namespace"])
        sources = Sources(
            config_maps=await self._contents(namespace, "configmaps", config_maps),
            secrets=await self._contents(namespace, "secrets", secrets),
        )
        facts = PodFacts(pod=pod, address=address.real, host_ip=HOST_IP, allocatable=self.options.allocatable)
        variables = environment(container, facts, sources)
        home = self.pod_folder(pod)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        mounts = mounts_of(container, prepare(spec, home / "volumes", sources))
        folder = Path(mapped(str(container.get("workingDir") or home), mounts))
        base = {name: os.environ[name] for name in _PASSED if name in os.environ}
        base |= {"HOME": str(home), "TMPDIR": str(home), "HOSTNAME": str(pod["metadata"]["name"])}
        everything = base | {name: mapped(value, mounts) for name, value in variables.items()}
        argv = [*words, *scalars(container, "args")]
        return CommandLine(
            argv=[words[0], *(mapped(expanded(word, variables), mounts) for word in argv[1:])],
            environment=everything,
            folder=folder,
            mounts=mounts,
        )

    async def _contents(self, namespace: str, kind: str, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the ConfigMaps or Secrets that are there, as text."""
        found: dict[str, dict[str, str]] = {}
        for name in sorted(names):
            try:
                said = await self.api.get(f"/api/v1/namespaces/{namespace}/{kind}/{name}")
            except ApiError as error:
                if error.status_code != 404:
                    raise
                continue
            data = cast("dict[str, str]", part(said, "data"))
            if kind == "secrets":
                data = {key: base64.b64decode(value).decode("utf-8", "replace") for key, value in data.items()}
            found[name] = data
        return found
