"""LabelTable: labels of visual grounding as one Arrow table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipvg.boxes import convert
from clipvg.errors import InputError, near_matches
from clipvg.labels.box_column import as_mask, box_values
from clipvg.labels.formats import write_table
from clipvg.labels.formats.file import File
from clipvg.labels.frame import ArrowStream, Frame, as_table
from clipvg.labels.joined import join_tables
from clipvg.labels.schema import RELIABILITY, Values, column_of, encode_names, normalise
from clipvg.labels.splits import count_splits

if TYPE_CHECKING:
    import pandas

    from clipvg.labels.check.finding import Finding


class LabelTable(Frame):
    """Labels: one row is one (image, expression, box). Immutable; methods return new tables.

    Columns (the first three are required; columns with other names are kept):

    - ``image``: path below the image root.
    - ``expression``: text as written; lower-cased only when it is tokenized.
    - ``box``: four float64 as written, absolute pixels of the original image.
    - ``box_format``: "xyxy" (when absent) or "xywh".
    - ``source``: name of the label source; "human" for annotations.
    - ``width``, ``height``: int32 size of the original image.
    - ``weight``: float32 training weight, 1 when absent.
    - ``truth``: four float64, xyxy; for evaluation only, training and scoring never read it.
    - ``reliability.NAME``: float32 in [0, 1], the score by measurer NAME; null is not scored.

    It is also a data frame: `Frame` describes indexing, iteration, filtering and sorting.

    Args:
        table: Arrow table with these columns, or a data frame that speaks Arrow (Polars, DuckDB).
        images: folder that image names are relative to; None when they are paths.

    Attributes:
        dropped: rows that a reader left out, see `read_labels`.

    Raises:
        InputError: a required column is missing or holds values of the wrong kind.

    Example:
        >>> labels = LabelTable.from_columns(
        ...     image=["a.jpg"], expression=["red dog"], box=[[10, 20, 110, 220]])
        >>> labels.boxes()
        array([[ 10.,  20., 110., 220.]], dtype=float32)
    """

    def __init__(self, table: pa.Table | ArrowStream, images: str | Path | None = None) -> None:
        self.table = normalise(as_table(table))
        self.images = None if images is None else Path(images)
        self.dropped: tuple[Finding, ...] = ()

    @classmethod
    def from_columns(
        cls,
        *,
        image: Sequence[str],
        expression: Sequence[str],
        box: Values,
        images: str | Path | None = None,
        **columns: Values,
    ) -> LabelTable:
        """Return labels from Python or NumPy columns.

        Args:
            image: N paths below ``images``.
            expression: N expressions.
            box: (N, 4) pixels, xyxy unless ``box_format`` says xywh.
            images: image root.
            **columns: any other column; a single string is repeated. NaN (a NaN row, for truth)
                becomes null.
        """
        given = {"image": image, "expression": expression, "box": box, **columns}
        given |= {name: [word] * len(image) for name, word in given.items() if type(word) is str}
        arrays = {name: column_of(name, values) for name, values in given.items()}
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"columns of different lengths: {lengths}")
        return cls(pa.table(arrays), images)

    @classmethod
    def from_pandas(cls, frame: pandas.DataFrame, images: str | Path | None = None) -> LabelTable:
        """Return labels from a pandas data frame with these columns; its index is ignored.

        Boxes are lists or arrays of four numbers, or given in four columns.
        """
        table = pa.Table.from_pandas(frame, preserve_index=False)
        return cls(table.replace_schema_metadata(None), images)

    @classmethod
    def concat(cls, tables: Iterable[LabelTable]) -> LabelTable:
        """Concatenate tables; missing columns become null, see `join_tables`.

        If their image roots differ, image names become full paths and the root None.

        Raises:
            InputError: no tables, or a column whose types cannot be joined.
        """
        tables = list(tables)
        if not tables:
            raise InputError("no label tables to put together")
        roots = {labels.images for labels in tables}
        if len(roots) > 1:
            tables = [
                each.with_column("image", [str(each.image_path(name)) for name in each.image_names])
                for each in tables
            ]
        joined = join_tables([labels.table for labels in tables])
        return cls(joined, tables[0].images if len(roots) == 1 else None)

    def with_table(self, table: pa.Table) -> Self:
        """Return labels with another table and the same image root."""
        return type(self)(table, self.images)

    def __repr__(self) -> str:
        return (
            f"LabelTable({len(self)} labels, {self.num_images} images, "
            f"columns: {', '.join(self.table.column_names)})"
        )

    @property
    def image_names(self) -> list[str]:
        """N paths below the image root."""
        return self.table.column("image").to_pylist()

    @property
    def expressions(self) -> list[str]:
        """N expressions as written."""
        return self.table.column("expression").to_pylist()

    @property
    def num_images(self) -> int:
        """Number of distinct images."""
        return len(self.distinct_images()[0])

    def distinct_images(self) -> tuple[list[str], np.ndarray]:
        """Return the U distinct images in order of appearance, and each row's (N,) index."""
        return self._distinct

    @cached_property
    def _distinct(self) -> tuple[list[str], np.ndarray]:
        encoded = encode_names(self.table.column("image"))
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)

    def image_path(self, name: str) -> Path:
        """Return the path of an image."""
        return Path(name) if self.images is None else self.images / name

    def boxes(self, *, integer: bool = False, rows: np.ndarray | None = None) -> np.ndarray:
        """Return (N, 4) float32 xyxy pixels.

        Args:
            integer: truncate the numbers as written before any conversion, as the reference code
                does (preset published).
            rows: (R,) int64, only these rows; the result is (R, 4).
        """
        column = self.table.column("box")
        written = box_values(column if rows is None else column.take(pa.array(rows)))
        written = np.trunc(written) if integer else written
        as_sides = self.is_xywh(rows)
        corners = np.where(as_sides[:, None], convert(written, "xywh", "xyxy"), written)
        return corners.astype(np.float32)

    def is_xywh(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return which boxes are written as xywh, (N,) bool, or (R,) for some rows only."""
        if "box_format" not in self.table.column_names:
            return np.zeros(len(self) if rows is None else len(rows), dtype=bool)
        column = self.table.column("box_format")
        words = (column if rows is None else column.take(pa.array(rows))).cast(pa.string())
        return as_mask(pc.equal(words, "xywh"))

    @property
    def splits(self) -> dict[str, int]:
        """Number of labels in each split, by column ``split``; empty if there is none."""
        return count_splits(self.table)

    @property
    def has_truth(self) -> bool:
        """Whether any row has a true box."""
        names = self.table.column_names
        return "truth" in names and self.table.column("truth").null_count < len(self)

    def truth(self) -> np.ndarray:
        """Return (N, 4) float32 xyxy pixels of the true box, NaN where none; for evaluation."""
        if "truth" not in self.table.column_names:
            return np.full((len(self), 4), np.nan, dtype=np.float32)
        return box_values(self.table.column("truth")).astype(np.float32)

    def weights(self) -> np.ndarray:
        """Return (N,) float32 training weights, 1 where none is given."""
        return self._floats("weight", 1.0)

    def sources(self) -> list[str]:
        """Return N names of label sources, "" where unknown."""
        return self.encoded_sources().cast(pa.string()).to_pylist()

    def encoded_sources(self) -> pa.DictionaryArray:
        """Return the N names of `sources` dictionary-encoded; ten million take forty megabytes."""
        given = self.table.column("source") if "source" in self.table.column_names else None
        return encode_names(pa.repeat("", len(self)) if given is None else given)

    def sizes(self) -> np.ndarray:
        """Return (N, 2) int32 image sizes (width, height), -1 where unknown."""
        sizes = np.full((len(self), 2), -1, dtype=np.int32)
        for axis, name in enumerate(("width", "height")):
            if name in self.table.column_names:
                sizes[:, axis] = pc.fill_null(self.table.column(name), -1).to_numpy()
        return sizes

    @property
    def reliability_names(self) -> list[str]:
        """Names of the measurers that have scored these labels."""
        names = self.table.column_names
        return [name.removeprefix(RELIABILITY) for name in names if name.startswith(RELIABILITY)]

    def reliability(self, name: str) -> np.ndarray:
        """Return (N,) float32 in [0, 1], higher is better; NaN where not scored."""
        if name not in self.reliability_names:
            near = near_matches(name, self.reliability_names)
            if not self.reliability_names:
                near = "these labels are not scored; run clipvg score on them first."
            raise InputError(f"no reliability by {name!r}: {near}")
        return self._floats(RELIABILITY + name, float("nan"))

    def _floats(self, name: str, absent: float) -> np.ndarray:
        if name not in self.table.column_names:
            return np.full(len(self), absent, dtype=np.float32)
        column = pc.fill_null(self.table.column(name), pa.scalar(absent, pa.float32()))
        return column.to_numpy().astype(np.float32)

    def with_column(self, name: str, values: Values) -> LabelTable:
        """Add or replace a column; NaN (a NaN row, for boxes) becomes null."""
        array, names = column_of(name, values), self.table.column_names
        if len(array) != len(self):
            raise InputError(f"column {name!r} has {len(array)} values for {len(self)} labels")
        if name in names:
            table = self.table.set_column(names.index(name), name, array)
        else:
            table = self.table.append_column(name, array)
        return self.with_table(table)

    def drop_columns(self, names: str | Sequence[str]) -> LabelTable:
        """Return the labels without some columns; names that are not there are ignored."""
        names = [names] if isinstance(names, str) else names
        there = [name for name in names if name in self.table.column_names]
        return self.with_table(self.table.drop_columns(there))

    def with_images(self, root: str | Path | None) -> LabelTable:
        """Return the labels with another image root."""
        return LabelTable(self.table, root)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of what training and scoring read.

        It covers image, expression, box, box format, weight and source, but not truth,
        reliability, other columns, or how the table is divided into chunks.
        """
        digest = hashlib.sha256(f"clipvg labels 1 {len(self)}".encode())
        digest.update(box_values(self.table.column("box")).tobytes())
        digest.update(self.is_xywh().tobytes())
        digest.update(self.weights().tobytes())
        for texts in (self.image_names, self.expressions, self.sources()):
            encoded = [(text or "").encode() for text in texts]
            digest.update(np.array([len(text) for text in encoded], dtype=np.int64).tobytes())
            digest.update(b"".join(encoded))
        return digest.hexdigest()

    def write(
        self, path: str | Path, *, layout: str | None = None, format: str | None = None
    ) -> None:
        """Write in the format of the file's ending (.pth needs a layout), or in a named one.

        See `write_table`; ``format`` is parquet, jsonl, csv, tsv, json, pth, coco, odvg or
        label-studio.
        """
        write_table(self.table, File(Path(path), layout, self.images), format)
