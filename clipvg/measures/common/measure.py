"""Base class of measures: a frozen dataclass whose annotations constrain its options."""

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

    Subclasses become dataclasses automatically. Options are checked against their annotations when
    a measure is created: ``Annotated[int, (1, None)]`` is an integer of at least 1,
    ``Literal["members", "label"]`` one of two words.
    """

    name: str  # name of its score column
    reads: ClassVar[str | None] = None  # property evaluated on creation, to reject bad files early

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True, eq=False)(cls)

    def __post_init__(self) -> None:
        if problems := [*field_problems(self)] or [*self.problems()]:
            raise InputError(f"{self.name}: {'; '.join(problems)}")
        if self.reads:
            getattr(self, self.reads)

    def problems(self) -> Iterator[str]:
        """Yield problems with options that each satisfy their annotation."""
        return iter(())

    @property
    def requires(self) -> frozenset[str]:
        """What the measure needs besides the labels; nothing by default."""
        return frozenset()
