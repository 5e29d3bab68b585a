"""The house rules that a machine can see. Each names its offenders, so that a failure reads as a list of work."""

from __future__ import annotations

import ast
import os
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("router", "faults", "loadtests", "reports", "seawall")
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}
# Path → why it may be longer than FILE_LINES_MAX.
LONG_FILES: dict[str, str] = {}
# Modules → how many lines of code they may have in all. Raise neither: what can be injected goes to another room.
CODE_LINES_MAX = {
    "router/**/*.py": 4_000,
    "router/{chain,plan,breaker,latency,budget,pricing,errors,settings,models}.py": 1_500,
}
# Those whose trade is the terminal. Everything else hands its words to a caller.
PRINTERS = ("__main__.py", "cli.py", "progress.py")
TEXTS = {"", ".cfg", ".css", ".html", ".js", ".json", ".md", ".mod", ".py", ".toml", ".txt", ".yaml", ".yml"}
SKIPPED = {".git", ".hypothesis", ".nox", ".pytest_cache", ".ruff_cache", "__pycache__", "build", "dist", "out"}
# Written in pieces: this file is held to the rule too.
PROMISES = re.compile(rf"\b({'TO' + 'DO'}|{'FIX' + 'ME'}|{'XX' + 'X'})\b")
MACHINE_PATHS = re.compile(r"(?:^|[^\w.>)}-])/(?:home|root|work|Users)/\w")
# Module → distribution, where the names differ.
DISTRIBUTIONS = {
    "dotenv": "python-dotenv",
    "google": "google-genai",
    "opentelemetry": "opentelemetry-api",
    "pytest_asyncio": "pytest-asyncio",
    "ruamel": "ruamel-yaml",
    "toxiproxy": "toxiproxy-python",
}
ADDED_BY_HAND = re.compile(r"^[a-z0-9][a-z0-9-]*\.(added|changed|deprecated|removed|fixed|security)\.md$")


def test_every_module_says_what_it_is_for() -> None:
    """Every module of ours begins with a docstring."""
    _none(_name(path) for path in _python() if not ast.get_docstring(_tree(path)))


def test_every_public_name_keeps_a_promise() -> None:
    """Every class and function in an `__all__` has a docstring."""
    _none(
        f"{_name(path)}:{node.lineno} {node.name}"
        for path in _python(*ROOMS)
        for node in _tree(path).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name in (_exports(path) or ())
        and not ast.get_docstring(node)
    )


def test_every_test_states_its_property() -> None:
    """Every test function has a docstring."""
    _none(
        f"{_name(path)}:{node.lineno} {node.name}"
        for path in _python("tests")
        if path.name.startswith("test_")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    )


def test_annotations_are_never_evaluated_early() -> None:
    """Every module with code has `from __future__ import annotations`."""
    _none(_name(path) for path in _python() if not _postponed(_tree(path)))


def test_public_modules_say_what_they_export() -> None:
    """Every public module that defines something has an `__all__`."""
    _none(_name(path) for path in _python(*ROOMS) if _is_public(path) and _defines(path) and _exports(path) is None)


def test_exports_are_sorted_and_true() -> None:
    """An `__all__` is sorted (constants, classes, functions), names nothing twice, and nothing that is not there."""
    offences: list[str] = []
    for path in _python(*ROOMS):
        exports = _exports(path)
        if exports is None:
            continue
        if exports != sorted(set(exports), key=_export_order):
            offences.append(f"{_name(path)}: not sorted, or a name twice")
        # A module with `__getattr__` makes names on demand; test_imports and the newcomer's test reach for them.
        if "__getattr__" not in _bound(path):
            offences += [f"{_name(path)}: {name} is not there" for name in exports if name not in _bound(path)]
    _none(offences)


def test_files_can_be_read_in_one_sitting() -> None:
    """No file is longer than 400 lines but those that say why; and those that say why are."""
    lengths = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in _python()}
    _none(f"{name}: {length} lines" for name, length in lengths.items() if length > _allowed(name))
    _none(f"{name}: no need for an exception any more" for name in LONG_FILES if lengths[name] <= FILE_LINES_MAX)


def test_functions_fit_on_a_screen() -> None:
    """No function is longer than 70 lines, docstring included."""
    _none(
        f"{_name(path)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in _python()
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= FUNCTION_LINES_MAX
    )


@pytest.mark.parametrize("modules", CODE_LINES_MAX)
def test_the_core_stays_small_enough_to_be_read(modules: str) -> None:
    """The router, and the decisions in it, keep within their lines of code; comments and docstrings are free."""
    head, _, tail = modules.partition("{")
    names, _, rest = tail.partition("}")
    patterns = [f"{head}{name}{rest}" for name in names.split(",")]
    counts = {_name(path): _code_lines(path) for pattern in patterns for path in ROOT.glob(pattern)}
    assert len(counts) >= len(patterns), "a module has gone: name the one that took its place"
    total = sum(counts.values())
    largest = ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1])[:5])
    assert total <= CODE_LINES_MAX[modules], f"{total} lines of code; the largest: {largest}"


def test_only_the_command_prints() -> None:
    """No module but those of the command line calls `print`."""
    _none(
        f"{_name(path)}:{node.lineno}"
        for path in _python(*ROOMS)
        if path.name not in PRINTERS
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    )


def test_no_promises_for_later() -> None:
    """No file of ours puts work off with one of the usual words."""
    _none(_lines_with(PROMISES))


def test_no_path_of_one_machine() -> None:
    """No file of ours names a path that exists on its author's machine only."""
    _none(_lines_with(MACHINE_PATHS))


