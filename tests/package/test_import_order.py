"""Imports inside the package run one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

# Each may import those on earlier lines, and itself; those on one line do not import each other.
ORDER = [
    {"errors", "_version"},
    {"atomic", "boxes", "lock"},
    {"labels"},
    {"ops"},
    {"data"},
    {"pseudo"},
    {"model"},
    {"training"},
    {"reliability"},
    {"curriculum"},
    {"report"},
    {"running"},
    {"adapting"},
    {"api"},
    {"export", "serve"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}

# Methods that draw delegate upwards through an import in their body: (module, imported part).
DRAWING: set[tuple[str, str]] = {
    ("reliability/matrix.py", "report"),
    ("curriculum/threshold.py", "report"),
}

# Compiled and Triton parts belong to clipvg.ops alone.
PRIVATE_TO_OPS = {"kernels", "_ops", "_C"}

PACKAGE = Path(__file__).parents[2] / "clipvg"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def imported_parts(tree: ast.Module, module: str) -> Iterator[tuple[str, bool, int]]:
    """(part of clipvg, whether inside a function, line) of every import, relative ones included."""
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    inside = {id(child) for function in functions for child in ast.walk(function)}
    here = ["clipvg", *Path(module).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = here[: len(here) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "clipvg" else [base]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "clipvg" and len(parts) > 1 and parts[1] != "__version__":
                yield parts[1], id(node) in inside, node.lineno


def test_there_are_modules() -> None:
    assert len(MODULES) > 10


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__.py"])
def test_imports_run_one_way(module: str) -> None:
    part = Path(module).parts[0].removesuffix(".py")
    assert part in RANK, f"clipvg/{module}: give {part} a place in ORDER"
    for imported, lazy, line in imported_parts(ast.parse((PACKAGE / module).read_text()), module):
        where = f"clipvg/{module}:{line} imports clipvg.{imported}"
        if imported in PRIVATE_TO_OPS:
            assert part == "ops", f"{where}, which belongs to clipvg.ops"
            continue
        assert imported in RANK, f"{where}, which has no place in ORDER"
        allowed = imported == part or RANK[imported] < RANK[part]
        assert allowed or (lazy and (module, imported) in DRAWING), f"{where}, which comes later"


def test_kernels_import_nothing_of_the_package() -> None:
    for path in (PACKAGE.parent / "kernels").glob("*.py"):
        parts = [part for part, *_ in imported_parts(ast.parse(path.read_text()), path.name)]
        assert set(parts) <= {"kernels"}, path.name
