"""
YAML to nodes that know where they stand, by the rules of YAML 1.2 and only as much of it as a scenario needs.

The text is read event by event, so that what is refused (tags, aliases, depth, a second document) is refused when it
is met and never expanded. Nothing here constructs objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from seawall.scenario.problems import Problem, ScenarioError

__all__ = ["DEPTH_MAX", "Entry", "Mapping", "Node", "Scalar", "Sequence", "compose", "plain", "resolve"]

DEPTH_MAX = 32
"""Levels of nesting; the language needs six."""
_PROBLEMS_MAX = 20
_NUMBER_LENGTH_MAX = 40  # a longer run of digits stays text: no number of the language is that long


@dataclass(slots=True)
class Scalar:
    """A single value and where it begins."""

    line: int
    column: int
    value: str | int | float | bool | None


@dataclass(slots=True)
class Sequence:
    """A list and where it begins."""

    line: int
    column: int
    items: list[Node] = field(default_factory=list["Node"])


@dataclass(slots=True)
class Entry:
    """A key's place and its value."""

    line: int
    column: int
    node: Node


@dataclass(slots=True)
class Mapping:
    """A mapping and where it begins. Keys are text, whatever they look like."""

    line: int
    column: int
    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])


Node = Scalar | Sequence | Mapping


def compose(text: str, file: str) -> Mapping:
    """Return the mapping that `text` is. Raises ScenarioError with everything about its YAML that is refused."""
    _check_characters(text, file)
    directive = re.search(r"^%YAML", text, re.MULTILINE)
    composer = _Composer(file, directive_line=1 + (text.count("\n", 0, directive.start()) if directive else 0))
    for event in _events(text, file):
        composer.take(event)
    return composer.finish()


def plain(node: Node) -> Any:
    """Return the node as dict, list and scalars."""
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return [plain(item) for item in node.items]
        case Mapping():
            return {key: plain(entry.node) for key, entry in node.entries.items()}


