"""The volumes of a pod as folders, and where in its container's world they are to be thought of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seawall.cluster.kubelet.environment import MissingReference, Sources
from seawall.cluster.kubelet.manifest import parts
from seawall.cluster.kubelet.probes import Unsupported

__all__ = ["mounts_of", "prepare", "volume_references"]

Object = Mapping[str, Any]


def volume_references(spec: Object) -> tuple[set[str], set[str]]:
    """Return the names of the ConfigMaps and of the Secrets that the pod's volumes hold."""
    volumes = parts(spec, "volumes")
    config_maps = {str(each["configMap"]["name"]) for each in volumes if "configMap" in each}
    return config_maps, {str(each["secret"]["secretName"]) for each in volumes if "secret" in each}


def prepare(spec: Object, folder: Path, sources: Sources) -> dict[str, Path]:
    """
    Make a folder for each volume of the pod and fill it; return them by name.

    `emptyDir` is kept as it is when it exists already. Raises MissingReference, Unsupported and OSError.
    """
    made: dict[str, Path] = {}
    for volume in parts(spec, "volumes"):
        place = folder / str(volume["name"])
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        made[str(volume["name"])] = place
        if "configMap" in volume:
            source = volume["configMap"]
            _fill(place, "ConfigMap", str(source["name"]), source, sources.config_maps)
        elif "secret" in volume:
            source = volume["secret"]
            _fill(place, "Secret", str(source["secretName"]), source, sources.secrets)
        elif "emptyDir" not in volume:
            kinds = ", ".join(name for name in volume if name != "name")
            raise Unsupported(
                f"volume {volume['name']} is a {kinds}; a pod of processes has emptyDir, configMap, secret"
            )
    return made


def mounts_of(container: Object, volumes: Mapping[str, Path]) -> dict[str, str]:
    """Return the container's mount paths with the folders that stand for them."""
    mounts: dict[str, str] = {}
    for mount in parts(container, "volumeMounts"):
        place = volumes[str(mount["name"])]
        mounts[str(mount["mountPath"])] = str(place / mount["subPath"] if mount.get("subPath") else place)
    return mounts


def _fill(place: Path, title: str, name: str, source: Object, known: Mapping[str, Mapping[str, str]]) -> None:
    contents = known.get(name)
    if contents is None:
        if source.get("optional"):
            return
        raise MissingReference(f"{title} {name}, a volume, is not there; create it, or mark it optional")
    paths = {str(item["key"]): str(item["path"]) for item in parts(source, "items")} or {key: key for key in contents}
    for key, path in paths.items():
        target = (place / path).resolve()
        if not target.is_relative_to(place.resolve()):
            raise Unsupported(f"{title} {name}: the path {path!r} leads out of its volume")
        if key not in contents:
            raise MissingReference(f"{title} {name}, a volume, has no key {key}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch(mode=0o600)
        target.write_text(contents[key], "utf-8")
