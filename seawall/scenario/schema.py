"""
The JSON Schema of the scenario language, made from the models, for editors.

`python -m seawall.scenario` prints it; `scenarios/schema.json` is its committed copy.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

from seawall.scenario.model import Scenario
from seawall.scenario.quantities import duration_text, rate_text, share_text

__all__ = ["json_schema", "schema_text"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12). Keys stand in the order of the models, definitions in that of the alphabet."""
    made = Scenario.model_json_schema(by_alias=True)
    definitions = cast("dict[str, Any]", made.pop("$defs"))
    head = {"$schema": _DIALECT, "title": "Seawall scenario, version 1", "description": made.pop("description")}
    made.pop("title")
    schema = {**head, **made, "$defs": {name: definitions[name] for name in sorted(definitions)}}
    for part in (schema, *definitions.values()):
        for key in cast("dict[str, dict[str, Any]]", part["properties"]).values():
            key.pop("title", None)  # only the key again, in capitals
            if "anyOf" in key:
                # Optional in the models is None in Python; in a file the key is left out, and never null.
                (chosen,) = (choice for choice in key.pop("anyOf") if choice != {"type": "null"})
                key.update(chosen)
            if "default" in key:
                key["default"] = _written(key["default"], key)
                if key["default"] is None:
                    del key["default"]
    return schema


def schema_text() -> str:
    """Return the schema as the text of `scenarios/schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _written(default: Any, key: dict[str, Any]) -> Any:
    """Return a default as an author would write it: models hold seconds and fractions, files have units."""
    if key.get("type") != "string" or not isinstance(default, float):
        return default
    text: dict[str, Callable[[float], str]] = {"8s": duration_text, "20/s": rate_text, "30%": share_text}
    return text[key["examples"][0]](default)
