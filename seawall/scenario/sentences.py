"""
What the typed models found, in sentences about the file, at the place in the file.

The models' own wording never gets out: each kind of finding has its sentence here, and one that has none yet gets a
plain one.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from types import UnionType
from typing import Any

from pydantic import BaseModel

from seawall.scenario.model import Scenario
from seawall.scenario.nodes import Mapping, Node, Scalar, Sequence
from seawall.scenario.problems import Misplaced, Problem, listed, nearest, shown, split_fix

__all__ = ["Path", "empty_values", "foreign_names", "keys_at", "place_of", "problems_of", "step_down", "words_for"]

Path = tuple[str | int, ...]

# The models' Python names for keys that are Python keywords: right in code, unknown in a file.
_PYTHON_NAMES = (("state", "while", ("expect", "always")), ("for_", "for", ("stop_when",)))


def problems_of(details: list[dict[str, Any]], tree: Mapping, file: str) -> list[Problem]:
    """Return one problem for each of the models' findings (`ValidationError.errors()`), at its key or value."""
    found: dict[tuple[int, int, str], Problem] = {}
    # A misspelt key is one slip, not two: what it was meant to be is not missing.
    meant: set[Path] = set()
    for detail in details:
        if detail["type"] == "extra_forbidden":
            *parent, key = detail["loc"]
            meant.add((*parent, nearest(key, keys_at(tuple(parent))) or ""))
    for detail in details:
        if detail["type"] == "missing" and detail["loc"] in meant:
            continue
        problem = _problem(detail, tree, file)
        found.setdefault((problem.line, problem.column, problem.message), problem)
    return list(found.values())


def foreign_names(tree: Mapping, file: str) -> list[Problem]:
    """Return a problem for each key that only Python code may write (`state` for `while`, `for_` for `for`)."""
    problems: list[Problem] = []
    for name, right, path in _PYTHON_NAMES:
        parent = step_down(tree, path)
        mappings = parent.items if isinstance(parent, Sequence) else [parent]
        for mapping in mappings:
            entry = mapping.entries.get(name) if isinstance(mapping, Mapping) else None
            if entry is not None:
                message = f"`{name}` is no key of {words_for(path, tree)}"
                problems.append(Problem(file, entry.line, entry.column, message, f"did you mean `{right}`?"))
    return problems


def empty_values(tree: Mapping, file: str) -> list[Problem]:
    """Return a problem for each key with nothing behind it: what is meant by it is anybody's guess."""
    problems: list[Problem] = []
    left: list[tuple[Path, Node]] = [((), tree)]
    while left:
        path, node = left.pop()
        match node:
            case Mapping(entries=entries):
                left += [((*path, key), entry.node) for key, entry in entries.items()]
            case Sequence(items=items):
                left += [((*path, index), item) for index, item in enumerate(items)]
            case Scalar(value=None):
                message, fix = _of_kind("empty", None, {}, path)
                problems.append(Problem(file, *place_of(tree, path), message, fix))
            case _:
                pass
    return problems


def place_of(tree: Mapping, path: Path, *, on_key: bool = False) -> tuple[int, int]:
    """
    Return line and column of what `path` leads to, or of the nearest thing above it that exists.

    A value's own place; its key's for mappings and lists under a key, and where `on_key` asks for it.
    """
    node: Node = tree
    place = (tree.line, tree.column)
    for depth, part in enumerate(path):
        if isinstance(node, Mapping) and isinstance(part, str) and part in node.entries:
            entry = node.entries[part]
            node = entry.node
            # An empty value stands nowhere: its key is the place.
            of_key = (on_key and depth == len(path) - 1) or not isinstance(node, Scalar) or node.value is None
            place = (entry.line, entry.column) if of_key else (node.line, node.column)
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            place = (node.line, node.column)
        elif isinstance(node, Scalar):
            break
        else:
            # A missing key: its parent is the place. What would be below it has none either.
            break
    return place


