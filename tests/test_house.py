"""The house's rules, checked on the syntax trees of the package with the standard library alone.

The floors are those of docs/architecture.md. An exception to a rule is named below, with its reason.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "orka"

FLOORS: tuple[tuple[str, frozenset[str]], ...] = (
    ("0 ground", frozenset({"errors", "types", "ids", "clock", "results", "secrets", "version", "recent", "words"})),
    ("1 setting", frozenset({"settings", "logs"})),
    ("2 tools", frozenset({"scoring"})),
    ("2 tools", frozenset({"graph", "template", "redis"})),
    ("3 services", frozenset({"embedding", "llm", "search", "journal"})),
    ("3 services", frozenset({"memory", "dispatch", "brain"})),
    ("4 agents", frozenset({"agents"})),
    ("5 engine", frozenset({"engine"})),
    (
        "6 roots",
        frozenset(
            {"services", "entrypoint", "lifecycle", "operations", "orchestrator", "runs", "stored", "traces", "worker"}
        ),
    ),
    ("7 doors", frozenset({"__init__", "memory_logger", "orka_cli", "testing", "cli", "api"})),
)
"""Lowest first. The packages of one floor do not know each other; its single modules do (`ids` uses `clock`)."""

LONGEST_FILE = 350
LONG_FILES: dict[str, str] = {}
"""Path below orka/ -> why one file teaches better than two."""

LONGEST_FUNCTION = 50
LONG_FUNCTIONS: dict[str, str] = {}
"""`path:function` -> why it is not split."""

CLOCK_READERS = {
    ("time", "time"),
    ("time", "time_ns"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(name: str) -> str:
    """`orka.graph.parse` -> `graph`; `orka` itself -> `__init__`."""
    return name.split(".")[1] if "." in name else "__init__"


def name_of(file: Path) -> str:
    parts = ("orka", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor_of(room: str) -> int | None:
    return next((level for level, (_, rooms) in enumerate(FLOORS) if room in rooms), None)


def is_package(room: str) -> bool:
    return (PACKAGE / room).is_dir()


def imports_of(tree: ast.AST, name: str, package: bool) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of Orka's own modules, wherever it stands in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "orka")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = name.split(".")[: len(name.split(".")) - node.level + package]
                base = ".".join([*above, *([base] if base else [])])
            if base == "orka":
                yield from ((node.lineno, f"orka.{alias.name}") for alias in node.names)
            elif base.startswith("orka."):
                yield node.lineno, base


def floor_faults(source: str, name: str, package: bool = False) -> list[str]:
    room = room_of(name)
    level = floor_of(room)
    if level is None:
        return [f"{room} stands on no floor"]
    faults: list[str] = []
    for line, target in imports_of(ast.parse(source), name, package):
        other = room_of(target)
        below = floor_of(other)
        if other == room:
            continue
        if below is None:
            faults.append(f"{line}: {target} stands on no floor")
        elif below > level:
            faults.append(f"{line}: {name} imports {target} from a higher floor")
        elif below == level and (is_package(room) or is_package(other)):
            faults.append(f"{line}: {name} imports {target} sideways")
    return faults


def dotted(node: ast.expr) -> tuple[str, ...]:
    """`a.b.c` as its last two names, `()` for anything that is not a chain of names."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        names.append(node.id)
    return tuple(reversed(names))[-2:]


def attributes(source: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            yield node.lineno, dotted(node)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.lineno, ((node.module or "").split(".")[-1], alias.name)) for alias in node.names)


def print_faults(source: str, name: str) -> list[str]:
    if room_of(name) == "cli":
        return []
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [f"{call.lineno}: print" for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def environment_faults(source: str, name: str) -> list[str]:
    if name == "orka.settings":
        return []
    readers = {("os", "environ"), ("os", "environb"), ("os", "getenv"), ("os", "getenvb")}
    return [f"{line}: {'.'.join(names)}" for line, names in attributes(source) if names in readers]


def clock_faults(source: str, name: str) -> list[str]:
    return [
        f"{line}: {'.'.join(names)}"
        for line, names in attributes(source)
        if names == ("time", "sleep") or (names in CLOCK_READERS and name != "orka.clock")
    ]


def except_faults(source: str, name: str) -> list[str]:
    """A handler that ends by raising cleans up and swallows nothing."""
    lines = source.splitlines()
    faults: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        broad = any(kind is None or dotted(kind)[-1:] in (("Exception",), ("BaseException",)) for kind in caught)
        beside = lines[max(0, node.lineno - 2) : node.lineno + 1]
        if (
            broad
            and not isinstance(node.body[-1], ast.Raise)
            and not any("bulkhead" in line.partition("#")[2].lower() for line in beside)
        ):
            faults.append(f"{node.lineno}: a broad except that no comment beside it calls a bulkhead")
    return faults


def unfinished_faults(source: str, name: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    wanted = (tokenize.COMMENT, tokenize.STRING)
    return [f"{t.start[0]}: {t.string.strip()}" for t in tokens if t.type in wanted and UNFINISHED.search(t.string)]


def docstring_faults(source: str, name: str) -> list[str]:
    words = (ast.get_docstring(ast.parse(source)) or "").split()
    return [] if len(words) >= 3 else ["1: the module does not say what lives in it"]


Check = Callable[[str, str], list[str]]
CHECKS: tuple[Check, ...] = (
    print_faults,
    environment_faults,
    clock_faults,
    except_faults,
    unfinished_faults,
    docstring_faults,
)


def in_package(check: Check) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}:{fault}"
        for file in modules()
        for fault in check(file.read_text(encoding="utf-8"), name_of(file))
    ]


