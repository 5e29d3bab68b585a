"""Reaching into API objects, where what is empty is often left out or null. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

__all__ = ["Object", "annotation", "part", "parts", "scalars"]

Object = dict[str, Any]
"""An API object, or a part of one, as JSON has it."""


def part(thing: Mapping[str, Any], name: str) -> Object:
    """Return the object in this field; an empty one where there is none."""
    return cast("Object", thing.get(name) or {})


def parts(thing: Mapping[str, Any], name: str) -> list[Object]:
    """Return the list of objects in this field; an empty one where there is none."""
    return cast("list[Object]", thing.get(name) or [])


def scalars(thing: Mapping[str, Any], name: str) -> list[str]:
    """Return the list of texts in this field; an empty one where there is none."""
    return [str(each) for each in cast("list[Any]", thing.get(name) or [])]


def annotation(thing: Mapping[str, Any], name: str) -> str | None:
    """Return an annotation of an object; None where it has none of that name."""
    value = part(thing["metadata"], "annotations").get(name)
    return None if value is None else str(value)
