"""Figures of what a curriculum selected: performance by threshold, precision and recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipvg.errors import InputError
from clipvg.report.canvas import new_figure
from clipvg.report.figures import cut, draw_performance
from clipvg.report.style import CYCLE, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 3


@dataclass(frozen=True)
class Curve:
    """Performance by threshold of one source.

    Args:
        title: names the source and who measured it.
        thresholds: (K,) that were tried.
        performance: (K,), NaN where nothing was trained.
        chosen: the winning threshold.
        kept: (K,) number of labels each threshold keeps.
        baseline: performance before this source, drawn as a level line.
    """

    title: str
    thresholds: Sequence[float]
    performance: Sequence[float]
    chosen: float
    kept: Sequence[float] | None = None
    baseline: float | None = None


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall of the labels with r >= h, over all h.

    Attributes:
        precision: (T,) share of the kept labels that are correct.
        recall: (T,) share of the correct labels that are kept.
        thresholds: (T,) h, falling.
        average: average precision, the area below.
    """

    precision: np.ndarray
    recall: np.ndarray
    thresholds: np.ndarray
    average: float

    @classmethod
    def of(cls, reliability: np.ndarray, correct: np.ndarray) -> PrecisionRecall | None:
        """Return the curve of N labels; None where no scored label is correct.

        Args:
            reliability: (N,) float, NaN where not scored, which no threshold keeps.
            correct: (N,) bool.
        """
        scored = np.isfinite(reliability)
        if not (scored & correct).any():
            return None
        r, right = reliability[scored], correct[scored]
        order = np.argsort(-r, kind="stable")
        r, right = r[order], right[order]
        last = np.append(r[1:] != r[:-1], True)  # labels of equal reliability are kept together
        hits, kept = np.cumsum(right)[last], np.flatnonzero(last) + 1
        precision, recall = hits / kept, hits / int(correct.sum())
        average = float(np.sum(np.diff(recall, prepend=0.0) * precision))
        return cls(precision, recall, r[last], average)

    def at(self, threshold: float) -> tuple[float, float] | None:
        """Return (recall, precision) of r >= threshold; None where nothing is kept."""
        count = int(np.count_nonzero(self.thresholds.astype(np.float64) >= threshold))
        return (float(self.recall[count - 1]), float(self.precision[count - 1])) if count else None


def performance_curves(curves: Sequence[Curve], *, metric: str) -> Figure:
    """Draw performance by threshold, one panel a source, on one vertical scale."""
    figure, panels = _panels(len(curves), height=3.3)
    for axes, curve in zip(panels, curves, strict=True):
        draw_performance(
            axes,
            curve.thresholds,
            curve.performance,
            chosen=curve.chosen,
            kept=curve.kept,
            baseline=curve.baseline,
            baseline_name="before this source",
        )
        axes.set_title(f"{curve.title}: h = {curve.chosen:g}", fontsize=10)
        axes.set_xlabel("reliability threshold h")
    for axes in panels[::_COLUMNS]:
        axes.set_ylabel(metric)
    low = min(axes.get_ylim()[0] for axes in panels)
    high = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(low, high + 0.12 * (high - low))  # room for the numbers at the points
    # One legend for all: what is chosen differs by panel and is written in its title.
    handles, names = panels[-1].get_legend_handles_labels()
    names = ["chosen" if name.startswith("chosen") else name for name in names]
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def precision_recall_figure(
    panels: Mapping[str, Mapping[str, PrecisionRecall]],
    *,
    chosen: Mapping[str, tuple[str, float]],
    specific: Mapping[str, Sequence[str]],
) -> Figure:
    """Draw precision against recall of the kept labels, one panel a source, one line a measurer.

    Args:
        panels: source -> measurer -> curve.
        chosen: source -> (measurer, threshold) that selects, marked.
        specific: source -> measurers trained on it, drawn solid; others are dashed.
    """
    figure, grid = _panels(len(panels), height=3.4)
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    for axes, (source, lines) in zip(grid, panels.items(), strict=True):
        for name, curve in lines.items():
            own = name in specific.get(source, ())
            axes.plot(
                curve.recall,
                curve.precision,
                "-" if own else "--",
                color=CYCLE[names.index(name) % len(CYCLE)],
                linewidth=1.8 if own else 1.3,
                label=f"{cut(name)} (AP {curve.average:.2f})",
            )
        measurer, threshold = chosen.get(source, ("", 0.0))
        point = lines[measurer].at(threshold) if measurer in lines else None
        if point is not None:
            axes.plot(*point, "*", color=VERMILION, markersize=15, label=f"h = {threshold:g}")
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall: correct labels kept")
        axes.set_title(f"labels: {cut(source)}", fontsize=10)
        axes.legend(frameon=False, fontsize=7, loc="lower left")
    for axes in grid[::_COLUMNS]:
        axes.set_ylabel("precision: kept labels correct")
    return figure


def _panels(count: int, *, height: float) -> tuple[Figure, list]:
    if not count:
        raise InputError("there is no source to draw")
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    figure = new_figure(max(4.8, 3.4 * columns), height * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]
