"""
The `seawall` command: which function serves which subcommand, and what every one of them has in common.

`seawall.commands` holds what they do. Whatever is heavy is imported inside the functions, so that `seawall --help`
and a press of the tab key are quick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main", "render_of", "report_of", "shadowed"]

_OWN = ("router", "faults", "reports", "loadtests")
_EXTRAS = {
    "serve": "gateway",
    "certs": "crypto",
    "cluster": "cluster",
    "forget": "crypto",
    "transcripts": "crypto",
    "keys": "crypto",
}
"""What brings the packages of a command; all others need the harness."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code (`seawall.run.Exit`)."""
    from seawall.commands.parser import parse
    from seawall.screen import complain

    shadow = shadowed()
    if shadow is not None:
        complain(f"seawall: {shadow}")
        return 2
    options = parse(list(sys.argv[1:] if argv is None else argv))
    try:
        return int(_COMMANDS[options.command](options))
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] in {"seawall", *_OWN}:
            raise
        extra = _EXTRAS.get(options.command, "harness")
        complain(f"seawall: {error.name} is not installed; pip install 'seawall[{extra}]'")
        return 3


def _run(options: Any) -> int:
    from reports.render import render
    from reports.suite import render_suite
    from seawall.commands.running import run

    return run(options, render=render, render_suite=render_suite)


def _report(options: Any) -> int:
    from reports.annotations import annotations_of
    from reports.changes import compare_folders
    from reports.render import render, view_in
    from reports.suite import render_suite
    from seawall.commands.reporting import Reports, report

    reports = Reports(
        render=render,
        render_suite=render_suite,
        annotations=lambda folder: annotations_of(view_in(folder)),
        compare=compare_folders,
    )
    return report(options, reports=reports)


def _validate(options: Any) -> int:
    from seawall.commands.scenarios import validate

    return validate(options)


def _list(options: Any) -> int:
    if options.names and not options.tag:
        # A shell asks for these at every press of the tab key: nothing is read but the folder.
        from seawall.commands.names import list_names

        return list_names()
    from seawall.commands.scenarios import list_scenarios

    return list_scenarios(options)


def _schema(options: Any) -> int:
    from seawall.commands.scenarios import schema

    return schema(options)


def _recover(options: Any) -> int:
    from seawall.commands.upkeep import take_back

    return take_back(options)


def _version(options: Any) -> int:
    from seawall.commands.upkeep import show_version

    return show_version(options)


def _compare(options: Any) -> int:
    from reports.render import render
    from reports.systems import render_comparison
    from seawall.commands.compare import compare

    return compare(options, render=render, render_comparison=render_comparison)


def _hunt(options: Any) -> int:
    from seawall.commands.hunting import run_hunt

    return run_hunt(options)


def _emulate(options: Any) -> int:
    from seawall.commands.emulate import emulate

    return emulate(options)


def _serve(options: Any) -> int:
    from seawall.commands.serve import serve

    return serve(options)


def _certs(options: Any) -> int:
    from seawall.commands.certs import certs

    return certs(options)


def _cluster(options: Any) -> int:
    from seawall.commands.cluster import cluster

    return cluster(options)


def _forget(options: Any) -> int:
    from seawall.commands.erasing import forget

    return forget(options)


def _transcripts(options: Any) -> int:
    from seawall.commands.erasing import transcripts

    return transcripts(options)


def _keys(options: Any) -> int:
    from seawall.commands.erasing import keys

    return keys(options)


def _completion(options: Any) -> int:
    from seawall.commands.completion import completion

    return completion(options)


_COMMANDS: dict[str, Callable[[Any], int]] = {
    "run": _run,
    "compare": _compare,
    "hunt": _hunt,
    "validate": _validate,
    "list": _list,
    "schema": _schema,
    "report": _report,
    "recover": _recover,
    "emulate": _emulate,
    "serve": _serve,
    "certs": _certs,
    "cluster": _cluster,
    "forget": _forget,
    "transcripts": _transcripts,
    "keys": _keys,
    "completion": _completion,
    "version": _version,
}


def report_of(folder: Path) -> Path:
    """Judge the journal in `folder`, write the reports beside it, and return the page. Raises what `render` raises."""
    from reports.render import render

    render(folder)
    return folder / "index.html"


def render_of(folder: Path) -> Any:
    """Judge the journal in `folder`, write the reports beside it, and return the verdict. Raises what `render` does."""
    from reports.render import render

    return render(folder)


def shadowed() -> str | None:
    """Return a sentence when another distribution's package stands in the way of one of ours."""
    import importlib.util

    home = Path(__file__).resolve().parent.parent
    for name in _OWN:
        spec = importlib.util.find_spec(name)
        origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if origin is None or origin.parent.parent != home:
            found = origin or "missing"
            return f"the package {name!r} is not Seawall's own but {found}; run elsewhere, or remove what shadows it"
    return None


if __name__ == "__main__":
    raise SystemExit(main())
