"""Imports inside the package follow one order, without cycles."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

# A part may import itself and those on earlier lines; parts on one line do not import each other.
ORDER = [
    {"errors"},
    {"boxes", "configs", "runtime"},
    {"similarity"},
    {"labels"},
    {"runs"},
    {"ops"},
    {"pseudo"},
    {"data"},
    {"model"},
    {"features"},
    {"observe"},
    {"training"},
    {"rescoring"},
    {"reliability"},
    {"measures"},
    {"grounders"},
    {"curriculum"},
    {"report"},
    {"api"},
    {"demo", "reproduce"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}

# Drawing methods delegate upwards through an import in their body: (module, imported part).
DRAWING = {("clipvg.reliability.matrix", "report")}

# Compiled and Triton parts, and the only parts that may import them.
PRIVATE = {"kernels": {"ops"}, "_ops": {"ops"}, "_C": {"boxes", "ops"}}

ROOT = Path(__file__).parents[2]


class Import(NamedTuple):
    """An import of a part of clipvg, anywhere in a module."""

    name: str  # of a module, or of something in one
    line: int
    in_function: bool
    for_types: bool  # under TYPE_CHECKING


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_name(path): path for path in ROOT.glob("clipvg/**/*.py")}


@functools.cache
def read_imports(path: Path) -> list[Import]:
    package = path.relative_to(ROOT).parts[:-1]

    def visit(node: ast.AST, in_function: bool, for_types: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*start, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            in_function |= isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for_types |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for child in ast.iter_child_nodes(node):
                if not isinstance(child, ast.expr):  # expressions hold no import
                    yield from visit(child, in_function, for_types)
            return
        for name in names:
            if name.startswith("clipvg."):
                yield Import(name, node.lineno, in_function, for_types)

    return list(visit(ast.parse(path.read_text()), False, False))


def out_of_order(module: str) -> Iterator[str]:
    """Yield a message for each import of a module that breaks the order."""
    part = module.split(".")[1]
    if part not in RANK:
        yield f"{module}: give {part} a place in ORDER"
        return
    for name, line, in_function, _ in read_imports(MODULES[module]):
        imported = name.split(".")[1]
        if imported in (part, "__version__"):
            continue
        where = f"{MODULES[module].relative_to(ROOT)}:{line} imports clipvg.{imported}"
        if imported in PRIVATE:
            if part not in PRIVATE[imported]:
                yield f"{where}, which belongs to {' and '.join(sorted(PRIVATE[imported]))}"
        elif imported not in RANK:
            yield f"{where}, which has no place in ORDER"
        elif RANK[imported] >= RANK[part] and not (in_function and (module, imported) in DRAWING):
            yield f"{where}, which comes later"


def imported_modules(module: str) -> set[str]:
    """Return the modules that running a module's code imports, including those in functions."""
    found = set()
    for name, *_, for_types in read_imports(MODULES[module]):
        if not for_types:
            found.add(name if name in MODULES else name.rpartition(".")[0])
    return (found & MODULES.keys()) - {module, "clipvg"}


def circles(graph: dict[str, set[str]]) -> Iterator[str]:
    """Yield the import cycles, cutting one import of each to find the next."""
    graph = {module: set(imported) for module, imported in graph.items()}
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle = error.args[1][::-1]  # each imports the next
            yield " imports ".join(circle)
            graph[circle[0]].remove(circle[1])
        else:
            return


def test_imports_run_one_way_and_in_no_circle() -> None:
    assert len(MODULES) > 10
    faults = [fault for module in MODULES if module != "clipvg" for fault in out_of_order(module)]
    graph = {module: imported_modules(module) for module in MODULES}
    faults += circles(graph)
    assert not faults, "\n".join(["", *faults])


def test_kernels_import_nothing_of_the_package() -> None:
    for path in ROOT.glob("kernels/*.py"):
        assert all(found.name.startswith("clipvg.kernels") for found in read_imports(path)), path
