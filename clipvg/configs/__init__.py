"""Recipes: YAML files with options of `clipvg train` and `clipvg adapt`, one per setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent


def list_recipes() -> list[str]:
    """Return the names of the recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find_recipe(name: str) -> str:
    """Return the path of a recipe's YAML file; existing files and other names as they are."""
    recipe = FOLDER / f"{name}.yaml"
    return name if Path(name).is_file() or not recipe.is_file() else str(recipe)


def read_recipe(name: str) -> dict[str, Any]:
    """Return the options of a recipe, in their sections."""
    values: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return values
