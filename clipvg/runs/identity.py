"""What makes a run the run it is, and how two differ."""

from __future__ import annotations

import os
from collections.abc import Mapping

from clipvg.labels import LabelTable
from clipvg.runtime.files import Json


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