def words_for(path: Path, tree: Mapping) -> str:
    """Return what a reader would call the place: `fault dark, toxic`, `expect.thresholds[1]`, `the scenario`."""
    if not path:
        return "the scenario"
    if path[0] == "faults" and len(path) > 1:
        name = step_down(tree, (*path[:2], "id"))
        if isinstance(name, Scalar) and isinstance(name.value, str):
            return ", ".join([f"fault `{name.value[:32]}`", *map(str, path[2:])])
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return f"`{text}`"


def keys_at(path: Path) -> list[str]:
    """Return the keys that the language has at this place; none where any key goes or none does."""
    model = _model_at(path)
    return [] if model is None else [info.alias or name for name, info in model.model_fields.items()]


def _problem(detail: dict[str, Any], tree: Mapping, file: str) -> Problem:
    path: Path = detail["loc"]
    kind: str = detail["type"]
    context: dict[str, Any] = detail.get("ctx", {})
    on_key = False
    if kind == "missing":
        key, path = str(path[-1]), path[:-1]
        message, fix = f"{words_for(path, tree)} has no `{key}`", f"add `{key}`"
        on_key = True
    elif kind == "extra_forbidden":
        message, fix = _unknown_key(str(path[-1]), path[:-1], keys_at(path[:-1]), tree)
        on_key = True
    elif path and path[-1] == "[key]":
        path = path[:-1]
        words = _words_of(context)
        message, fix = _unknown_key(str(path[-1]), path[:-1], words, tree)
        on_key = True
    elif kind in ("value_error", "assertion_error"):
        cause = context["error"]
        message, fix = split_fix(str(cause))
        if isinstance(cause, Misplaced):
            path, on_key = (*path, *cause.path), cause.on_key
        if isinstance(step_down(tree, path), Scalar) and not on_key:
            message = f"{_name(path)}: {message}"
        elif not isinstance(cause, Misplaced):
            message = f"{words_for(path, tree)}: {message}"
    else:
        message, fix = _of_kind(kind, detail["input"], context, path)
    line, column = place_of(tree, path, on_key=on_key)
    return Problem(file, line, column, message, fix)


def _unknown_key(key: str, parent: Path, known: list[str], tree: Mapping) -> tuple[str, str]:
    word = nearest(key, known)
    fix = f"did you mean `{word}`?" if word else f"the keys here are {listed(known)}"
    return f"`{key[:60]}` is no key of {words_for(parent, tree)}", fix


def _of_kind(kind: str, value: Any, context: dict[str, Any], path: Path) -> tuple[str, str]:
    what = _name(path)
    sentence = _SENTENCES.get(kind)
    if kind == "literal_error":
        words = _words_of(context)
        word = nearest(value, words)
        choice = f"it is one of {listed(words)}" if len(words) > 1 else f"it is {listed(words)}"
        message = f"{what} is empty" if value is None else f"{what} cannot be {shown(value)}"
        return message, f"did you mean `{word}`? {choice}" if word else choice
    if value is None:
        keys = keys_at(path)
        return f"{what} is empty", f"write {listed(keys)} below it" if keys else "write a value, or take the key out"
    if sentence is None:
        return f"{what} cannot be {shown(value)}", "see the schema for what goes here"
    return sentence(what, value, context, path)


def _bool(what: str, value: Any, _context: dict[str, Any], _path: Path) -> tuple[str, str]:
    spelled = isinstance(value, str) and value.lower() in ("yes", "no", "on", "off", "y", "n", "true", "false")
    why = (
        "write true or false, without quotes; YAML 1.2 has no yes, no, on or off" if spelled else "write true or false"
    )
    return f"{what} is {shown(value)}, neither true nor false", why


def _whole(what: str, value: Any, _context: dict[str, Any], _path: Path) -> tuple[str, str]:
    return f"{what} is {shown(value)}, not a whole number", "write digits only, without a unit or quotes"


def _number(what: str, value: Any, _context: dict[str, Any], _path: Path) -> tuple[str, str]:
    return f"{what} is {shown(value)}, not a number", "write digits, without a unit or quotes"


