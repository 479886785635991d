"""Lazy imports of a package's names, and imports of code that users name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType

from clipvg.errors import InputError


def lazy_imports(package: str) -> tuple[Callable[[str], object], list[str]]:
    """Return `__getattr__` and `__all__` of a package whose names are imported on first use.

    The imports are written once, under ``if TYPE_CHECKING``, each on a line of its own: ``from
    module import Name as Name``.
    """
    source = sys.modules[package].__loader__.get_source(package)  # type: ignore[union-attr]
    lines = [line.split() for line in source.splitlines() if line.startswith("    from ")]
    module_of = {words[-1]: words[1] for words in lines}
    return lazy_names(package, module_of), sorted(module_of)


def lazy_names(package: str, module_of: Mapping[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package that imports each name when it is first used.

    `module_of` maps names to modules, relative to the package or by full name. A name may also be
    that of a module, as `fit` of `clipvg.training`; the package then has what the module defines,
    whichever is imported first.
    """

    class Package(ModuleType):
        def __setattr__(self, name: str, value: object) -> None:
            # Importing a module sets it on its package, where it would hide the name.
            if not (name in module_of and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

        def __dir__(self) -> list[str]:
            return sorted({*super().__dir__(), *module_of})

    def get(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = module_of[name]
        full_name = module if module.startswith("clipvg.") else f"{package}.{module}"
        value = getattr(import_module(full_name), name)
        setattr(sys.modules[package], name, value)
        return value

    sys.modules[package].__class__ = Package
    return get


def import_named(name: str, kind: str, member: str) -> object:
    """Import an object by its import path.

    Args:
        name: import path, such as package.module:Class.
        kind: what the object is used as, such as "measure"; for the error message.
        member: what the path should name, such as "Class"; for the error message.

    Raises:
        InputError: there is no such module, or nothing of that name in it.
    """
    module, _, path = name.partition(":")
    try:
        found: object = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{kind} {name!r} cannot be imported ({error}); expected package.module:{member} of a "
            "package that is installed or on PYTHONPATH."
        ) from None
    return found


def refuse_code(name: str, kind: str, file: str) -> None:
    """Refuse an import path that comes from a file, since importing it would run code.

    Raises:
        InputError: the name is an import path; the message says how to use it nevertheless.
    """
    if ":" in name:
        raise InputError(
            f"{file}: {kind} {name!r} is code, which a file may not name; write it on the command "
            "line if you trust it"
        )
