"""The JSON Schema for editors: up to date, complete, and true of every scenario file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seawall.paths import scenarios_dir
from seawall.scenario.loader import load_scenario
from seawall.scenario.nodes import compose, plain
from seawall.scenario.schema import json_schema, schema_text

FILES = sorted(scenarios_dir().rglob("*.yaml"))
KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def test_the_committed_schema_is_up_to_date() -> None:
    """`scenarios/schema.json` is what the models make (`python -m seawall.scenario > scenarios/schema.json`)."""
    assert (scenarios_dir() / "schema.json").read_text(encoding="utf-8") == schema_text()


def test_the_schema_is_the_same_every_time() -> None:
    """The order of keys does not change from one making to the next."""
    assert json.dumps(json_schema()) == json.dumps(json_schema())


def test_every_key_and_every_part_is_described() -> None:
    """An editor has something to show for each key."""
    schema = json_schema()
    parts = {"": schema, **schema["$defs"]}
    assert all(part.get("description") for part in parts.values())
    missing = [
        f"{part}.{key}"
        for part, made in parts.items()
        for key, of in made["properties"].items()
        if not of.get("description")
    ]
    assert missing == []


def test_faults_say_which_arenas_take_them() -> None:
    """Each kind of harm has the column of the arenas that it runs in."""
    fault = json_schema()["$defs"]["FaultSpec"]["properties"]
    assert fault["toxic"]["x-arenas"] == fault["respond"]["x-arenas"] == ["simulation", "wire"]


def test_defaults_are_written_as_an_author_would() -> None:
    """A default that the schema shows is one that the loader takes: with its unit."""
    schema = json_schema()
    offences = [
        (name, key)
        for name, part in schema["$defs"].items()
        for key, of in part["properties"].items()
        if "pattern" in of and "default" in of and not re.search(of["pattern"], str(of["default"]))
    ]
    assert offences == []
    assert schema["$defs"]["Load"]["properties"]["deadline"]["default"] == "30s"
    assert schema["$defs"]["ProviderSpec"]["properties"]["first_token"]["default"] == {"p50": "20ms", "p99": "50ms"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario_files_fit_the_schema(path: Path) -> None:
    """Every scenario file is valid for the loader and, by the words of the schema that we use, for editors."""
    load_scenario(path)
    schema = json_schema()
    data = plain(compose(path.read_text(encoding="utf-8"), path.name))
    assert list(violations(data, schema, schema["$defs"], path.stem)) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"version": 2}, "version"),
        ({"titel": "t"}, "titel"),
        ({"seed": -1}, "seed"),
        ({"load": {"executor": "arrivals", "stream": "0.3"}}, "load.stream"),
        ({"providers": {"gemni": {}}}, "providers.gemni"),
    ],
)
def test_the_check_of_the_schema_sees_slips(change: dict[str, Any], where: str) -> None:
    """What this module checks files with does find a wrong value, key, bound and pattern."""
    schema = json_schema()
    data = {"version": 1, "title": "t", "load": {"executor": "arrivals"}, **change}
    assert list(violations(data, schema, schema["$defs"], "")) == [f".{where}"]


def violations(value: Any, schema: dict[str, Any], parts: dict[str, Any], where: str) -> Iterator[str]:
    """Yield the places that do not fit; only the words of JSON Schema that ours uses are known."""
    if "$ref" in schema:
        schema = parts[schema["$ref"].removeprefix("#/$defs/")] | {k: v for k, v in schema.items() if k != "$ref"}
    if "anyOf" in schema:
        if not any(next(violations(value, choice, parts, where), None) is None for choice in schema["anyOf"]):
            yield where
        return
    kind = schema.get("type")
    if kind is not None and (not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "boolean")):
        yield where
        return
    fits = (
        value in schema.get("enum", [value]),
        value == schema.get("const", value),
        not isinstance(value, str) or re.search(schema.get("pattern", ""), value) is not None,
        not isinstance(value, str) or schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 1e9),
        not isinstance(value, int | float) or schema.get("minimum", value) <= value <= schema.get("maximum", value),
        not isinstance(value, list) or len(value) >= schema.get("minItems", 0),
    )
    if not all(fits):
        yield where
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from violations(item, schema.get("items", {}), parts, f"{where}[{index}]")
    if isinstance(value, dict):
        yield from (f"{where}.{key}" for key in schema.get("required", ()) if key not in value)
        for key, item in value.items():
            known = schema.get("properties", {}).get(key, schema.get("additionalProperties", True))
            names = schema.get("propertyNames", {}).get("enum", [key])
            if known is False or key not in names:
                yield f"{where}.{key}"
            else:
                yield from violations(item, known if isinstance(known, dict) else {}, parts, f"{where}.{key}")
