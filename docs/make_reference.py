"""
Write the reference pages from the code: the scenario language, the router's settings, the journal's events.

`python docs/make_reference.py` writes them, `--check` only compares. The words are those of the models' own docstrings,
so that a page cannot say what the code does not.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_origin

import msgspec

from router.settings import Secret, Settings
from seawall.journal import events
from seawall.scenario import json_schema

__all__ = ["main", "pages"]

FOLDER = Path(__file__).parent / "reference"
_NOTE = "<!-- Made by docs/make_reference.py: change the docstrings, not this page. -->\n"


def pages() -> dict[str, str]:
    """Return every reference page by file name."""
    return {"scenario.md": _scenario(), "settings.md": _settings(), "journal.md": _journal()}


def main(arguments: list[str]) -> int:
    """Write or compare the pages; return 1 when one is out of date."""
    stale = [name for name, text in pages().items() if _read(name) != text]
    if "--check" in arguments:
        for name in stale:
            sys.stderr.write(f"docs/reference/{name} is out of date; run python docs/make_reference.py\n")
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


def _read(name: str) -> str | None:
    path = FOLDER / name
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _scenario() -> str:
    schema = json_schema()
    parts = ["# The scenario language, version 1\n", _NOTE]
    parts.append(
        "A quantity always has a unit: `300ms`, `8s`, `20/s`, `30%`, `0.10 USD`.\n"
        'A limit is a comparison and a quantity, in quotes: `">= 99.9%"`, `"< 800ms"`.\n'
        "`seawall schema` prints the same as JSON Schema for your editor, `seawall validate` checks files.\n"
    )
    parts.append(_section("A scenario file", schema))
    parts += [_section(name, definition) for name, definition in schema["$defs"].items()]
    return "\n".join(parts)


def _section(name: str, definition: dict[str, Any]) -> str:
    lines = [f"## {name}\n", f"{definition.get('description', '').strip()}\n"]
    lines += ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
    required = definition.get("required", [])
    for field, spec in definition.get("properties", {}).items():
        default = "**required**" if field in required else _default(spec)
        meaning = _cell(spec.get("description", ""))
        lines.append(f"| `{field}` | {_cell(_type(spec))} | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def _default(spec: dict[str, Any]) -> str:
    value = spec.get("default")
    return "–" if value in (None, [], {}) or isinstance(value, dict) else f"`{_cell(json.dumps(value))}`"


def _type(spec: dict[str, Any]) -> str:
    if "$ref" in spec:
        name = spec["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    words = spec.get("enum") or ([spec["const"]] if "const" in spec else [])
    if words:
        return ", ".join(f"`{word}`" for word in words)
    if "anyOf" in spec:
        return " or ".join(_type(option) for option in spec["anyOf"])
    return _plain_type(spec)


def _plain_type(spec: dict[str, Any]) -> str:
    kind = spec.get("type", "any")
    inner = spec.get("items") if kind == "array" else spec.get("additionalProperties")
    if kind in ("array", "object"):
        name = "list of" if kind == "array" else "mapping to"
        return f"{name} {_type(inner)}" if isinstance(inner, dict) else "mapping"
    example = spec.get("examples", [None])[0]
    return (
        f"text such as `{example}`" if example else {"string": "text", "integer": "whole number"}.get(kind, str(kind))
    )


def _settings() -> str:
    lines = ["# Settings of the router\n", _NOTE]
    lines.append(
        "Each is an environment variable, a line of `.env`, or a name in the YAML file that `SEAWALL_CONFIG` names.\n"
        "The gateway reads that file, and so does `seawall.equipped.EquippedRouter`; `HybridRouter` does not.\n"
        "The environment wins over `.env`, and that over the file, which may write the names in lower case.\n"
        "Durations are seconds, or a number with a unit (`300ms`, `5s`, `2m`).\n"
        "A table or a list is YAML in the file, and JSON in a variable.\n"
        "The section `gateway` of the file is for the gateway's own settings.\n"
    )
    lines += ["| variable | default | meaning |", "| --- | --- | --- |"]
    words = dict(_attribute_docstrings(Settings))
    for field in msgspec.structs.fields(Settings):
        unsaid = isinstance(field.default, Secret) or field.default in ("", None, (), msgspec.NODEFAULT)
        default = "–" if unsaid else f"`{field.default}`"
        lines.append(f"| `{field.name.upper()}` | {default} | {_cell(words.get(field.name, ''))} |")
    return "\n".join(lines) + "\n"


def _journal() -> str:
    lines = ["# Events of the journal, version 1\n", _NOTE]
    lines.append(f"{inspect.getdoc(events)}\n".replace("\n\n", "\n\n"))
    for kind in sorted(_kinds(), key=lambda struct: str(struct.__struct_config__.tag)):
        lines.append(f"## {kind.__struct_config__.tag}\n")
        lines.append(f"{(inspect.getdoc(kind) or '').strip()}\n")
        lines += ["| field | type | meaning |", "| --- | --- | --- |"]
        words = dict(_attribute_docstrings(kind))
        for field in msgspec.structs.fields(kind):
            row = (f"`{field.encode_name}`", _cell(_annotation(kind, field.name)), _cell(words.get(field.name, "")))
            lines.append(f"| {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _kinds() -> list[Any]:
    return list(events.JournalEvent.__args__)


def _annotation(kind: Any, name: str) -> str:
    words = str(kind.__annotations__[name])
    alias = getattr(sys.modules[kind.__module__], words, None)
    return f"`{str(alias).removeprefix('typing.') if get_origin(alias) is Literal else words}`"


def _attribute_docstrings(kind: type) -> Iterator[tuple[str, str]]:
    """Yield (attribute, the string that stands below it) of a class, which Python itself throws away."""
    definition = next(node for node in ast.parse(inspect.getsource(kind)).body if isinstance(node, ast.ClassDef))
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            yield statement.target.id, inspect.cleandoc(following.value.value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
