"""Convert boxes from other formats and units to pixel corners, and find the image sizes needed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipvg.boxes import FORMATS, convert
from clipvg.errors import InputError
from clipvg.labels.box_column import as_mask, box_array, box_values
from clipvg.labels.table import LabelTable
from clipvg.runtime.images import image_size

BoxFormat = Literal["xyxy", "xywh", "cxcywh"]
BoxUnit = Literal["pixel", "unit", "thousand"]
UNITS: dict[str, float | None] = {"pixel": None, "unit": 1.0, "thousand": 1000.0}
THREADS = 8  # that open images: network disks profit from more, local disks need fewer
_FAR = 1.5  # times the largest value of a unit: boxes only slightly outside do not reach it
_USUAL = {"box_format": "xyxy", "box_unit": "pixel"}  # defaults


def read_boxes_as(
    labels: LabelTable, box_format: str | None, box_unit: str | None, *, where: str | None = None
) -> LabelTable:
    """Return labels with boxes interpreted in a format and unit, by default those of their rows.

    Corners (xyxy) and sides (xywh) in pixels stay as written. Centres (cxcywh), and fractions or
    thousandths of the image become pixel corners, and column ``box_unit`` is dropped; unknown
    formats and units are kept for the checks of rows.

    Args:
        labels: labels as read from a file.
        box_format: "xyxy", "xywh" or "cxcywh"; None uses column ``box_format``, else "xyxy".
        box_unit: "pixel", "unit" (0 to 1) or "thousand" (0 to 1000); None uses column ``box_unit``,
            else "pixel".
        where: the file, for error messages; None raises no error.

    Returns:
        The labels. Without ``where``, boxes that need an image size that is unknown become null.

    Raises:
        InputError: ``where`` is given, and a size is neither in columns ``width`` and ``height``
            nor readable from the image, or most boxes are far larger than their unit allows.
    """
    if box_format is not None:
        labels = labels.with_column("box_format", pa.repeat(box_format, len(labels)))
    formats, units = _words(labels, "box_format"), _words(labels, "box_unit", box_unit)
    labels = labels.drop_columns("box_unit")
    unknown = pc.invert(pc.is_in(units, pa.array([*UNITS])))
    if pc.any(unknown).as_py():
        labels = labels.with_column("box_unit", pc.if_else(unknown, units, None))
    scaled = pc.and_(pc.is_in(units, pa.array([*UNITS])), pc.not_equal(units, "pixel"))
    changed = as_mask(pc.or_(scaled, pc.equal(formats, "cxcywh")))
    if not changed.any():
        return labels
    written = box_values(labels.table.column("box")).copy()
    for name in FORMATS:
        rows = changed & as_mask(pc.equal(formats, name))
        written[rows] = convert(written[rows], name, "xyxy")
    for name, full in UNITS.items():
        rows = np.flatnonzero(as_mask(pc.equal(units, name)))
        if full is not None and len(rows):
            sizes = find_sizes(labels.select(rows)).astype(np.float64)
            unknown = (sizes <= 0).any(axis=1)
            if where is not None and unknown.any():
                raise InputError(_unsized(labels, rows[unknown], where))
            if where is not None and (written[rows].max(axis=1) > _FAR * full).mean() > 0.5:
                raise InputError(
                    f"{where}: boxes reach {np.nanmax(written[rows]):g}, so they are not from 0 to "
                    f"{full:g}, as box_unit={name!r} says; box_unit='pixel' is the usual unit"
                )
            sizes[unknown] = np.nan
            written[rows] *= np.concatenate([sizes, sizes], axis=1) / full
    known = pc.is_in(formats, pa.array(FORMATS))
    now = pc.if_else(pc.and_(pa.array(changed), known), "xyxy", formats)
    return labels.with_column("box", box_array(written)).with_column("box_format", now)


def find_sizes(labels: LabelTable, *, most: int | None = None) -> np.ndarray:
    """Return the upright (width, height) of each label's image, (N, 2) int32, -1 where unknown.

    Images whose size is not in the columns are opened: all, or at most ``most``, evenly spaced.
    """
    sizes = labels.sizes()
    unknown = (sizes <= 0).any(axis=1)
    if not unknown.any():
        return sizes
    names, of_row = labels.distinct_images()
    images = np.unique(of_row[unknown])
    if most is not None and len(images) > most:
        images = images[np.linspace(0, len(images) - 1, most).astype(int)]
    found = np.full((len(names), 2), -1, np.int32)
    paths = [labels.image_path(names[image] or "\0") for image in images]
    with ThreadPoolExecutor(THREADS) as pool:
        found[images] = [*pool.map(_size, paths)]
    sizes[unknown] = found[of_row[unknown]]
    return sizes


def _size(path: Path) -> tuple[int, int]:
    try:
        return image_size(path)
    except InputError:
        return -1, -1


def _unsized(labels: LabelTable, rows: np.ndarray, where: str) -> str:
    name = labels.table.column("image")[int(rows[0])].as_py()
    return (
        f"{where}: the size of {name!r} cannot be read, and {len(rows):,} boxes need that of their "
        "image to become pixels; check images= (--images), or add columns width and height"
    )


def _words(labels: LabelTable, name: str, given: str | None = None) -> pa.Array:
    """Return a word for each row: the one given, else that of the column, else the default."""
    if given is not None or name not in labels.table.column_names:
        return pa.repeat(given or _USUAL[name], len(labels))
    column = labels.table.column(name).cast(pa.string())
    return pc.fill_null(column, _USUAL[name]).combine_chunks()
