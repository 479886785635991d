"""Figures of a run, drawn by matplotlib without a display.

Every function returns a `matplotlib.figure.Figure`; matplotlib is imported at the first call and
its global state (pyplot, rcParams) is never touched.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipvg.errors import InputError
from clipvg.report.canvas import cut, legend_below, new_axes, new_figure, percents
from clipvg.report.numbers import percent
from clipvg.report.style import BLUE, CORRECT, CYCLE, GRAY, ORANGE, VERMILION, WRONG
from clipvg.runtime.files import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from clipvg.reliability.matrix import ScoreMatrix

_LAST = 20  # counts above it share its bar
_CELLS = 16  # cells of the map of centres, in each direction
_NAMES = {
    "loss_l1": "L1", "loss_giou": "GIoU", "val_acc_0.5": "Acc@0.5", "val_mean_iou": "mean IoU"
}  # fmt: skip


def reliability_histogram(
    reliability: np.ndarray,
    *,
    correct: np.ndarray | None = None,
    threshold: float | None = None,
    bins: int = 40,
) -> Figure:
    """Draw a histogram of reliability, split by correct and wrong labels where the truth is known.

    Args:
        reliability (N,): in [0, 1], NaN where not scored (counted in the legend, not drawn).
        correct (N,): bool, whether each label is correct; one plain histogram when None.
        threshold: h, drawn as a line with the share of labels that it keeps.
        bins: number of equal bins over [0, 1].
    """
    values = np.asarray(reliability, dtype=np.float64)
    scored = np.isfinite(values)
    figure, axes = new_axes(7.2, 3.8)
    edges = np.linspace(0, 1, bins + 1).tolist()
    if correct is None:
        axes.hist(values[scored], edges, color=BLUE, alpha=0.85, label=_count("labels", scored))
    else:
        is_correct = np.asarray(correct, dtype=bool)
        right, wrong = scored & is_correct, scored & ~is_correct
        for mask, color, name, hatch in (
            (right, CORRECT, "correct", ""),
            (wrong, WRONG, "wrong", "////"),
        ):
            axes.hist(
                values[mask],
                edges,
                color=color,
                alpha=0.55,
                label=_count(name, mask),
                hatch=hatch,
                edgecolor="white" if hatch else color,
                linewidth=0.6,
            )
    if threshold is not None:
        kept = float(np.mean(values[scored] >= threshold)) if scored.any() else 0.0
        label = f"h = {threshold:g}, keeps {percent(kept, digits=0)}"
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1.4, label=label)
    if not scored.all():
        axes.plot([], [], " ", label=_count("not scored", ~scored))
    axes.set(xlim=(0, 1), xlabel="reliability r", ylabel="labels")
    axes.set_title("Reliability of the pseudo-labels")
    legend_below(figure)
    return figure


def score_matrix_figure(
    scores: ScoreMatrix,
    *,
    sources: Sequence[str] | None = None,
    chosen: Mapping[str, tuple[str, float]] | None = None,
    bins: int = 40,
) -> Figure:
    """Draw histograms of reliability with densities: one row per measurer, one column per source.

    As in the paper's figure, bars and curves cover (0, 1]: labels without any overlap (r = 0) are
    often so many that nothing else would be visible. Their share is written instead.

    Args:
        scores: scores of the measurers.
        sources: sources of the columns; those of the scores when None.
        chosen: source -> measurer and threshold h that select its labels, drawn as a line.
        bins: number of equal bins over [0, 1].

    Raises:
        InputError: there is no measurer or no source.
    """
    columns, rows = list(scores.sources if sources is None else sources), scores.names
    if not rows or not columns:
        raise InputError("a score matrix needs at least one measurer and one source to draw")
    figure = new_figure(max(4.5, 2.9 * len(columns) + 0.8), max(3.2, 2.2 * len(rows) + 0.8))
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True)
    for i, measurer in enumerate(rows):
        for j, source in enumerate(columns):
            own = scores.is_specific[i][scores.sources.index(source)]
            _density_cell(grid[i, j], scores.cell(measurer, source), CYCLE[0 if own else 1], bins)
            name, threshold = (chosen or {}).get(source, ("", 0.0))
            if name == measurer:
                grid[i, j].axvline(threshold, color="black", linestyle="--", linewidth=1.4)
                for side in grid[i, j].spines.values():
                    side.set_linewidth(2)
            if i == 0:
                grid[i, j].set_title(f"labels: {cut(source or 'all')}")
            if j == 0:
                grid[i, j].set_ylabel(f"measurer:\n{cut(measurer)}\ndensity")
            if i == len(rows) - 1:
                grid[i, j].set_xlabel("reliability r")
    title = "Reliability by measurer and source (blue: source-specific)"
    figure.suptitle(title + ("; line: chosen h" if chosen else ""))
    return figure


def training_curves(metrics: Sequence[Json]) -> Figure:
    """Draw loss and validation performance by epoch, as `metrics.jsonl` records them.

    Args:
        metrics: one mapping per epoch (or step); every numeric key whose name contains "loss" is
            drawn on the left, every other one that contains "acc" or "iou" on the right. "epoch"
            or, if absent, "step" is the horizontal axis.
    """
    figure = new_figure(7.2, 3.4)
    left, right = figure.subplots(1, 2)
    _curves(left, metrics, "loss")
    left.set(title="Training loss", ylabel="loss")
    _curves(right, metrics, "^(?!.*loss).*(acc|iou)")
    right.set(title="Validation")
    percents(right, "y")
    return figure


def count_bars(values: Sequence[int], name: str) -> Figure:
    """Draw how many labels have each value; values above 20 share the last bar."""
    from matplotlib.ticker import MaxNLocator

    counts = Counter(min(value, _LAST) for value in values)
    first, last = min(counts), max(counts)
    places = list(range(first, last + 1))
    figure, axes = new_axes(7.2, 2.8)
    axes.bar(places, [counts[place] for place in places], color=BLUE, width=0.8)
    axes.set_xticks(places, [f"{place}+" if place == _LAST else str(place) for place in places])
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set(xlabel=name, ylabel="labels")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def center_map(boxes: np.ndarray, sizes: np.ndarray) -> Figure:
    """Draw a map of box centres; `boxes` (N, 4) are xyxy pixels, `sizes` (N, 2) width, height."""
    from matplotlib.ticker import MaxNLocator

    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 / sizes  # (N, 2) shares
    counts, _, _ = np.histogram2d(centers[:, 1], centers[:, 0], bins=_CELLS, range=[[0, 1], [0, 1]])
    figure, axes = new_axes(4.6, 3.6)
    drawn = axes.imshow(counts, extent=(0, 1, 1, 0), cmap="viridis", vmin=0)
    figure.colorbar(drawn, ax=axes, label="boxes", ticks=MaxNLocator(5, integer=True))
    percents(axes, "both")
    axes.set(xlabel="from left to right", ylabel="from top to bottom")
    return figure


def _count(name: str, mask: np.ndarray) -> str:
    return f"{name} ({int(np.count_nonzero(mask)):,})"


def _density_cell(axes: Axes, values: np.ndarray, color: str, bins: int) -> None:
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    axes.set_xlim(0, 1)
    if len(values) == 0:
        axes.text(0.5, 0.5, "not scored", ha="center", va="center", transform=axes.transAxes)
        axes.set_yticks([])
        return
    half = percent(float(np.mean(values >= 0.5)), digits=0)
    lines = [f"N = {len(values):,}", f"r ≥ 0.5: {half}"]
    drawn = values[values > 0]
    if len(drawn) < len(values):
        apart = percent(1 - len(drawn) / len(values), digits=0)
        lines.append(f"r = 0: {apart}, not drawn")
    if len(drawn):
        edges = np.linspace(0, 1, bins + 1).tolist()
        axes.hist(drawn, edges, density=True, color=color, alpha=0.35)
        x, density = _density(drawn)
        axes.plot(x, density, color=color, linewidth=1.6)
    axes.set_ylim(0, axes.get_ylim()[1] * (1.1 + 0.11 * len(lines)))  # room for the text
    axes.text(
        0.5,
        0.96,
        "\n".join(lines),
        ha="center",
        va="top",
        transform=axes.transAxes,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},  # over a threshold
    )


def _density(values: np.ndarray, points: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Return a Gaussian kernel density over [0, 1], reflected at both ends to keep its mass."""
    counts, edges = np.histogram(values, points, (0.0, 1.0))
    x = (edges[:-1] + edges[1:]) / 2
    # Half of Silverman's rule, which assumes one mode: cross-source scores have two. The floor
    # keeps a single repeated value drawable.
    width = max(0.45 * float(np.std(values)) * len(values) ** -0.2, 0.01)
    kernel = np.zeros((points, points))
    for mirror in (x, -x, 2 - x):
        kernel += np.exp(-0.5 * ((x[:, None] - mirror[None, :]) / width) ** 2)
    kernel /= width * np.sqrt(2 * np.pi)
    return x, kernel @ (counts / counts.sum())


def _curves(axes: Axes, rows: Sequence[Json], pattern: str) -> None:
    """Draw the metrics whose names match a pattern."""
    axis = "epoch" if any("epoch" in row for row in rows) else "step"
    named = dict.fromkeys(name for row in rows for name in row)
    for name in (name for name in named if re.search(pattern, name.lower())):
        points = [
            (float(row.get(axis, index)), float(row[name]))
            for index, row in enumerate(rows)
            if isinstance(row.get(name), int | float)
        ]
        if points:
            color = (BLUE, VERMILION, ORANGE, GRAY, *CYCLE)[len(axes.lines) % 6]
            label = _NAMES.get(name, name)
            axes.plot(*zip(*points, strict=True), color=color, linewidth=1.6, label=label)
    axes.set_xlabel(axis)
    if axes.lines:
        axes.legend(frameon=False)
    else:
        axes.text(0.5, 0.5, "not recorded", ha="center", va="center", transform=axes.transAxes)
