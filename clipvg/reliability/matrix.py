"""ScoreMatrix: the reliability of every label by every measurer, R_ij in the paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clipvg.errors import InputError, one_line
from clipvg.labels import LabelTable
from clipvg.labels.schema import encode_names
from clipvg.labels.scores import (
    read_reasons,
    read_scores,
    read_trained_on,
    score_columns,
    with_reasons,
    with_trained_on,
)
from clipvg.reliability.histogram import QUANTILES, Distribution, kept
from clipvg.reliability.measurer import Scores, join_reasons
from clipvg.reliability.names import check_names
from clipvg.runtime.files import Json, atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class ScoreMatrix:
    """Scores of n measurers on N labels.

    R_ij (CLIP-VG, arXiv 2305.08685) is measurer i on the labels of source j: source-specific
    where the measurer was trained on that source, cross-source elsewhere.

    Attributes:
        names: names of the n measurers, one score column ``reliability.NAME`` each.
        scores: (n, N) float32 in [0, 1], NaN where not scored, labels in input order.
        label_sources: source name of each label, "" where unknown; one group when empty.
        trained_on: sources each measurer was trained on; () is unknown, cross-source everywhere.
        reasons: row of a label that is not scored -> why.
    """

    names: tuple[str, ...]
    scores: np.ndarray
    label_sources: Iterable[str] | pa.Array | pa.ChunkedArray = ()
    trained_on: tuple[tuple[str, ...], ...] = ()
    reasons: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_names(self.names)
        scores = np.ascontiguousarray(self.scores, dtype=np.float32)
        if scores.ndim != 2 or scores.shape[0] != len(self.names):
            raise InputError(
                f"scores have shape {scores.shape}; expected ({len(self.names)}, N), one row per "
                "measurer."
            )
        sources = encode_names(self.label_sources)
        if not len(sources):
            sources = encode_names(pa.repeat("", scores.shape[1]))
        if len(sources) != scores.shape[1]:
            raise InputError(f"{len(sources)} label sources for {scores.shape[1]} labels.")
        trained_on = tuple(map(tuple, self.trained_on)) or ((),) * len(self.names)
        if len(trained_on) != len(self.names):
            raise InputError(f"{len(trained_on)} trained_on entries for {len(self.names)} names.")
        scores.flags.writeable = False
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "label_sources", sources)
        object.__setattr__(self, "trained_on", trained_on)

    def __len__(self) -> int:
        """Return the number of labels."""
        return int(self.scores.shape[1])

    def __getitem__(self, name: str) -> np.ndarray:
        """Return one measurer's scores, (N,) float32."""
        return self.scores[self._row(name)]

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Distinct label sources in order of first appearance."""
        return tuple(self._encoded_sources.dictionary.to_pylist())

    @cached_property
    def is_specific(self) -> np.ndarray:
        """(n, sources) bool: measurer i was trained on source j."""
        cells = [[source in trained for source in self.sources] for trained in self.trained_on]
        return np.array(cells, dtype=bool).reshape(len(self.names), len(self.sources))

    @property
    def _encoded_sources(self) -> pa.DictionaryArray:
        assert isinstance(self.label_sources, pa.DictionaryArray)
        return self.label_sources

    @property
    def source_of(self) -> np.ndarray:
        """(N,) int32, position of each label's source in `sources`."""
        return self._encoded_sources.indices.to_numpy()

    @cached_property
    def _distributions(self) -> list[list[Distribution]]:
        columns = [self.source_of == j for j in range(len(self.sources))]
        return [[Distribution(row[column]) for column in columns] for row in self.scores]

    @classmethod
    def of(
        cls,
        scores: Mapping[str, Scores],
        label_sources: pa.DictionaryArray,
        trained_on: Mapping[str, Iterable[str]] | None = None,
    ) -> ScoreMatrix:
        """Join the scores that one or more measurers, by name, gave the same labels.

        If several give a reason for one label, the first is kept.
        """
        origin = trained_on or {}
        reasons = join_reasons(part.reasons for part in scores.values())
        return cls(
            tuple(scores),
            np.stack([part.values for part in scores.values()]),
            label_sources,
            tuple(tuple(origin.get(name, ())) for name in scores),
            dict(sorted(reasons.items())),
        )

    @classmethod
    def concat(cls, parts: Iterable[ScoreMatrix]) -> ScoreMatrix:
        """Join the measurers of one or more matrices of the same labels.

        If several give a reason for one label, the last one is kept.
        """
        parts = list(parts)
        return cls(
            tuple(name for part in parts for name in part.names),
            np.concatenate([part.scores for part in parts]),
            parts[0].label_sources,
            tuple(sources for part in parts for sources in part.trained_on),
            {row: why for part in parts for row, why in part.reasons.items()},
        )

    def select(self, names: Iterable[str]) -> ScoreMatrix:
        """Return the scores of some measurers, in the order of their names."""
        names = tuple(names)
        rows = [self._row(name) for name in names]
        origin = tuple(self.trained_on[row] for row in rows)
        return replace(self, names=names, scores=self.scores[rows], trained_on=origin)

    def take(self, rows: np.ndarray | Sequence[int]) -> ScoreMatrix:
        """Return the scores of some labels: row numbers, or a (N,) bool mask."""
        rows = np.arange(len(self))[rows]
        told = np.flatnonzero(np.isin(rows, list(self.reasons)))
        reasons = {int(place): self.reasons[int(rows[place])] for place in told}
        return replace(
            self,
            scores=self.scores[:, rows],
            label_sources=self._encoded_sources.take(pa.array(rows)),
            reasons=reasons,
        )

    def cell(self, measurer: str, source: str) -> np.ndarray:
        """Return R_ij: one measurer's scores of one source's labels, (N_j,) float32."""
        if source not in self.sources:
            raise InputError(f"no labels of source {source!r}; there are {list(self.sources)}.")
        return self[measurer][self.source_of == self.sources.index(source)]

    def specific(self, measurer: str) -> np.ndarray:
        """Return a measurer's source-specific scores: (N,) float32, NaN elsewhere."""
        own = self.is_specific[self._row(measurer)][self.source_of]
        return np.where(own, self[measurer], np.nan)

    def cross(self, measurer: str) -> np.ndarray:
        """Return a measurer's cross-source scores: (N,) float32, NaN elsewhere."""
        return np.where(np.isnan(self.specific(measurer)), self[measurer], np.nan)

    def keep(
        self, threshold: float, measurer: str | None = None, *, strict: bool = False
    ) -> np.ndarray:
        """Return which labels a threshold keeps, (N,) bool; see `kept`.

        The measurer may be left out if there is only one.
        """
        if measurer is None and len(self.names) != 1:
            raise InputError(f"which of the measurers {list(self.names)} selects? Name one.")
        return kept(self[measurer or self.names[0]], threshold, strict=strict)

    def count_above(self, threshold: float, *, strict: bool = False) -> np.ndarray:
        """Count the labels each cell keeps, exactly, (n, sources) int64; O(log N) after a sort."""
        return self._by_cell(lambda cell: cell.count_above(threshold, strict=strict))

    def quantiles(self, q: Sequence[float] = QUANTILES) -> np.ndarray:
        """Return quantiles of each cell, (n, sources, len(q)) float64; NaN where none is scored."""
        return self._by_cell(lambda cell: cell.quantiles(q))

    def to_dict(self, bins: int = 100) -> Json:
        """Return every cell's distribution as JSON values."""
        return {
            "measurers": list(self.names),
            "trained_on": [list(sources) for sources in self.trained_on],
            "sources": list(self.sources),
            "specific": self.is_specific.tolist(),
            "cells": [[cell.to_dict(bins) for cell in row] for row in self._distributions],
            "unscored_labels": len(self.reasons),
        }

    def plot(self, path: str | Path | None = None, *, bins: int = 40) -> Figure:
        """Draw the grid of histograms, one row per measurer and one column per source.

        The figure is written to the path if one is given (.png, .svg, .pdf).
        """
        from clipvg.report.canvas import save_figure
        from clipvg.report.figures import score_matrix_figure

        figure = score_matrix_figure(self, bins=bins)
        if path is not None:
            save_figure(figure, path)
        return figure

    def attach(self, labels: LabelTable) -> LabelTable:
        """Return the labels with a column ``reliability.NAME`` per measurer, null where not scored.

        If labels could not be scored, a string column ``unscored`` holds the reasons. The table
        remembers what the measurers were trained on.

        Raises:
            InputError: the numbers of labels and scores differ.
        """
        if len(labels) != len(self):
            raise InputError(f"{len(self)} scores for {len(labels)} labels; score these labels.")
        for name, values in score_columns(self._by_name()).items():
            labels = labels.with_column(name, values)
        labels = with_reasons(labels, {**read_reasons(labels.table), **self.reasons})
        table = with_trained_on(labels.table, self.names, self.trained_on)
        return LabelTable(table, labels.images)

    @classmethod
    def from_labels(cls, labels: LabelTable) -> ScoreMatrix:
        """Read the score columns of a label table, which must have at least one."""
        if not labels.reliability_names:
            raise InputError(
                "the labels have no column reliability.NAME; score them first: clipvg score."
            )
        return cls._of_table(labels.table, labels.encoded_sources())

    def write(self, path: str | Path) -> None:
        """Write the scores alone as Parquet: ``reliability.NAME`` columns and the sources."""
        sources = {"source": self._encoded_sources.cast(pa.string())}
        table = pa.table(sources | score_columns(self._by_name(), self.reasons))
        table = with_trained_on(table, self.names, self.trained_on)
        with atomic_path(path) as temporary:
            pq.write_table(table, temporary, write_page_checksum=True)

    @classmethod
    def read(cls, path: str | Path) -> ScoreMatrix:
        """Read what `write` wrote.

        Raises:
            InputError: the file is damaged, or holds something else.
        """
        try:
            table = pq.read_table(path, page_checksum_verification=True)
            return cls._of_table(table, table["source"])
        except (pa.ArrowException, OSError, LookupError, ValueError) as error:
            if getattr(error, "errno", None) is not None:  # the disk fails, not the file
                raise
            raise InputError(f"{path} holds no scores: {one_line(error)}") from error

    @classmethod
    def _of_table(cls, table: pa.Table, label_sources: pa.Array | pa.ChunkedArray) -> ScoreMatrix:
        scores = read_scores(table)
        trained_on = read_trained_on(table)
        return cls(
            tuple(scores),
            np.stack([*scores.values()]),
            label_sources,
            tuple(tuple(trained_on.get(name, ())) for name in scores),
            read_reasons(table),
        )

    def _by_name(self) -> dict[str, np.ndarray]:
        return dict(zip(self.names, self.scores, strict=True))

    def _row(self, name: str) -> int:
        if name not in self.names:
            raise InputError(f"no measurer {name!r}; there are {list(self.names)}.")
        return self.names.index(name)

    def _by_cell(self, count: Callable[[Distribution], npt.ArrayLike]) -> np.ndarray:
        return np.array([[count(cell) for cell in row] for row in self._distributions])
