"""
What a container's spec becomes for a process: its environment, its command line, its paths. Pure.

`$(NAME)` is expanded as Kubernetes does: `$$(NAME)` is a literal, an unknown name is left as it is written, and a
variable sees only those before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from seawall.cluster.kubelet.manifest import part, parts
from seawall.cluster.kubelet.quantities import ceiling, number

__all__ = ["MissingReference", "PodFacts", "Sources", "environment", "expanded", "mapped", "references"]

_VARIABLE = re.compile(r"\$\$|\$\(([^()$]+)\)")
_FIELD_KEY = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")

Object = Mapping[str, Any]


class MissingReference(Exception):
    """Something that a container's environment refers to is not there. The message says what, never a value."""


class PodFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the downward API tells: the pod as it was bound, and what the kubelet adds; it listens on `address`."""

    pod: dict[str, Any]
    address: str
    host_ip: str
    allocatable: dict[str, str]
    """What an unlimited container may use of the node: `cpu`, `memory`, …"""


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """The ConfigMaps and Secrets of the pod's namespace by name, values as text. One that is absent is missing."""

    config_maps: Mapping[str, Mapping[str, str]] = {}
    secrets: Mapping[str, Mapping[str, str]] = {}


def references(container: Object) -> tuple[set[str], set[str]]:
    """Return the names of the ConfigMaps and of the Secrets that the container's environment refers to."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    for source in parts(container, "envFrom"):
        config_maps.update(_names(source, "configMapRef"))
        secrets.update(_names(source, "secretRef"))
    for variable in parts(container, "env"):
        source = part(variable, "valueFrom")
        config_maps.update(_names(source, "configMapKeyRef"))
        secrets.update(_names(source, "secretKeyRef"))
    return config_maps, secrets


def environment(container: Object, facts: PodFacts, sources: Sources) -> dict[str, str]:
    """Return the variables that the container's spec asks for, in their order. Raises MissingReference."""
    variables: dict[str, str] = {}
    for source in parts(container, "envFrom"):
        prefix = str(source.get("prefix") or "")
        for name, value in _from_all(source, sources).items():
            variables[f"{prefix}{name}"] = value
    for variable in parts(container, "env"):
        name, source = str(variable["name"]), variable.get("valueFrom")
        if source is None:
            variables[name] = expanded(str(variable.get("value") or ""), variables)
            continue
        value = _from_one(name, source, container, facts, sources)
        if value is not None:
            variables[name] = value
    return variables


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Return `text` with each `$(NAME)` replaced by the variable of that name."""

    def replace(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else variables.get(found[1], found[0])

    return _VARIABLE.sub(replace, text)


def mapped(text: str, mounts: Mapping[str, str]) -> str:
    """
    Return `text` with each path below a mount path turned into the folder that stands for it.

    A process has no mounts of its own, so `--config=/etc/app/config.yaml` must name the real file. A path counts where
    it begins the text or follows one of `=`, `:`, `,` or a space, and ends at a `/` or its own end.
    """
    for path, folder in sorted(mounts.items(), key=lambda each: -len(each[0])):
        text = re.sub(
            rf"(?:(?<=[=:, ])|^){re.escape(path.rstrip('/'))}(?=/|[:, ]|$)", folder.replace("\\", r"\\"), text
        )
    return text


def _names(source: Object, kind: str) -> Sequence[str]:
    reference = source.get(kind)
    return [str(reference["name"])] if reference else []


def _from_all(source: Object, sources: Sources) -> Mapping[str, str]:
    """Return everything in the ConfigMap or Secret of an `envFrom`."""
    for kind, title, found in _both(sources, "Ref"):
        reference = source.get(kind)
        if reference:
            return _contents(title, reference, found) or {}
    return {}


def _both(sources: Sources, suffix: str) -> tuple[tuple[str, str, Mapping[str, Mapping[str, str]]], ...]:
    """Return the field, the title and the contents of the two kinds that can be referred to."""
    return (
        (f"configMap{suffix}", "ConfigMap", sources.config_maps),
        (f"secret{suffix}", "Secret", sources.secrets),
    )


def _contents(title: str, reference: Object, found: Mapping[str, Mapping[str, str]]) -> Mapping[str, str] | None:
    contents = found.get(str(reference["name"]))
    if contents is None and not reference.get("optional"):
        raise MissingReference(f"{title} {reference['name']} is not there; create it, or mark the reference optional")
    return contents


def _from_one(name: str, source: Object, container: Object, facts: PodFacts, sources: Sources) -> str | None:
    """Return the value of a `valueFrom`, None for what is optional and absent."""
    for kind, title, found in _both(sources, "KeyRef"):
        reference = source.get(kind)
        if not reference:
            continue
        contents, key = _contents(title, reference, found), str(reference["key"])
        if contents is not None and key in contents:
            return contents[key]
        if reference.get("optional"):
            return None
        raise MissingReference(f"{title} {reference['name']} has no key {key}, which the variable {name} takes")
    if "fieldRef" in source:
        return _field(name, str(source["fieldRef"]["fieldPath"]), facts)
    if "resourceFieldRef" in source:
        return _resource(name, source["resourceFieldRef"], container, facts)
    raise MissingReference(f"the variable {name} comes from {', '.join(source)}, which this kubelet does not know")


def _field(name: str, path: str, facts: PodFacts) -> str:
    metadata, spec = facts.pod["metadata"], facts.pod["spec"]
    keyed = _FIELD_KEY.fullmatch(path)
    if keyed:
        return str(part(facts.pod["metadata"], keyed[1]).get(keyed[2], ""))
    fields: dict[str, Any] = {
        "metadata.name": metadata.get("name"),
        "metadata.namespace": metadata.get("namespace"),
        "metadata.uid": metadata.get("uid"),
        "spec.nodeName": spec.get("nodeName"),
        "spec.serviceAccountName": spec.get("serviceAccountName"),
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
        # Where the process can really listen; the address in the pod's status is never dialled.
        "status.podIP": facts.address,
        "status.podIPs": facts.address,
    }
    if path not in fields:
        raise MissingReference(f"the variable {name} takes {path}, which is no field; known are {', '.join(fields)}")
    return str(fields[path] or "")


def _resource(name: str, reference: Object, container: Object, facts: PodFacts) -> str:
    containers: list[dict[str, Any]] = parts(facts.pod["spec"], "containers")
    wanted = reference.get("containerName")
    target = next((each for each in containers if each["name"] == wanted), container) if wanted else container
    kind, _, resource = str(reference["resource"]).partition(".")
    resources: Object = part(target, "resources")
    limits: Object = part(resources, "limits")
    known: Object = limits if kind == "limits" else {**limits, **part(resources, "requests")}
    amount = known.get(resource, facts.allocatable.get(resource, "0") if kind == "limits" else "0")
    try:
        divisor = number(reference.get("divisor") or "1") or number("1")
        return str(ceiling(number(amount) / divisor))
    except ValueError as error:
        raise MissingReference(f"the variable {name} takes {kind}.{resource}: {error}") from error
