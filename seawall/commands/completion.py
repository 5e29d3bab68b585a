"""`seawall completion`: scripts for bash, zsh and fish, made from the table of commands."""

from __future__ import annotations

import shlex
from typing import Any

from seawall.commands.table import COMMANDS, Argument, Command
from seawall.screen import Screen

__all__ = ["completion", "script"]

# What a shell asks for the names that only the scenarios folder knows.
_ASKED = {"scenario": "seawall list --names 2>/dev/null", "tag": "seawall list --tags 2>/dev/null"}


def completion(options: Any) -> int:
    """Print the script of the shell that `options` name."""
    Screen().write(script(options.shell))
    return 0


def script(shell: str) -> str:
    """Return the completion script of `bash`, `zsh` or `fish`."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


def _bash() -> str:
    names = " ".join(command.name for command in COMMANDS)
    return f"""\
# seawall: completion for bash. In ~/.bashrc: eval "$(seawall completion bash)"
_seawall() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "{names} --help --version" -- "$word"))
        return
    fi
    case "${{COMP_WORDS[1]}} $before" in
{_indented(_bash_values(), 8)}
    esac
    case "${{COMP_WORDS[1]}}" in
{_indented(_bash_commands(), 8)}
    esac
}}
complete -o filenames -F _seawall seawall"""


def _bash_values() -> list[str]:
    """Return a case for each option that is followed by a value."""
    return [
        f'"{command.name} {flag}") {_bash_words(argument)}; return ;;'
        for command in COMMANDS
        for argument in command.arguments
        if argument.is_option and argument.takes_value
        for flag in argument.names
    ]


def _bash_words(argument: Argument) -> str:
    match argument.completes:
        case "scenario":
            return (
                f'COMPREPLY=($(compgen -W "$({_ASKED["scenario"]})" -- "$word") $(compgen -f -X "!*.y*ml" -- "$word"))'
            )
        case "tag":
            return f'COMPREPLY=($(compgen -W "$({_ASKED["tag"]})" -- "$word"))'
        case "folder":
            return 'COMPREPLY=($(compgen -d -- "$word"))'
        case "choice":
            return f'COMPREPLY=($(compgen -W "{" ".join(argument.choices)}" -- "$word"))'
        case _:
            return "COMPREPLY=()"


def _bash_commands() -> list[str]:
    """Return a case for each command: its options after a dash, else what its place takes."""
    lines: list[str] = []
    for command in COMMANDS:
        lines.append(f"{command.name})")
        lines.append(
            f'    if [[ $word == -* ]]; then COMPREPLY=($(compgen -W "{_flags(command)}" -- "$word")); return; fi'
        )
        lines += [f"    {_bash_words(place)}" for place in _places(command)]
        lines.append("    ;;")
    return lines


def _zsh() -> str:
    commands = "\n".join(f"        {_quoted(f'{command.name}:{command.help}')}" for command in COMMANDS)
    cases: list[str] = []
    for command in COMMANDS:
        cases.append(f"{command.name}) _arguments \\")
        cases += [f"    {_quoted(spec)} \\" for argument in command.arguments for spec in _zsh_specs(argument)]
        cases.append("    '--help[show help]' ;;")
    return f"""\
#compdef seawall
# seawall: completion for zsh. In ~/.zshrc, after compinit: eval "$(seawall completion zsh)"
_seawall_scenarios() {{ compadd -- ${{(f)"$({_ASKED["scenario"]})"}}; _files -g '*.y*ml' }}
_seawall_tags() {{ compadd -- ${{(f)"$({_ASKED["tag"]})"}} }}
_seawall() {{
    local -a commands=(
{commands}
    )
    if ((CURRENT == 2)); then
        _describe command commands
        return
    fi
    local command=$words[2]
    shift words
    ((CURRENT--))
    case $command in
{_indented(cases, 8)}
    esac
}}
compdef _seawall seawall"""


def _zsh_specs(argument: Argument) -> list[str]:
    actions = {"scenario": "_seawall_scenarios", "tag": "_seawall_tags", "folder": "_files -/", "file": "_files"}
    action = actions.get(argument.completes, f"({' '.join(argument.choices)})" if argument.choices else "")
    if not argument.is_option:
        return [f"{'*' if argument.settings.get('nargs') == '*' else ''}:{argument.names[0]}:{action}"]
    words = (
        argument.help.replace("%(default)s", str(argument.settings.get("default"))).replace("[", "(").replace("]", ")")
    )
    words = words.replace(":", ",")
    value = f":{argument.settings.get('metavar', 'value')}:{action}" if argument.takes_value else ""
    star = "*" if argument.settings.get("action") == "append" else ""
    return [f"{star}{flag}[{words}]{value}" for flag in argument.names]


def _fish() -> str:
    lines = [
        "# seawall: completion for fish. Keep it as ~/.config/fish/completions/seawall.fish",
        "complete -c seawall -f",
    ]
    for command in COMMANDS:
        lines.append(f"complete -c seawall -n __fish_use_subcommand -a {command.name} -d {_quoted(command.help)}")
        here = f"complete -c seawall -n '__fish_seen_subcommand_from {command.name}'"
        for argument in command.arguments:
            words = argument.help.replace("%(default)s", str(argument.settings.get("default")))
            asked = _ASKED.get(argument.completes)
            values = f" -a {_quoted(f'({asked})')}" if asked else ""
            values += f" -a {_quoted(' '.join(argument.choices))}" if argument.choices else ""
            values += " -a '(__fish_complete_directories)'" if argument.completes == "folder" else ""
            values += " -F" if argument.completes == "scenario" else ""
            if argument.is_option:
                value = f" -x{values}" if argument.takes_value else ""
                lines += [f"{here} -l {flag.lstrip('-')}{value} -d {_quoted(words)}" for flag in argument.names]
            elif values:
                lines.append(f"{here}{values}")
    return "\n".join(lines)


def _flags(command: Command) -> str:
    flags = [flag for argument in command.arguments if argument.is_option for flag in argument.names]
    return " ".join([*flags, "--help"])


def _places(command: Command) -> list[Argument]:
    return [argument for argument in command.arguments if not argument.is_option]


def _quoted(text: str) -> str:
    return shlex.quote(text)


def _indented(lines: list[str], by: int) -> str:
    return "\n".join(" " * by + line for line in lines)