def test_every_nox_session_is_documented() -> None:
    """Every nox session has a docstring of one line, and stands in CONTRIBUTING.md."""
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    offences: list[str] = []
    for function, name in _sessions():
        said = ast.get_docstring(function) or ""
        if len(said.splitlines()) != 1:
            offences.append(f"{function.name}: its docstring must be one line")
        if f"`{name}`" not in guide and f"nox -s {name}`" not in guide:
            offences.append(f"{name}: not in CONTRIBUTING.md")
    assert _sessions(), "no session found: has the noxfile changed its form?"
    _none(offences)


def test_every_dependency_has_its_reason() -> None:
    """Every dependency in pyproject.toml has an entry in docs/dependencies.md, and every entry is a dependency."""
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `([a-z0-9-]+)` \|", text, flags=re.MULTILINE))
    declared = _dependencies()
    _none(f"{name} is not explained" for name in sorted(declared - explained))
    _none(f"{name} is explained, and is no dependency" for name in sorted(explained - declared))


def test_every_package_imported_is_a_dependency() -> None:
    """What our code imports stands in pyproject.toml itself: what another dependency brings may go as it came."""
    declared = _dependencies()
    helpers = {path.stem for path in (ROOT / "tests").rglob("*.py")}  # a conftest puts them on the path
    _none(
        f"{_name(path)}:{node.lineno} {module}"
        for path in _python(*ROOMS, "tests")
        for node in ast.walk(_tree(path))
        for module in _imported(node)
        if module not in (*ROOMS, "benchmarks", *helpers, *sys.stdlib_module_names)
        and DISTRIBUTIONS.get(module, module.replace("_", "-")) not in declared
    )


def test_changelog_fragments_are_named_by_their_kind() -> None:
    """A fragment in changelog.d is called `what-it-is.kind.md`, kinds as in Keep a Changelog, and is not empty."""
    fragments = [path for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md"]
    _none(path.name for path in fragments if not ADDED_BY_HAND.match(path.name) or not path.read_text("utf-8").strip())


def _none(offences: Iterator[str] | list[str]) -> None:
    found = list(offences)
    assert not found, f"{len(found)} to mend:\n" + "\n".join(found)


@cache
def _python(*folders: str) -> tuple[Path, ...]:
    return tuple(path for path in _texts() if path.suffix == ".py" and _is_in(path, folders))


@cache
def _texts() -> tuple[Path, ...]:
    """Return every text file of the tree that is ours, locks left out: those are made."""
    found: list[Path] = []
    for folder, names, files in os.walk(ROOT):
        names[:] = sorted(name for name in names if name not in SKIPPED and not name.endswith(".egg-info"))
        found += [Path(folder, name) for name in sorted(files) if Path(name).suffix in TEXTS]
    return tuple(path for path in found if path.parent.name != "requirements" and path.name != "LICENSE")


def _is_in(path: Path, folders: tuple[str, ...]) -> bool:
    return not folders or path.relative_to(ROOT).parts[0] in folders


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _code_lines(path: Path) -> int:
    """Return how many lines hold a token other than comments and docstrings."""
    words: set[int] = set()
    texts = (node for node in ast.walk(_tree(path)) if isinstance(node, ast.Expr))
    for text in texts:
        if isinstance(text.value, ast.Constant) and isinstance(text.value.value, str):
            words.update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in NO_CODE]
    return len({line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - words)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _allowed(name: str) -> float:
    return float("inf") if name in LONG_FILES else FILE_LINES_MAX


def _is_public(path: Path) -> bool:
    return path.name == "__init__.py" or not path.name.startswith("_")


def _postponed(tree: ast.Module) -> bool:
    code = [node for node in tree.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    return not code or any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in code)


def _defines(path: Path) -> bool:
    """Say whether a module has something to export; a package's `__init__` also has what it imports of ours."""
    body = _tree(path).body
    own = any(
        isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
        for node in body
    )
    taken = any(isinstance(node, ast.ImportFrom) and node.module != "__future__" for node in body)
    return own or (path.name == "__init__.py" and taken)


def _exports(path: Path) -> list[str] | None:
    for node in _tree(path).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return [str(name) for name in ast.literal_eval(node.value)]
    return None


def _export_order(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@cache
def _bound(path: Path) -> frozenset[str]:
    """Return the names that a module binds at its top level, in `if` and `try` too."""
    names: set[str] = set()
    for node in _top_level(_tree(path).body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return frozenset(names)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        for part in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(node, ast.If | ast.Try):
                for inner in getattr(node, part, []):
                    yield from _top_level(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def _lines_with(pattern: re.Pattern[str]) -> Iterator[str]:
    for path in _texts():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if pattern.search(line):
                yield f"{_name(path)}:{number} {line.strip()[:100]}"


def _sessions() -> list[tuple[ast.FunctionDef, str]]:
    """Return each session's function and name; a name made in a loop is told by its beginning."""
    found: list[tuple[ast.FunctionDef, str]] = []
    for node in ast.walk(_tree(ROOT / "noxfile.py")):
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if ast.unparse(decorator).split("(")[0] != "nox.session":
                continue
            given = {k.arg: k.value for k in decorator.keywords} if isinstance(decorator, ast.Call) else {}
            name = given.get("name")
            if name is None:
                found.append((node, node.name))
            else:  # f"tests-{version}"
                versions = [f"tests-{version}" for version in ("3.12", "3.13")]
                assert "tests-" in ast.unparse(name)
                found += [(node, version) for version in versions]
    return found


def _imported(node: ast.AST) -> list[str]:
    """Return the top-level packages that this statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module.split(".")[0]]
    return []


def _dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = [
        project["build-system"]["requires"],
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    lines = [line for group in groups for line in group if isinstance(line, str)]
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in lines}
    return {name.replace(".", "-").replace("_", "-") for name in names} - {"seawall"}