_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def resolve(text: str) -> str | int | float | bool | None:
    """Return what an unquoted scalar means in the core schema of YAML 1.2, where `yes` and `on` are words."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _NUMBER_LENGTH_MAX:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text.replace(".inf", "inf").replace(".nan", "nan") if text[-1] in "fFnN" else text)
    return text


_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
_TAB_INDENT = re.compile(r"^ *(\t)[ \t]*[^\s#]", re.MULTILINE)


def _check_characters(text: str, file: str) -> None:
    found = _UNPRINTABLE.search(text)
    if found is not None:
        what = "a NUL byte" if found.group() == "\x00" else f"the unprintable character U+{ord(found.group()):04X}"
        raise ScenarioError([_at_offset(file, text, found.start(), f"{what} in the text", "take it out")])
    tabs = [
        _at_offset(file, text, found.start(1), "a tab in the indentation", "indent with spaces")
        for found in _TAB_INDENT.finditer(text)
    ]
    if tabs:
        raise ScenarioError(tabs[:_PROBLEMS_MAX])


def _at_offset(file: str, text: str, offset: int, message: str, fix: str) -> Problem:
    line_start = text.rfind("\n", 0, offset) + 1
    return Problem(file, text.count("\n", 0, offset) + 1, offset - line_start + 1, message, fix)


def _events(text: str, file: str) -> Iterator[Any]:
    try:
        # Not `compose`: it expands aliases, recurses as deep as the text nests and stops at the first problem.
        yield from cast("Iterator[Any]", YAML(typ="safe", pure=True).parse(text))  # pyright: ignore[reportUnknownMemberType]
    except ScenarioError:
        raise
    except MarkedYAMLError as error:
        caught: Any = error  # ruamel.yaml is not annotated here
        mark = caught.problem_mark or caught.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        message, fix = _translate(str(caught.problem or caught.context))
        raise ScenarioError([Problem(file, line, column, message, fix)]) from None
    except Exception as error:  # noqa: BLE001 - the scanner lets ValueError, IndexError and others out for broken text
        message = f"this is not YAML ({type(error).__name__} while it was read)"
        raise ScenarioError([Problem(file, 1, 1, message, "look for unclosed quotes or odd escapes")]) from None


_QUOTE = ("a value cannot begin with this character", 'put the value in quotes, such as limit: ">= 99.9%"')
_TRANSLATIONS: tuple[tuple[str, tuple[str, str]], ...] = (
    ("expected chomping or indentation", _QUOTE),
    ("cannot start any token", _QUOTE),
    ("expected alphabetic or numeric", _QUOTE),
    ("mapping values are not allowed", ("a second `key: value` where a value is expected", "quote it or indent it")),
    ("could not find expected ':'", ("this is no `key: value`", "add the colon and a space after the key")),
    ('could not find expected ":"', ("this is no `key: value`", "add the colon and a space after the key")),
    ("expected ',' or '}'", ("the braces { } are not closed, or a comma is missing", "close them before this place")),
    ("expected ',' or ']'", ("the brackets [ ] are not closed, or a comma is missing", "close them before this place")),
    ("expected <block end>", ("the indentation does not fit the lines above", "align it with its neighbours")),
    ("block sequence entries", ("a list item `- ` is not allowed here", "put it on its own line, indented")),
    ("sequence entries are not allowed", ("a list item `- ` is not allowed here", "put it on its own line, indented")),
    ("unexpected end of stream", ("a quoted text has no end", "close the quotes")),
    ("unexpected document separator", ("a quoted text has no end", "close the quotes")),
    ("escape", ("an escape in double quotes is none that YAML knows", "use single quotes, or double the backslash")),
    ("expected the node content", ("a value is missing here", "write one, or take the mark out")),
    ("expected '<document start>'", ("something follows the end of the scenario", "take it out, or indent it")),
    ("tag", ("a tag that cannot be read", "take it out: a scenario has no tags")),
)


def _translate(problem: str) -> tuple[str, str]:
    for fragment, sentence in _TRANSLATIONS:
        if fragment in problem:
            return sentence
    return "this is not YAML", "check indentation, colons and quotes here and on the line before"


class _Composer:
    """Build nodes from events; collect what is refused, and give up at once where going on would cost or mislead."""

    def __init__(self, file: str, *, directive_line: int) -> None:
        self._file = file
        self._directive_line = directive_line
        self._problems: list[Problem] = []
        self._root: Node | None = None
        self._documents = 0
        self._stack: list[Sequence | Mapping] = []
        self._keys: list[tuple[str, Scalar] | None] = []

    def take(self, event: Any) -> None:
        """Take one event of the parser."""
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        kind = cast("Any", type(event))  # ruamel.yaml's events are not annotated
        if kind is ScalarEvent:
            self._refuse_marks(event, line, column)
            text = cast("str", event.value)
            self._add(Scalar(line, column, resolve(text) if event.style is None else text), key=text)
        elif kind in (MappingStartEvent, SequenceStartEvent):
            self._refuse_marks(event, line, column)
            node = Mapping(line, column) if kind is MappingStartEvent else Sequence(line, column)
            if len(self._stack) >= DEPTH_MAX:
                self._give_up(line, column, f"more than {DEPTH_MAX} levels of nesting", "a scenario needs six")
            self._add(node)
            self._stack.append(node)
            self._keys.append(None)
        elif kind in (MappingEndEvent, SequenceEndEvent):
            self._stack.pop()
            self._keys.pop()
        elif kind is AliasEvent:
            self._refuse(line, column, f"an alias (*{event.anchor[:60]})", "write the value out: aliases are refused")
            self._add(Scalar(line, column, None), key=f"*{event.anchor}")
        elif kind is DocumentStartEvent:
            self._start_document(event, line, column)

    def finish(self) -> Mapping:
        """Return the root. Raises ScenarioError with what was refused, or when there is no mapping."""
        if self._problems:
            raise ScenarioError(self._problems)
        if self._root is None or (isinstance(self._root, Scalar) and self._root.value is None):
            self._give_up(1, 1, "the file is empty", "begin with `version: 1` and a `title`")
        if not isinstance(self._root, Mapping):
            what = "a list" if isinstance(self._root, Sequence) else "a single value"
            fix = "write keys and values, beginning with `version: 1`"
            self._give_up(self._root.line, self._root.column, f"the file holds {what}, not a scenario", fix)
        return self._root

    def _start_document(self, event: Any, line: int, column: int) -> None:
        self._documents += 1
        if self._documents > 1:
            self._give_up(line, column, "a second document begins here", "keep one scenario a file")
        if event.version is not None and tuple(event.version) != (1, 2):
            written = ".".join(map(str, event.version))
            self._refuse(
                self._directive_line,
                1,
                f"the file asks for YAML {written}",
                "take the %YAML line out: scenarios are YAML 1.2",
            )

    def _refuse_marks(self, event: Any, line: int, column: int) -> None:
        if event.anchor is not None:
            self._refuse(
                line, column, f"an anchor (&{event.anchor[:60]})", "take it out: anchors and aliases are refused"
            )
        if event.tag is not None:
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")[:60]
            self._refuse(line, column, f"a tag ({tag})", "take it out: a scenario has no tags")

    def _add(self, node: Node, key: str | None = None) -> None:
        if not self._stack:
            self._root = node
            return
        parent = self._stack[-1]
        if isinstance(parent, Sequence):
            parent.items.append(node)
            return
        pending = self._keys[-1]
        if pending is not None:
            name, place = pending
            self._keys[-1] = None
            # The first of two equal keys stays: the second is already refused.
            parent.entries.setdefault(name, Entry(place.line, place.column, node))
            return
        if key is None or not isinstance(node, Scalar):
            self._give_up(node.line, node.column, "a mapping or list stands where a key belongs", "a key is one word")
        earlier = parent.entries.get(key)
        if earlier is not None:
            fix = f"keep one of the two; the first is on line {earlier.line}"
            self._refuse(node.line, node.column, f"the key `{key[:60]}` is written twice", fix)
        self._keys[-1] = (key, node)

    def _refuse(self, line: int, column: int, message: str, fix: str) -> None:
        self._problems.append(Problem(self._file, line, column, message, fix))
        if len(self._problems) >= _PROBLEMS_MAX:
            raise ScenarioError(self._problems)

    def _give_up(self, line: int, column: int, message: str, fix: str) -> NoReturn:
        raise ScenarioError([*self._problems, Problem(self._file, line, column, message, fix)])
