"""
Every command with its options and words: one table, from which the parser and the shell completions are made.

Cheap to import: a completion asks for it at every press of the tab key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seawall.commands.arguments import Argument, Command
from seawall.commands.arguments import flag as _flag
from seawall.commands.cluster_words import CLUSTER, CLUSTER_CHOICE
from seawall.commands.compare_words import COMPARE

__all__ = ["COMMANDS", "EXIT_CODES", "Argument", "Command"]

EXIT_CODES = (
    "exit codes: 0 pass (also safe and partial), 1 fail, 2 bad scenario or usage, 3 invalid or a part is missing, "
    "4 stopped by stop_when or as faults are not allowed any more, 5 undo not verified, 130 interrupted and undone; "
    "of several runs the worst counts"
)


_CERTS_ACTIONS = ("init", "issue", "renew", "revoke", "show", "check")
_SERVICES: dict[str, Any] = {"nargs": "*", "metavar": "SERVICE"}
_TLS_FILES = {
    "--tls-cert": "the gateway's certificate; with --tls-key it speaks TLS, and SIGHUP reads the files again",
    "--tls-key": "its key",
    "--tls-client-ca": "clients must show a certificate of this CA",
    "--tls-crl": "the list of revoked client certificates",
}
_CONFIG = Argument(
    ("--config",),
    "a YAML file with settings; the environment wins over it",
    "file",
    {"type": Path, "metavar": "FILE"},
)
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
                "where: wire (real processes, in real time; the default), simulation (one process, virtual time) or "
                "cluster (pods, by default of the local cluster)",
                settings={"choices": ("wire", "simulation", "cluster"), "default": "wire", "metavar": "ARENA"},
            ),
            *CLUSTER_CHOICE,
            Argument(
                ("--system",),
                "another gateway under test: seawall, litellm, portkey, tensorzero, bifrost or direct, with :tuned for "
                "the best that its documentation allows; or url:http://HOST:PORT, one that runs already",
                settings={"metavar": "NAME"},
            ),
            _flag("--plan", "print what would happen and when, and start nothing"),
            Argument(
                ("--jobs",),
                "how many scenarios run side by side (default: %(default)s); those marked exclusive always run alone",
                settings={"type": int, "default": 2, "metavar": "N"},
            ),
            _flag("--live", "serve the report on loopback while the run goes on, with a button that aborts it"),
            _flag("--brief", "of what passes print the verdict only"),
            _flag("--fail-fast", "begin no other scenario after the first that does not pass"),
            _flag("--no-repeat", "do not run again, alone, what was invalid only because this machine was too busy"),
            Argument(
                ("--annotate",),
                "a Grafana that faults and verdicts are posted to (default: GRAFANA_URL; its token is GRAFANA_TOKEN)",
                settings={"metavar": "URL"},
            ),
            Argument(("--seed",), "replace the scenarios' own seed", settings={"type": int, "metavar": "NUMBER"}),
            Argument(
                ("--out",),
                "folder for the reports (default: reports/out in a checkout, else seawall-reports)",
                "folder",
                {"type": Path, "metavar": "FOLDER"},
            ),
        ),
    ),
    COMPARE,
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
            Argument(("--requests",), "stop after so many requests", settings={"type": int, "metavar": "N"}),
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
        "Judge the journal of a run again and write its reports; also of several runs at once, or compare two.",
        more="`seawall report compare A B` judges both, before and after, and writes compare.html and compare.md; exit "
        "code 1 when a verdict or a check is worse, a run is missing, or a change is more than its budget.",
        examples=(
            "seawall report",
            "seawall report reports/out/primary-dark-20260101-120000-ab12 --open",
            "seawall report --baseline FOLDER",
            "seawall report annotations FOLDER > annotations.json",
            "seawall report compare BEFORE AFTER --budget success_rate=-0.1% --budget latency_p99=+10%",
        ),
        arguments=(
            Argument(
                ("what",),
                "the folder of a run, or of a suite (default: the latest); or `compare` and two of them; or "
                "`annotations` and one: its faults and verdict as JSON for Grafana",
                "folder",
                {"nargs": "*", "metavar": "FOLDER"},
            ),
            Argument(
                ("--baseline",),
                "another run: the page says what changed since that",
                "folder",
                {"type": Path, "metavar": "FOLDER"},
            ),
            Argument(
                ("--budget",),
                "with compare: how much worse a figure may be, or a YAML file of such lines; may be repeated",
                settings={"action": "append", "default": [], "metavar": "FIGURE=CHANGE"},
            ),
            Argument(
                ("--out",),
                "with compare: folder for its reports (default: the second one)",
                "folder",
                {"type": Path, "metavar": "FOLDER"},
            ),
            _flag("--open", "open the page in a browser"),
            _flag("--github", "print annotations for GitHub, and add the summary to GITHUB_STEP_SUMMARY"),
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
            *(Argument((flag,), words, "file", {"metavar": "FILE"}) for flag, words in _TLS_FILES.items()),
            Argument(
                ("--tls-client-names",),
                "which names of client certificates may call, with commas between (default: all of the CA)",
                settings={"metavar": "NAMES"},
            ),
            _flag("--ready-json", "print one line of JSON when listening"),
        ),
    ),
    Command(
        "certs",
        "Make, renew, revoke and check the certificates of mutual TLS.",
        more="init makes a CA and the certificates of backend, db and every --name; issue adds services, renew and "
        "revoke take theirs, show lists all, check says only what needs attention. Nothing is ever overwritten but by "
        "renew and revoke. Exit codes: 0 done, or all is well; 1 check found something; 2 usage, or files that do not "
        "fit.",
        examples=(
            "seawall certs init --dir certs --name web --name metrics=metrics.internal,10.0.0.7",
            "seawall certs renew backend --dir certs",
            "seawall certs revoke web --dir certs",
            "seawall certs check --dir certs --warn 14",
        ),
        arguments=(
            Argument(("action",), "what to do", "choice", {"choices": _CERTS_ACTIONS}),
            Argument(("services",), "the services to issue, renew or revoke", settings=_SERVICES),
            Argument(
                ("--dir",), "the CA's folder (default: certs)", "folder", {"type": Path, "default": Path("certs")}
            ),
            Argument(
                ("--name",),
                "init: one more service, with the hosts it is reached at (default: localhost); may be repeated",
                settings={"action": "append", "default": [], "metavar": "SERVICE[=HOST,HOST…]"},
            ),
            Argument(
                ("--key",),
                "kind of the keys: rsa4096 (default) or ecdsa (P-256)",
                "choice",
                {"choices": ("rsa4096", "ecdsa"), "default": "rsa4096"},
            ),
            Argument(
                ("--days",),
                "how long service certificates last (default: %(default)s); the CA lasts ten years",
                settings={"type": int, "default": 90, "metavar": "N"},
            ),
            Argument(
                ("--warn",),
                "check, show: days before its end from which a certificate needs attention (default: %(default)s)",
                settings={"type": int, "default": 30, "metavar": "N"},
            ),
            _flag("--new-key", "renew: with another key; a revoked certificate always gets one"),
        ),
    ),
    CLUSTER,
    Command(
        "forget",
        "Erase a person from the transcripts: delete the key that opens what was kept of them, for good.",
        more="Every copy of their transcripts, backups included, is noise from then on; what is left of them in the "
        "file is deleted too. It can be repeated. Exit codes: 0 forgotten, or nothing was known; 1 not confirmed; "
        "2 usage or settings; 3 the key store cannot be reached: nothing is certain, so repeat it.",
        examples=("seawall forget alice@example.com --yes", "echo alice@example.com | seawall forget - --yes"),
        arguments=(
            Argument(("subject",), "whom, as requests named them; - reads it from standard input"),
            _flag("--yes", "do not ask"),
            _CONFIG,
        ),
    ),
    Command(
        "transcripts",
        "Print what is kept of a person's conversations, one line of JSON each.",
        examples=("seawall transcripts alice@example.com",),
        arguments=(
            Argument(("subject",), "whose, as requests named them; - reads it from standard input"),
            _CONFIG,
        ),
    ),
    Command(
        "keys",
        "Make or change the master key that wraps the data keys of the transcripts.",
        more="init writes TRANSCRIPTS_MASTER_KEY_FILE. rotate makes another key and wraps every data key anew; killed "
        "half-way it is simply repeated, and running gateways go on. With KMS and Vault, rotate wraps everything anew "
        "under the key that is current there.",
        examples=("seawall keys init", "seawall keys rotate"),
        arguments=(Argument(("action",), "what to do", "choice", {"choices": ("init", "rotate")}), _CONFIG),
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
