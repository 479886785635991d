"""Code that people name by where it is: ``package.module:member``."""

from __future__ import annotations

from importlib import import_module

from clipvg.errors import InputError


def import_named(name: str, kind: str, member: str) -> object:
    """Import what a name says.

    Args:
        name: the import path.
        kind: what it is for, as "measure"; for the message.
        member: what it should name, as "Class".

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
    """Refuse a name of code that stands in somebody's file, where importing it would run it.

    Raises:
        InputError: it is an import path; says how to ask for it nevertheless.
    """
    if ":" in name:
        raise InputError(
            f"{file}: {kind} {name!r} is code, which a file may not name; write it on the command "
            "line if you trust it"
        )
