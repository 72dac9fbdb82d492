"""The house, held by a machine: floors, light imports, bounded functions (DESIGN, CONTRIBUTING)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import zoobench

ROOT = Path(zoobench.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# The floors of the house, from the ground up. An import may only point down, or stay on its floor.
FLOORS = (
    {
        "statistics", "errors", "escape", "plugins", "files", "arrays", "network", "quantities",
        "worktime",
    },
    {"transfer", "audio"},
    {"hub", "machine", "refs"},
    {"solvers", "schema"},
    {"interfaces", "views", "store", "predictions", "metrics"},
    {"tasks"},
    {"models"},
    {"datasets"},
    {"ranking"},
    {"features"},
    {"costs"},
    {"methods"},
    {"compare"},
    {"generation"},
    {"pretraining"},
    {"workers"},
    {"usability"},
    {"runs"},
    {"export"},
    {"advise"},
    {"report"},
    {"api", "cli", "__main__"},
)  # fmt: skip
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}

TORCH_FREE = (
    "errors", "escape", "plugins", "refs", "schema", "store", "statistics", "ranking", "compare",
    "report", "api", "cli",
)  # fmt: skip
HEAVY = {
    "torch", "torchvision", "timm", "transformers", "sklearn", "matplotlib", "ray", "fvcore",
    "datasets", "pandas",
}  # fmt: skip

# Pure tensor maths may import torch at its top; nobody imports it before a tensor is at hand.
MAY_IMPORT_HEAVY = ("solvers", "costs")


def floor_of(path: Path) -> str:
    part = path.relative_to(ROOT).parts[0]
    return part.removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Every absolute import below `tree`, as (node, dotted name)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            module = node.module or ""
            yield node, module
            if module == "zoobench":
                for alias in node.names:
                    yield node, f"zoobench.{alias.name}"


def at_run_time(tree: ast.Module) -> ast.Module:
    """`tree` without its `if TYPE_CHECKING:` blocks."""
    body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    ]
    return ast.Module(body=body, type_ignores=[])


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    own = floor_of(path)
    if own == "__init__":
        return
    for node, name in imports(at_run_time(ast.parse(path.read_text(encoding="utf-8")))):
        parts = name.split(".")
        if parts[0] == "zoobench" and len(parts) > 1 and parts[1] in LEVEL:
            below = LEVEL[parts[1]] <= LEVEL[own]
            assert below, f"line {node.lineno}: {own} imports {name}"


def test_no_file_imports_itself_in_a_circle() -> None:
    """Imports inside of functions count too: a circle that is closed later is one."""
    files = {module_name(path) for path in FILES}
    graph = {}
    for path in FILES:
        needed = set()
        for node in ast.walk(at_run_time(ast.parse(path.read_text("utf-8")))):
            if isinstance(node, ast.Import):
                needed |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                # `from zoobench import models` needs the module, not all of the package.
                needed |= inside if inside <= files else {*(inside & files), node.module}
        graph[module_name(path)] = needed & files
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top_level(path: Path) -> set[str]:
    """The first part of each module that importing `path` imports."""
    tree = at_run_time(ast.parse(path.read_text(encoding="utf-8")))
    found = set()
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {name.split(".")[0] for _, name in imports(node)}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    if path.parent.name == "scripts":  # they are copied to where there is no zoobench
        return
    heavy = top_level(path) & HEAVY
    floor = floor_of(path)
    if floor in MAY_IMPORT_HEAVY and path.name != "__init__.py":
        heavy -= {"torch"}
    assert not heavy


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_floors_without_torch_stay_without(path: Path) -> None:
    if floor_of(path) not in TORCH_FREE:
        return
    tree = at_run_time(ast.parse(path.read_text(encoding="utf-8")))
    assert "torch" not in {name.split(".")[0] for _, name in imports(tree)}


def never_loads(names: set[str], *lines: str) -> None:
    """None of the modules `names` is there when a fresh interpreter has run `lines`."""
    check = f"import sys; there = {names!r} & set(sys.modules); assert not there, there"
    code = "\n".join([*lines, check])
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_help_and_import_are_light() -> None:
    never_loads(
        {"torch", "numpy", "pandas", "pydantic", "timm", "rich", "PIL"},
        "import zoobench.cli.main",
        "from click.testing import CliRunner",
        "assert CliRunner().invoke(zoobench.cli.main.main, ['--help']).exit_code == 0",
    )


def test_listing_models_is_light() -> None:
    never_loads(
        {"torch", "numpy", "pandas", "pydantic", "timm", "PIL"},
        "import zoobench.cli.main",
        "from click.testing import CliRunner",
        "from zoobench.models import index",
        "index.cards = lambda source: ()",  # a new index reads timm and torchvision
        "found = CliRunner().invoke(zoobench.cli.main.main, ['list', 'models', '*lite*'])",
        "assert 'efficientnet-lite0' in found.output, found.output",
    )


def test_reading_a_suite_and_a_run_never_loads_torch() -> None:
    never_loads(
        {"torch", "timm"},
        "import zoobench.api",
        "from zoobench.runs import planning, suite",
        "from zoobench.report import terminal, write",
        "assert planning.plan(suite.read('smoke'))",
    )


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def test_a_class_name_stands_once() -> None:
    named: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                named.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: where for name, where in named.items() if len(where) > 1}


def test_functions_stay_short_and_take_few_parameters() -> None:
    long = [w for w, f in functions() if (f.end_lineno or 0) - f.lineno + 1 > 60]
    wide = [
        w
        for w, f in functions()
        if len(f.args.args) + len(f.args.kwonlyargs) + len(f.args.posonlyargs) > 7
    ]
    assert not long
    assert not wide


def test_files_stay_readable() -> None:
    long = [str(p.relative_to(ROOT)) for p in FILES if p.read_text("utf-8").count("\n") > 400]
    assert not long


def test_public_names_have_docstrings() -> None:
    bare = [
        where
        for where, node in functions()
        if not node.name.startswith("_") and len(node.body) > 4 and ast.get_docstring(node) is None
    ]
    assert len(bare) <= 40, bare
