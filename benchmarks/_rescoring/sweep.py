"""Measure the cost per label by expressions per image and by number of measurers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from _rescoring.measure import Models, Save, Timed, run_baseline, run_engine
from _rescoring.workload import Workload, make_table, mean_expressions
from clipvg.labels import LabelTable

EXPRESSIONS = (1, 2, 4, 8, 16, 32)
MEASURERS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Sweep:
    """Sweeps over expressions per image and over measurers, through one point.

    Attributes:
        models: as many measurers as the sweep over them needs.
        n: measurers in the sweep over expressions.
        k: expressions per image in the sweep over measurers.
        labels: approximate number of labels per run.
        size: (width, height) of the images.
        baseline: labels of the reference's run with one measurer.
        batch: labels per batch of the reference.
        seed: seed of the labels.
    """

    models: Models
    n: int
    k: int
    labels: int
    size: tuple[int, int]
    baseline: int
    batch: int
    seed: int = 0

    def run(self, precisions: Sequence[str], save: Save) -> list[dict[str, Any]]:
        """Return a record per point; the reference's cost per label and measurer is constant."""
        base = self._at(self.k, self.baseline, self._baseline)
        points = [("k", self.n, k) for k in EXPRESSIONS] + [("n", n, self.k) for n in MEASURERS]
        records = []
        for precision in precisions:
            for axis, n, k in points:
                models = dict(list(self.models.items())[:n])
                timed = self._at(k, self.labels, partial(run_engine, models, precision=precision))
                cost, reference = 1 / timed.labels_per_s, n / base.labels_per_s
                record = {
                    "axis": axis,
                    "n": n,
                    "k": k,
                    "precision": precision,
                    "labels": timed.scores.shape[1],
                    "seconds_per_label": cost,
                    "seconds_per_label_and_measurer": cost / n,
                    "reference_seconds_per_label": reference,
                    "ratio": reference / cost,
                }
                records.append(record)
                print(
                    f"{precision}  n = {n}  k = {k:2d}  {1e3 * cost:9.2f} ms a label  "
                    f"x{record['ratio']:.2f}",
                    flush=True,
                )
                save(records)
        return records

    def _at(self, k: int, labels: int, run: Callable[[LabelTable], Timed]) -> Timed:
        images = max(1, round(labels / mean_expressions(k)))
        with TemporaryDirectory() as folder:
            return run(make_table(Path(folder), Workload(images, k, self.size, self.seed)))

    def _baseline(self, labels: LabelTable) -> Timed:
        first = dict(list(self.models.items())[:1])
        return run_baseline(first, labels, batch=self.batch, workers=0, memory=None)
