"""
Every command with its options and words: one table, from which the parser and the shell completions are made.

Cheap to import: a completion asks for it at every press of the tab key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["COMMANDS", "EXIT_CODES", "Argument", "Command"]

Completes = Literal["nothing", "scenario", "tag", "folder", "file", "choice"]

EXIT_CODES = (
    "exit codes: 0 pass (also safe and partial), 1 fail, 2 bad scenario or usage, 3 invalid or a part is missing, "
    "4 stopped by stop_when, 5 undo not verified, 130 interrupted and undone; of several runs the worst counts"
)


@dataclass(frozen=True)
class Argument:
    """One argument of a command: what argparse is told, and what completes it."""

    names: tuple[str, ...]
    help: str
    completes: Completes = "nothing"
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def is_option(self) -> bool:
        """Whether it begins with a dash."""
        return self.names[0].startswith("-")

    @property
    def takes_value(self) -> bool:
        """Whether a word follows it."""
        return self.settings.get("action", "store") in ("store", "append")

    @property
    def choices(self) -> tuple[str, ...]:
        """The words it takes, where there are only so many."""
        return tuple(self.settings.get("choices", ()))


@dataclass(frozen=True)
class Command:
    """One command."""

    name: str
    help: str
    more: str = ""
    """A paragraph for `--help`."""
    examples: tuple[str, ...] = ()
    arguments: tuple[Argument, ...] = ()


def _flag(name: str, words: str) -> Argument:
    return Argument((name,), words, settings={"action": "store_true"})


_SCENARIOS: dict[str, Any] = {"nargs": "*", "metavar": "SCENARIO"}

COMMANDS: tuple[Command, ...] = (
    Command(
        "run",
        "Run scenarios against real processes, judge them and write reports.",
        more="A scenario is a file, or a name that `seawall list` shows. It starts the gateway, stand-ins for the "
        "providers, Toxiproxy between them and Locust as load; nothing leaves this machine, and no key is needed. "
        "Ctrl-C takes back every fault, ends every process and still writes the report.",
        examples=(
            "seawall run primary-dark",
            "seawall run --tag ci",
            "seawall run --all --plan",
            "seawall run --all --arena simulation --brief",
        ),
        arguments=(
            Argument(("names",), "a file, or a name from the scenarios folder", "scenario", _SCENARIOS),
            Argument(
                ("--tag",), "all scenarios with this tag; may be repeated", "tag", {"action": "append", "default": []}
            ),
            _flag("--all", "all scenarios"),
            Argument(
                ("--arena",),
                "where: wire (real processes, in real time; the default) or simulation (one process, virtual time)",
                settings={"choices": ("wire", "simulation"), "default": "wire", "metavar": "ARENA"},
            ),
            _flag("--plan", "print what would happen and when, and start nothing"),
            Argument(
                ("--jobs",),
                "how many scenarios run side by side (default: %(default)s); those marked exclusive always run alone",
                settings={"type": int, "default": 2, "metavar": "N"},
            ),
            _flag("--brief", "of what passes print the verdict only"),
            _flag("--fail-fast", "begin no other scenario after the first that does not pass"),
            _flag("--no-repeat", "do not run again, alone, what was invalid only because this machine was too busy"),
            Argument(("--seed",), "replace the scenarios' own seed", settings={"type": int, "metavar": "NUMBER"}),
            Argument(
                ("--out",),
                "folder for the reports (default: reports/out in a checkout, else seawall-reports)",
                "folder",
                {"type": Path, "metavar": "FOLDER"},
            ),
        ),
    ),
    Command(
        "hunt",
        "Search for a schedule of faults that breaks the router, and write the smallest one found as a scenario.",
        more="Faults, load and settings are drawn and played in the simulation until one of them breaks what must "
        "always hold. Exit code 1 when something was found, 0 when not.",
        examples=(
            "seawall hunt",
            "seawall hunt --budget 10m --jobs 4",
            "seawall hunt --seed 7 --schedules 500",
            "seawall hunt --set MIDSTREAM=error",
        ),
        arguments=(
            Argument(("--budget",), "how long, such as 60s or 10m (default: 60s)", settings={"metavar": "DURATION"}),
            Argument(("--schedules",), "stop after so many schedules", settings={"type": int, "metavar": "N"}),
            Argument(
                ("--jobs",),
                "how many searches run side by side, each in a process with a seed of its own (default: %(default)s)",
                settings={"type": int, "default": 1, "metavar": "N"},
            ),
            Argument(
                ("--seed",),
                "the same seed draws the same schedules (default: another one each time, which is told)",
                settings={"type": int, "metavar": "NUMBER"},
            ),
            Argument(
                ("--set",),
                "a setting of the router that is not to be drawn; may be repeated",
                settings={"action": "append", "default": [], "metavar": "NAME=VALUE"},
            ),
            Argument(
                ("--router",), "hunt in another router: what makes it, as module:factory", settings={"metavar": "NAME"}
            ),
            Argument(
                ("--out",),
                "folder for what is found (default: scenarios/found in a checkout, else seawall-found)",
                "folder",
                {"type": Path, "metavar": "FOLDER"},
            ),
        ),
    ),
    Command(
        "validate",
        "Check scenario files and say everything that is wrong with them; start nothing.",
        more="Each problem is told as file:line:column with the fix.",
        examples=("seawall validate", "seawall validate mine.yaml"),
        arguments=(Argument(("names",), "files or names (default: all)", "scenario", _SCENARIOS),),
    ),
    Command(
        "list",
        "List the scenarios with their length, tags and titles.",
        arguments=(
            Argument(
                ("--tag",), "only those with this tag; may be repeated", "tag", {"action": "append", "default": []}
            ),
            _flag("--names", "only the names, one a line"),
            _flag("--tags", "only the tags, one a line"),
        ),
    ),
    Command(
        "schema",
        "Print the JSON Schema of scenario files, for your editor.",
        examples=("seawall schema > schema.json",),
    ),
    Command(
        "report",
        "Judge the journal of a run again and write its reports; also of several runs at once.",
        examples=("seawall report", "seawall report reports/out/primary-dark-20260101-120000-ab12"),
        arguments=(
            Argument(
                ("run",),
                "the folder of a run, or of a suite (default: the latest)",
                "folder",
                {"nargs": "?", "type": Path, "metavar": "FOLDER"},
            ),
        ),
    ),
    Command(
        "recover",
        "Take back what killed runs left behind; every run begins with it too.",
        more="Exit code 5 when something could not be taken back or verified.",
    ),
    Command(
        "emulate",
        "Serve stand-ins for Gemini, Claude, OpenAI and Ollama until Ctrl-C.",
        more="Prints where they listen as lines to paste into a shell. They speak the vendors' own wire formats, so "
        "that your gateway, or a vendor's SDK, works with them unchanged.",
        examples=(
            "seawall emulate",
            "seawall emulate --port 9001",
            "seawall emulate --providers openai --ports openai=9003",
        ),
        arguments=(
            Argument(
                ("--providers",),
                "which of gemini, claude, openai, local, with commas between (default: all)",
                settings={"metavar": "NAMES"},
            ),
            Argument(
                ("--port",),
                "the first port; the other providers get the next ones (default: free ones)",
                settings={"type": int, "metavar": "PORT"},
            ),
            Argument(("--ports",), "a port for each, such as gemini=9001,claude=9002", settings={"metavar": "PORTS"}),
            Argument(
                ("--seed",),
                "what is drawn at random derives from it (default: %(default)s)",
                settings={"type": int, "default": 0, "metavar": "NUMBER"},
            ),
        ),
    ),
    Command(
        "serve",
        "Serve the gateway: OpenAI's API in front of all providers.",
        more="Keys and settings come from the environment, a .env file and the file of --config; the first wins. "
        "On SIGTERM or Ctrl-C, answers under way finish first.",
        examples=(
            "seawall serve --demo",
            "GEMINI_API_KEY=… seawall serve --port 8080",
            "seawall serve --config router.yaml --workers 4",
        ),
        arguments=(
            _flag("--demo", "in front of emulated providers: no keys, no costs, nothing leaves this machine"),
            Argument(("--host",), "address to listen on (default: 127.0.0.1)", settings={"metavar": "ADDRESS"}),
            Argument(("--port",), "port, 0 for a free one (default: 8080)", settings={"type": int, "metavar": "PORT"}),
            Argument(
                ("--workers",), "processes that share the port (default: 1)", settings={"type": int, "metavar": "N"}
            ),
            Argument(
                ("--config",),
                "a YAML file with settings; the environment wins over it",
                "file",
                {"type": Path, "metavar": "FILE"},
            ),
            _flag("--ready-json", "print one line of JSON when listening"),
        ),
    ),
    Command(
        "completion",
        "Print a script that lets your shell complete commands, options and scenario names.",
        more='bash: eval "$(seawall completion bash)" in ~/.bashrc; zsh: the same with zsh in ~/.zshrc; '
        "fish: seawall completion fish > ~/.config/fish/completions/seawall.fish",
        arguments=(Argument(("shell",), "bash, zsh or fish", "choice", {"choices": ("bash", "zsh", "fish")}),),
    ),
    Command("version", "Print the version of Seawall and of what it runs on."),
)
