"""Files stay short, and few public functions take many arguments."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "clipvg").rglob("*.py"))

LONGEST = 350  # lines of a file
MOST = 7  # arguments of a function
WITH_MORE = 6  # public functions that may take more


def public_functions(
    node: ast.AST, path: str, *, is_method: bool = False
) -> Iterator[tuple[str, int]]:
    """Yield the name and number of arguments, without self, of each public function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from public_functions(child, f"{path}.{child.name}", is_method=True)
        elif isinstance(child, ast.FunctionDef):
            if child.name.startswith("_") and child.name != "__init__":
                continue
            given = child.args
            is_bound = is_method and "staticmethod" not in map(ast.unparse, child.decorator_list)
            count = len(given.posonlyargs + given.args + given.kwonlyargs) - is_bound
            yield f"{path}.{child.name}", count


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in FILES}
    assert [f"{path}: {n} lines" for path, n in lengths.items() if n > LONGEST] == []


def test_few_public_functions_take_many_arguments() -> None:
    found = [
        (name, count)
        for path in FILES
        for name, count in public_functions(ast.parse(path.read_text()), path.stem)
        if count > MOST
    ]
    assert len(found) <= WITH_MORE, found
