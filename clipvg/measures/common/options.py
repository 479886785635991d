"""Options of measures: fields that say what they may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar, dataclass_transform

from clipvg.errors import InputError, near_matches

T = TypeVar("T")
Word = TypeVar("Word", bound=str)


def positive(default: T) -> T:
    """Return the field of an option above zero."""

    def check(name: str, value: float) -> None:
        if not value > 0:
            raise InputError(f"{name} is {value}; expected a number above 0.")

    return _checked(default, check)


def at_least(default: T, least: float) -> T:
    """Return the field of an option with a least value."""

    def check(name: str, value: float) -> None:
        if not value >= least:
            raise InputError(f"{name} is {value}; expected at least {least:g}.")

    return _checked(default, check)


def inside(default: T, low: float = 0.0, high: float = 1.0) -> T:
    """Return the field of an option in [low, high]."""
    return _checked(default, lambda name, value: check_inside(name, value, low, high))


def one_of(default: Word, choices: Sequence[str]) -> Word:
    """Return the field of an option that is one of some words."""

    def check(name: str, value: str) -> None:
        if value not in choices:
            raise InputError(f"{name}={value!r} is unknown: {near_matches(str(value), choices)}")

    return _checked(default, check)


def check_inside(name: str, value: float, low: float = 0.0, high: float = 1.0) -> None:
    """Raise InputError unless a number lies in [low, high]."""
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; expected a number from {low:g} to {high:g}.")


def _checked(default: T, check: Callable[[str, T], None] | Callable[[str, float], None]) -> T:
    return field(default=default, metadata={"check": check})


@dataclass_transform(
    kw_only_default=True, frozen_default=True, eq_default=False, field_specifiers=(field,)
)
@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """A measure: a frozen dataclass whose fields are its options, given by keyword.

    Subclasses are made dataclasses, and options that say what they may be are checked.
    """

    name: str
    reads: ClassVar[str | None] = None  # property that reads a file, so that a bad one is told now

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True, eq=False)(cls)

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            _check_kind(option, value)
            if "check" in option.metadata and not (value is None and option.default is None):
                if isinstance(value, str) and not isinstance(option.default, str):
                    raise InputError(f"{option.name} is {value!r}; expected a number.")
                option.metadata["check"](option.name, value)
        if self.reads:
            getattr(self, self.reads)

    @property
    def requires(self) -> frozenset[str]:
        """What it needs beside the labels; nothing unless a measure says so."""
        return frozenset()


def _check_kind(option: Field[Any], value: object) -> None:
    """Refuse a number where a word is the default, and anything but true and false for these."""
    if isinstance(option.default, bool) and not isinstance(value, bool):
        raise InputError(f"{option.name} is {value!r}; expected true or false.")
    is_text = isinstance(value, str | Path) or (value is None and "None" in str(option.type))
    if isinstance(option.default, str) and not is_text:
        raise InputError(f"{option.name} is {value!r}; expected text.")