def documented_floors(text: str) -> dict[str, set[str]]:
    """Of the table whose rows are `| 0 ground | module or package | what |`; an empty first cell repeats the floor."""
    floors: dict[str, set[str]] = {}
    floor = ""
    for row in re.findall(r"^\|(.+?)\|(.+?)\|", text, re.MULTILINE):
        floor = row[0].strip() or floor
        if re.fullmatch(r"\d \w+", floor):
            floors.setdefault(floor, set()).update(re.findall(r"`(\w+)(?:\.py|/)`", row[1]))
    return floors


def test_the_floors_are_those_of_the_architecture_page() -> None:
    page = ROOT / "docs" / "architecture.md"
    ours: dict[str, set[str]] = {}
    for floor, rooms in FLOORS:
        ours.setdefault(floor, set()).update(rooms)
    assert documented_floors(page.read_text(encoding="utf-8")) == ours


def test_every_import_goes_down() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{fault}"
        for file in modules()
        for fault in floor_faults(file.read_text(encoding="utf-8"), name_of(file), file.name == "__init__.py")
    ]
    assert found == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removesuffix("_faults"))
def test_package_keeps_the_rule_about(check: Check) -> None:
    assert in_package(check) == []


def test_long_files_are_named_with_a_reason() -> None:
    lengths = {str(f.relative_to(PACKAGE)): len(f.read_text(encoding="utf-8").splitlines()) for f in modules()}
    too_long = {name for name, length in lengths.items() if length > LONGEST_FILE}
    assert too_long == set(LONG_FILES)
    assert all(len(reason.split()) >= 5 for reason in LONG_FILES.values())


def function_lengths() -> Iterator[tuple[str, int]]:
    """Lines of every function without its decorators, signature and docstring."""
    for file in modules():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body:
                    lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
                    yield f"{file.relative_to(PACKAGE)}:{node.name}", lines


def test_long_functions_are_named_with_a_reason() -> None:
    too_long = {name for name, lines in function_lengths() if lines > LONGEST_FUNCTION}
    assert too_long == set(LONG_FUNCTIONS)
    assert all(len(reason.split()) >= 5 for reason in LONG_FUNCTIONS.values())


BROKEN = (
    (print_faults, "print('x')", "orka.engine.executor"),
    (environment_faults, "import os\nos.environ['A']", "orka.redis.server"),
    (environment_faults, "from os import getenv", "orka.cli.main"),
    (clock_faults, "import time\ntime.time()", "orka.ids"),
    (clock_faults, "from time import time", "orka.ids"),
    (clock_faults, "import time\ntime.sleep(1)", "orka.clock"),
    (clock_faults, "from datetime import datetime\ndatetime.now()", "orka.journal.entry"),
    (clock_faults, "import datetime\ndatetime.datetime.utcnow()", "orka.journal.entry"),
    (except_faults, "try:\n    f()\nexcept:\n    pass", "orka.engine.executor"),
    (except_faults, "try:\n    f()\nexcept Exception:\n    pass", "orka.engine.executor"),
    (except_faults, "try:\n    f()\nexcept (ValueError, BaseException):\n    pass", "orka.engine.executor"),
    (except_faults, "try:\n    f()\nexcept Exception as bulkhead:\n    pass", "orka.engine.executor"),
    (unfinished_faults, "x = 1  # TODO later", "orka.ids"),
    (docstring_faults, "x = 1", "orka.ids"),
    (docstring_faults, '"""ids"""', "orka.ids"),
    (floor_faults, "from orka.engine import executor", "orka.journal.entry"),
    (floor_faults, "import orka.cli.main", "orka.orchestrator"),
    (floor_faults, "from orka import template", "orka.graph.check"),
    (floor_faults, "from ..redis import client", "orka.graph.check"),
    (floor_faults, "def f():\n    from orka.engine.executor import Executor", "orka.agents.echo"),
    (floor_faults, "x = 1", "orka.unheard_of"),
)


@pytest.mark.parametrize(("check", "source", "name"), BROKEN)
def test_a_broken_rule_is_seen(check: Check, source: str, name: str) -> None:
    assert len(check(source, name)) == 1


KEPT = (
    (
        except_faults,
        "try:\n    f()\n# Bulkhead: an agent may raise anything.\nexcept Exception:\n    pass",
        "orka.engine.x",
    ),
    (except_faults, "try:\n    f()\nexcept Exception:  # bulkhead: a task\n    pass", "orka.engine.x"),
    (except_faults, "try:\n    f()\nexcept BaseException:\n    g()\n    raise", "orka.engine.x"),
    (print_faults, "print('x')", "orka.cli.output"),
    (clock_faults, "import time\ntime.time_ns()", "orka.clock"),
    (floor_faults, "from orka.clock import now_ms", "orka.ids"),
    (floor_faults, "from .nodes import Node", "orka.graph.check"),
    (floor_faults, "from ..types import Json", "orka.graph.check"),
    (unfinished_faults, "todo = 1", "orka.ids"),
)


@pytest.mark.parametrize(("check", "source", "name"), KEPT)
def test_a_kept_rule_is_left_alone(check: Check, source: str, name: str) -> None:
    assert check(source, name) == []
