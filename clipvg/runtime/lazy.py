"""Names of a package that are imported at first use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


def lazy_names(package: str, module_of: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package that imports each name when it is first asked for.

    A name may be that of a module too, as `fit` of `clipvg.training`; the package has what the
    module defines, whichever is imported first.

    Args:
        package: full name of the package.
        module_of: module below the package, or by its full name, that has the name, by name.
    """

    class Package(ModuleType):
        def __setattr__(self, name: str, value: Any) -> None:
            # The import of a module sets it on its package, where it would hide the name.
            if not (name in module_of and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = module_of[name]
        full_name = module if module.startswith("clipvg.") else f"{package}.{module}"
        value = getattr(import_module(full_name), name)
        setattr(sys.modules[package], name, value)
        return value

    sys.modules[package].__class__ = Package
    return get
