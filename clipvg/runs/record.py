"""What a run records: dataclasses as JSON objects, its labels, and how two of them differ."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Self, get_args, get_origin, get_type_hints

from clipvg.labels import LabelTable
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


def describe_labels(labels: LabelTable) -> Json:
    """Return what a run keeps of its labels, to know them again."""
    return {
        "count": len(labels),
        "images": labels.num_images,
        "sources": sorted(set(labels.sources())),
        "fingerprint": labels.fingerprint(),
    }


def whole_root(labels: LabelTable) -> str | None:
    """Return the image root as a whole path: a run is read from other folders too."""
    return None if labels.images is None else os.path.abspath(labels.images)


def _flat(value: object, prefix: str = "") -> Json:
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: Json = {}
    for key, item in value.items():
        flat.update(_flat(item, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def differences(there: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return in words each value that is another one there than it is now."""
    old, new = _flat(there), _flat(now)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [
        f"{key.removeprefix('config.')} is {_short(old.get(key))} there, {_short(new.get(key))} now"
        for key in keys
    ]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 24 else text[:12] + "…'"
