"""Read what a curriculum selected from its run directory, and draw how good the selection is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipvg.curriculum import RunSummary
from clipvg.curriculum.split import ROW
from clipvg.data.scenes import is_correct
from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.labels.read import TRUSTED
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.report.canvas import cut, legend_below, new_figure, percents
from clipvg.report.figures import reliability_histogram
from clipvg.report.html import PageImage
from clipvg.report.numbers import percent
from clipvg.report.style import BLUE, CYCLE, GRAY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from clipvg.curriculum.summary import Training

_COLUMNS = 3


@dataclass(frozen=True)
class Selection:
    """Training labels of a run with their scores; what is missing on disk is None."""

    labels: LabelTable | None  # N training labels, without those held out
    scores: ScoreMatrix | None  # reliability by the measurers
    correct: np.ndarray | None  # (N,) bool where the truth is known
    is_selected: np.ndarray | None  # (N,) bool, labels that the resulting model was trained on

    @classmethod
    def read(cls, folder: Path, summary: RunSummary) -> Selection:
        """Read what a finished run left on disk."""
        scores = _scores(folder, summary)
        path = folder / "labels.parquet"
        if not path.is_file() or scores is None:
            return cls(None, scores, None, None)
        # Image names were refused, or trusted, when the run began.
        labels = read_labels(path, images=summary.labels.root, options=TRUSTED)
        is_held, is_selected = (
            _mask(folder / f"{name}.parquet", len(labels)) for name in ("held_out", "selected")
        )
        training = labels.select(~is_held)
        if len(training) != len(scores):
            return cls(None, scores, None, None)
        correct = is_correct(training) if training.has_truth else None
        return cls(training, scores, correct, is_selected[~is_held])


@dataclass(frozen=True)
class Curve:
    """Performance of models trained on labels with r >= h, by h."""

    title: str  # of its panel
    thresholds: Sequence[float]  # (K,) that were tried, in any order
    performance: Sequence[float]  # (K,), higher is better; NaN where nothing was trained
    chosen: float  # the winning threshold, marked
    # (K,) number of labels each threshold keeps, written at the points
    kept: Sequence[int] | None = None
    baseline: float | None = None  # performance before, drawn as a horizontal line

    @classmethod
    def of(
        cls, title: str, tried: Iterable[Training], chosen: float, baseline: float | None
    ) -> Curve:
        """Return the curve of trainings, one threshold each."""
        found = [each for each in tried if each.threshold is not None]
        return cls(
            title,
            [each.threshold or 0 for each in found],
            [np.nan if each.score is None else each.score for each in found],
            chosen,
            [each.kept for each in found],
            baseline,
        )

    def __str__(self) -> str:
        points = zip(self.thresholds, self.performance, strict=True)
        said = ", ".join(f"{percent(score)} at h = {h:g}" for h, score in points)
        return f"{self.title}: {said}; chosen h = {self.chosen:g}"

    def draw(self, axes: Axes, baseline: str) -> None:
        """Draw the curve; `baseline` names its horizontal line."""
        order = np.argsort(np.asarray(self.thresholds, dtype=float), kind="stable")
        h = np.asarray(self.thresholds, dtype=float)[order]
        y = np.asarray(self.performance, dtype=float)[order]
        axes.plot(h, y, "o-", color=BLUE, label="trained on r ≥ h (number of labels)")
        if self.kept is not None:
            for x, value, count in zip(h, y, np.asarray(self.kept)[order], strict=True):
                if np.isfinite(value):
                    axes.annotate(
                        f"{int(count):,}",
                        (x, value),
                        xytext=(0, 11),  # clear of the star of the chosen one
                        textcoords="offset points",
                        ha="center",
                        color=GRAY,
                    )
        if self.baseline is not None:
            axes.axhline(self.baseline, color=GRAY, linestyle="--", label=baseline)
        at = int(np.argmin(np.abs(h - self.chosen)))
        axes.plot(h[at], y[at], "*", color=VERMILION, markersize=17, label="chosen")
        axes.margins(x=0.08, y=0.18)
        axes.set_xlabel("reliability threshold h")
        percents(axes, "y")
        axes.set_title(f"{self.title}: h = {self.chosen:g}")


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall of the labels with r >= h, over all h."""

    precision: np.ndarray  # (T,) share of the kept labels that are correct
    recall: np.ndarray  # (T,) share of the correct labels that are kept
    thresholds: np.ndarray  # (T,) h, descending
    average: float  # average precision, the area under the curve

    @classmethod
    def of(cls, reliability: np.ndarray, correct: np.ndarray) -> PrecisionRecall | None:
        """Return the curve of N labels; None where no scored label is correct.

        Args:
            reliability: (N,) float, NaN where not scored; no threshold keeps these labels.
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
        """Return (recall, precision) of r >= threshold; None if nothing is kept."""
        count = int(np.count_nonzero(self.thresholds.astype(np.float64) >= threshold))
        return (float(self.recall[count - 1]), float(self.precision[count - 1])) if count else None


def histogram_image(
    reliability: np.ndarray,
    correct: np.ndarray | None,
    threshold: float,
    meaning: str,
) -> PageImage:
    """Draw the histogram of reliability, split by correct and wrong labels if that is known.

    Args:
        reliability: (N,), NaN where not scored.
        correct: (N,) bool, or None if the truth is unknown.
        threshold: h, drawn as a line.
        meaning: what the reliability is, for the caption.
    """
    figure = reliability_histogram(reliability, correct=correct, threshold=threshold)
    split = " split by correct and wrong labels" if correct is not None else ""
    scored = reliability[np.isfinite(reliability)]
    median = f", median {np.median(scored):.2f}" if len(scored) else ""
    caption = f"Reliability of each label: {meaning}."
    if correct is not None:
        caption += " A label is correct when its IoU with the true box is at least 0.5."
    return PageImage.of_figure(
        figure, f"Histogram of the reliability of {len(scored)} labels{split}{median}.", caption
    )


def performance_figure(curves: Sequence[Curve], *, metric: str, baseline: str) -> Figure:
    """Draw performance by threshold, one panel per curve, on a common vertical scale."""
    figure, panels = _panels(len(curves), height=3.3)
    for axes, curve in zip(panels, curves, strict=True):
        curve.draw(axes, baseline)
    for axes in panels[::_COLUMNS]:
        axes.set_ylabel(metric)
    low = min(axes.get_ylim()[0] for axes in panels)
    high = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(low, high + 0.12 * (high - low))  # room for the numbers at the points
    legend_below(figure, panels[-1])
    return figure


def precision_recall_figure(
    panels: Mapping[str, Mapping[str, PrecisionRecall]],
    *,
    chosen: Mapping[str, tuple[str, float]],
    specific: Mapping[str, Sequence[str]],
) -> Figure:
    """Draw precision over recall of the kept labels: a panel per source, a line per measurer.

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
                label=f"{cut(name)} (AP {percent(curve.average, digits=0)})",
            )
        measurer, threshold = chosen.get(source, ("", 0.0))
        point = lines[measurer].at(threshold) if measurer in lines else None
        if point is not None:
            axes.plot(*point, "*", color=VERMILION, markersize=15, label=f"h = {threshold:g}")
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall: correct labels kept")
        percents(axes, "both")
        axes.set_title(f"labels: {cut(source)}")
        axes.legend(frameon=False, loc="lower left")
    for axes in grid[::_COLUMNS]:
        axes.set_ylabel("precision: kept labels correct")
    return figure


def _panels(count: int, *, height: float) -> tuple[Figure, list[Axes]]:
    if not count:
        raise InputError("there is no source to draw")
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    figure = new_figure(7.2 if count == 1 else 3.1 * columns, height * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]


def _scores(folder: Path, summary: RunSummary) -> ScoreMatrix | None:
    """Return the scores of the measurers, without the adapted model's; None if one is missing."""
    files = dict.fromkeys(measurer.scores for measurer in summary.measurers)
    paths = [folder / "scores" / f"{name}.parquet" for name in files]
    if not all(path.is_file() for path in paths):
        return None
    return ScoreMatrix.concat(map(ScoreMatrix.read, paths))


def _mask(path: Path, count: int) -> np.ndarray:
    """Return which of the `count` labels of a run one of its tables holds, (count,) bool."""
    mask = np.zeros(count, bool)
    if path.is_file():
        mask[read_labels(path).table.column(ROW).to_numpy()] = True
    return mask
