"""Records of a run: dataclasses as JSON objects, facts about labels, and their differences."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Self, get_args, get_origin, get_type_hints

from clipvg.labels import LabelTable
from clipvg.runtime.files import Json


class Record:
    """Mixin that converts a dataclass to and from JSON; fields at their default are left out."""

    def to_dict(self) -> Json:
        """Return the record as JSON values."""
        return {
            field.name: _plain(getattr(self, field.name))
            # Subclasses are dataclasses, which mypy cannot be told of a mixin.
            for field in fields(self)  # type: ignore[arg-type]
            if field.default is MISSING or getattr(self, field.name) != field.default
        }

    @classmethod
    def from_dict(cls, data: Json) -> Self:
        """Restore a record from what `to_dict` returned; unknown keys are ignored."""
        kinds = get_type_hints(cls)
        return cls(**{name: _read(kinds[name], data[name]) for name in kinds if name in data})


def _plain(value: object) -> object:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _read(kind: object, value: Any) -> object:
    """Convert JSON values to records if the type of their field is one."""
    for part in (kind, *get_args(kind)):
        if value is not None and hasattr(part, "from_dict"):
            several = get_origin(kind) is tuple
            return tuple(map(part.from_dict, value)) if several else part.from_dict(value)
    return value


def describe_labels(labels: LabelTable) -> Json:
    """Return the facts by which a run recognises its labels."""
    return {
        "count": len(labels),
        "images": labels.num_images,
        "sources": sorted(set(labels.sources())),
        "fingerprint": labels.fingerprint(),
    }


def whole_root(labels: LabelTable) -> str | None:
    """Return the image root as an absolute path, since runs are read from other folders too."""
    return None if labels.images is None else os.path.abspath(labels.images)


def _flat(value: object, prefix: str = "") -> Json:
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: Json = {}
    for key, item in value.items():
        flat.update(_flat(item, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def differences(there: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Describe each value that differs between an existing run and the current options."""
    old, new = _flat(there), _flat(now)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [
        f"{key.removeprefix('config.')} is {_short(old.get(key))} there, {_short(new.get(key))} now"
        for key in keys
    ]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 24 else text[:12] + "…'"
