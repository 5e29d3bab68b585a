"""The parser of the command line, made from the table; it says which word was probably meant."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from seawall.commands.table import COMMANDS, EXIT_CODES, Command

__all__ = ["build_parser", "nearest_word", "parse"]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """
    Return the options; `command` is the command's name.

    Exits with code 2 and the nearest right word for one that is not known, and with code 0 after `--help`.
    """
    parser = build_parser()
    if not arguments:
        parser.print_help()
        raise SystemExit(2)
    first = arguments[0]
    names = [command.name for command in COMMANDS]
    if not first.startswith("-") and first not in names:
        word = nearest_word(first, names)
        fix = f"did you mean `seawall {word}`?" if word else f"the commands are {', '.join(names)}"
        parser.exit(2, f"seawall: there is no command {first!r}; {fix}\n")
    words, passed_on = list(arguments), list[str]()
    if "--" in words and any(command.name == first and command.passes_on for command in COMMANDS):
        at = words.index("--")
        words, passed_on = words[:at], words[at + 1 :]
    options, rest = parser.parse_known_args(words)
    if rest:
        parser.exit(2, _unknown(str(options.command), rest[0]))
    if passed_on:
        options.arguments = [*options.arguments, *passed_on]
    return options


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    parser = _Parser(
        prog="seawall",
        description="An LLM router that fails over, and the chaos harness that proves it.",
        epilog=f"seawall COMMAND --help says more of each; {EXIT_CODES}",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_const", const="version", dest="command", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=_Parser)
    for command in COMMANDS:
        _add(commands.add_parser(command.name, **_words(command)), command)
    return parser


def nearest_word(word: str, words: Iterable[str]) -> str | None:
    """Return the one of `words` that `word` was probably meant to be, or None."""
    found = difflib.get_close_matches(word.lower(), list(words), n=1, cutoff=0.5)
    return found[0] if found else None


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _unknown(command: str, unknown: str) -> str:
    """Return a sentence on an argument that the command does not take."""
    known = [
        flag
        for each in COMMANDS
        if each.name == command
        for argument in each.arguments
        for flag in argument.names
        if argument.is_option
    ]
    word = nearest_word(unknown.partition("=")[0], known) if unknown.startswith("-") else None
    fix = f"did you mean {word}?" if word else f"see seawall {command} --help"
    return f"seawall {command}: there is no option {unknown}; {fix}\n"


def _words(command: Command) -> dict[str, Any]:
    examples = "\n".join(f"  {example}" for example in command.examples)
    return {
        "help": command.help,
        "description": "\n\n".join(part for part in (command.help, _folded(command.more)) if part),
        "epilog": f"examples:\n{examples}" if examples else None,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }


def _folded(text: str, width: int = 100) -> str:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + len(word) < width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def _add(parser: argparse.ArgumentParser, command: Command) -> None:
    for argument in command.arguments:
        parser.add_argument(*argument.names, help=argument.help, **dict(argument.settings))
    parser.set_defaults(command=command.name)
