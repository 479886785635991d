"""Dataclasses that are JSON objects."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, Self, get_args, get_origin, get_type_hints

from clipvg.runtime.files import Json


class Record:
    """A dataclass that is a JSON object; fields with a default are left out where they have it."""

    def to_dict(self) -> Json:
        """Return JSON values."""
        return {
            field.name: _plain(getattr(self, field.name))
            # Subclasses are dataclasses, which mypy cannot be told of a mixin.
            for field in fields(self)  # type: ignore[arg-type]
            if field.default is MISSING or getattr(self, field.name) != field.default
        }

    @classmethod
    def from_dict(cls, data: Json) -> Self:
        """Read what `to_dict` gave; other keys are ignored."""
        kinds = get_type_hints(cls)
        return cls(**{name: _read(kinds[name], data[name]) for name in kinds if name in data})


def _plain(value: object) -> object:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _read(kind: object, value: Any) -> object:
    """Make records of JSON values where the type of a field says so."""
    for part in (kind, *get_args(kind)):
        if value is not None and hasattr(part, "from_dict"):
            several = get_origin(kind) is tuple
            return tuple(map(part.from_dict, value)) if several else part.from_dict(value)
    return value
