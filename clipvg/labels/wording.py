"""How errors name the columns of tables and what they hold."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from clipvg.errors import InputError, near_matches

_SHOWN = 15  # columns that an error lists
_OTHER_NAMES = {  # that columns have elsewhere, in lower case
    "image": ("file_name", "filename", "image_path", "img_path", "path", "image_id"),
    "expression": ("caption", "phrase", "sentence", "text", "description", "query", "sent"),
    "box": ("bbox", "box_2d", "bounding_box"),
}
_SIDES = (  # of boxes
    ({"x1": "xmin", "y1": "ymin", "x2": "xmax", "y2": "ymax"}, ()),
    ({"x1": "x_min", "y1": "y_min", "x2": "x_max", "y2": "y_max"}, ()),
    ({"w": "width", "h": "height"}, ("x", "y")),
)
_KINDS = (
    (pa.types.is_string, "text"),
    (pa.types.is_large_string, "text"),
    (pa.types.is_boolean, "true or false"),
    (pa.types.is_integer, "whole numbers"),
    (pa.types.is_floating, "numbers"),
    (pa.types.is_struct, "objects"),
    (pa.types.is_nested, "lists"),
)


def lacking(missing: Sequence[str], there: Sequence[str], where: str) -> InputError:
    """Return the error about a table without columns that labels need."""
    hints = {name: near_matches(name, there) for name in missing}
    named = [
        f"{name!r} ({hint})" if hint.startswith("did you") else repr(name)
        for name, hint in hints.items()
    ]
    listed = ", ".join(there[:_SHOWN]) + (", …" if len(there) > _SHOWN else "")
    return InputError(
        f"{where}: no column {' and no column '.join(named)}; there are: {listed or 'none'}. "
        "Labels need image, expression and box (or x1, y1, x2, y2, or x, y, w, h). If it has them "
        f"under other names: clipvg labels convert --columns {_renaming(missing, there)}"
    )


def _renaming(missing: Sequence[str], there: Sequence[str]) -> str:
    """How to say which columns are meant, as far as their usual names tell."""
    known = {name.lower(): name for name in there}
    pairs = {}
    for name in missing:
        others = (name, *_OTHER_NAMES.get(name, ()))
        if found := next((known[other] for other in others if other in known), None):
            pairs[name] = found
    if "box" in missing and "box" not in pairs:
        for sides, besides in _SIDES:
            if known.keys() >= {*sides.values(), *besides}:
                pairs |= {name: known[other] for name, other in sides.items()}
    return " ".join(f"{name}={other}" for name, other in pairs.items()) or "image=file_name"


def in_words(kind: pa.DataType) -> str:
    """Return what a column of a type holds."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if kind == pa.int32():  # what a file holds has 64 bits
        return "whole numbers up to 2,147,483,647"
    return next((words for is_it, words in _KINDS if is_it(kind)), str(kind))
