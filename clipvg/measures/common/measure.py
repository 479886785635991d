"""The base of measures: a frozen dataclass whose annotations say what its options may be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, dataclass_transform

from clipvg.errors import InputError
from clipvg.runtime.fields import field_problems


@dataclass_transform(
    kw_only_default=True, frozen_default=True, eq_default=False, field_specifiers=(field,)
)
@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """A measure: a frozen dataclass whose fields are its options, given by keyword.

    Subclasses are made dataclasses. Options are checked against their annotations, which are read
    when a measure is made: ``Annotated[int, (1, None)]`` is an integer from 1 on,
    ``Literal["members", "label"]`` one of two words.
    """

    name: str  # name of its score column
    reads: ClassVar[str | None] = None  # property that reads a file, so that a bad one is told now

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True, eq=False)(cls)

    def __post_init__(self) -> None:
        if problems := [*field_problems(self)] or [*self.problems()]:
            raise InputError(f"{self.name}: {'; '.join(problems)}")
        if self.reads:
            getattr(self, self.reads)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with options that fit their annotations one by one."""
        return iter(())

    @property
    def requires(self) -> frozenset[str]:
        """What it needs beside the labels; nothing unless a measure says so."""
        return frozenset()
