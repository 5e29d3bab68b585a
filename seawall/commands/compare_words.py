"""The command `seawall compare` with its options and words."""

from __future__ import annotations

from pathlib import Path

from seawall.commands.arguments import Argument, Command

__all__ = ["COMPARE"]

COMPARE = Command(
    "compare",
    "Run the same scenarios against several gateways, and show them side by side.",
    more="Each is installed from its registry into an environment of its own the first time. Every cell is run in "
    "fresh processes, with the same seeds, the systems in turn. Begun again with the same --out, it goes on where "
    "it was. Exit code 1 when a cell is worse than in --baseline, or not as --require wants it; 3 when "
    "no system could be compared.",
    examples=(
        "seawall compare --systems seawall,direct --scenarios storm",
        "seawall compare --systems seawall,litellm --scenarios storm-500,storm-cut-stream --repeats 3",
        "seawall compare --systems seawall,url:http://127.0.0.1:4000 --scenarios storm --baseline old/compare.json",
    ),
    arguments=(
        Argument(
            ("--systems",),
            "with commas between: seawall, litellm, portkey, tensorzero, bifrost, direct (no gateway), each also "
            "with :tuned; url:http://HOST:PORT",
            settings={"default": "seawall,direct", "metavar": "NAMES"},
        ),
        Argument(
            ("--scenarios",),
            "files, names or folders of scenarios, with commas between (default: %(default)s)",
            "scenario",
            {"default": "storm", "metavar": "NAMES"},
        ),
        Argument(
            ("--repeats",),
            "how often each cell is run (default: %(default)s)",
            settings={"type": int, "default": 1, "metavar": "N"},
        ),
        Argument(
            ("--cost-seconds",),
            "how long what each system costs is measured; 0 leaves it out (default: %(default)s)",
            settings={"type": float, "default": 8.0, "metavar": "SECONDS"},
        ),
        Argument(
            ("--out",),
            "folder for the comparison and its runs (default: compare in the folder of reports)",
            "folder",
            {"type": Path, "metavar": "FOLDER"},
        ),
        Argument(
            ("--require",),
            "a system whose every cell must be pass, partial or safe, or the exit code is 1",
            settings={"metavar": "NAME"},
        ),
        Argument(
            ("--baseline",),
            "compare.json of an earlier comparison: the page says what is worse",
            "file",
            {"type": Path, "metavar": "FILE"},
        ),
    ),
)