def _text(what: str, value: Any, _context: dict[str, Any], _path: Path) -> tuple[str, str]:
    return f"{what} is {shown(value)}, not text", "write words; put a number in quotes"


def _list(what: str, value: Any, _context: dict[str, Any], _path: Path) -> tuple[str, str]:
    return f"{what} is {shown(value)}, not a list", "write items with `- `, or [a, b]"


def _mapping(what: str, value: Any, _context: dict[str, Any], path: Path) -> tuple[str, str]:
    keys = keys_at(path)
    return (
        f"{what} is {shown(value)}, not keys and values",
        f"the keys are {listed(keys)}" if keys else "write key: value",
    )


def _pattern(what: str, value: Any, _context: dict[str, Any], path: Path) -> tuple[str, str]:
    if path[-1] == "content_type":
        return f"{what} {shown(value)} is not a content type", "write type/subtype in small letters: text/plain"
    fix = "use at most 32 of a to z, 0 to 9 and _, beginning with a letter"
    return f"{what} {shown(value)} is not a fault's id", fix


def _bound(word: str, name: str) -> Callable[[str, Any, dict[str, Any], Path], tuple[str, str]]:
    def sentence(what: str, value: Any, context: dict[str, Any], _path: Path) -> tuple[str, str]:
        return f"{what} is {shown(value)}", f"it must be {word} {context[name]:g}"

    return sentence


def _length(word: str, name: str) -> Callable[[str, Any, dict[str, Any], Path], tuple[str, str]]:
    def sentence(what: str, value: Any, context: dict[str, Any], _path: Path) -> tuple[str, str]:
        unit = "characters" if isinstance(value, str) else "items"
        return f"{what} has {len(value)} {unit}", f"write at {word} {context[name]}"

    return sentence


_SENTENCES: dict[str, Callable[[str, Any, dict[str, Any], Path], tuple[str, str]]] = {
    **dict.fromkeys(("bool_type", "bool_parsing"), _bool),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), _whole),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), _number),
    "string_type": _text,
    "tuple_type": _list,
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), _mapping),
    "string_pattern_mismatch": _pattern,
    "greater_than": _bound("above", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than": _bound("below", "lt"),
    "less_than_equal": _bound("at most", "le"),
    "string_too_short": _length("least", "min_length"),
    "too_short": _length("least", "min_length"),
    "string_too_long": _length("most", "max_length"),
    "too_long": _length("most", "max_length"),
}


def _name(path: Path) -> str:
    """Return the last key on the path with the indexes that follow it: `tags[1]`."""
    text = ""
    for part in reversed(path):
        if isinstance(part, str):
            return f"`{part[:60]}{text}`"
        text = f"[{part}]{text}"
    return "the scenario"


def _words_of(context: dict[str, Any]) -> list[str]:
    """Return the words of a choice; they come quoted and joined by commas and a last `or`."""
    return [word.strip().strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]


def step_down(node: Node | None, path: Path) -> Node | None:
    """Return the node that `path` leads to from `node`, or None."""
    for part in path:
        match node, part:
            case Mapping(entries=entries), str() if part in entries:
                node = entries[part].node
            case Sequence(items=items), int() if part < len(items):
                node = items[part]
            case _:
                return None
    return node


def _model_at(path: Path) -> type[BaseModel] | None:
    kind: Any = Scenario
    for part in path:
        kind = _inside(kind, part)
    kind = _bare(kind)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _inside(kind: Any, part: str | int) -> Any:
    """Return the annotation of what `part` leads to inside a value of type `kind`; None where nothing is known."""
    kind = _bare(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        by_key = {info.alias or name: info.annotation for name, info in kind.model_fields.items()}
        return by_key.get(str(part))
    origin: Any = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    return arguments[0] if origin is tuple else arguments[1] if origin is dict else None


def _bare(kind: Any) -> Any:
    """Return `kind` without Annotated and without `| None`."""
    while typing.get_origin(kind) in (typing.Annotated, typing.Union, UnionType):
        kind = next(argument for argument in typing.get_args(kind) if argument is not type(None))
    return kind
