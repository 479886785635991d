"""Figures of a run, drawn by matplotlib without a display.

Every function returns a `matplotlib.figure.Figure`; matplotlib is imported at the first call and
its global state (pyplot, rcParams) is never touched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clipvg.errors import InputError
from clipvg.report.canvas import encode_figure, legend_below, new_figure, save_figure
from clipvg.report.style import BLUE, CORRECT, CYCLE, GRAY, ORANGE, VERMILION, WRONG

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "cut",
    "draw_performance",
    "encode_figure",
    "performance_curve",
    "reliability_histogram",
    "save_figure",
    "score_matrix_figure",
    "training_curves",
]


def reliability_histogram(
    reliability: np.ndarray,
    *,
    correct: np.ndarray | None = None,
    threshold: float | None = None,
    bins: int = 40,
    title: str = "Reliability of the pseudo-labels",
) -> Figure:
    """Draw a histogram of reliability, split by correct and wrong labels where the truth is known.

    Args:
        reliability (N,): in [0, 1], NaN where not scored (counted in the legend, not drawn).
        correct (N,): bool, whether each label is correct; one plain histogram when None.
        threshold: h, drawn as a line with the share of labels that it keeps.
        bins: number of equal bins over [0, 1].
        title: above the figure.
    """
    values = np.asarray(reliability, dtype=np.float64)
    scored = np.isfinite(values)
    figure = new_figure(7.2, 3.8)
    axes = figure.add_subplot()
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
        _mark_threshold(axes, threshold, f"h = {threshold:g}, keeps {kept:.0%}")
    if not scored.all():
        axes.plot([], [], " ", label=_count("not scored", ~scored))
    axes.set(xlim=(0, 1), xlabel="reliability r (IoU with the pseudo-box)", ylabel="labels")
    axes.set_title(title)
    legend_below(figure)
    return figure


def score_matrix_figure(
    cells: Sequence[Sequence[np.ndarray]],
    measurers: Sequence[str],
    sources: Sequence[str],
    *,
    specific: np.ndarray | None = None,
    chosen: Mapping[tuple[int, int], float] | None = None,
    bins: int = 40,
) -> Figure:
    """Draw histograms of reliability with densities: one row a measurer, one column a source.

    As in the paper's figure the bars and curves are of (0, 1]: labels without any overlap (r = 0)
    are often so many that nothing else could be seen. Their share is written instead.

    Args:
        cells: cells[i][j] holds the reliabilities that measurer i gives the labels of source j,
            in [0, 1], NaN where not scored; it may be empty.
        measurers: names of the rows.
        sources: names of the columns.
        specific (measurers, sources): bool, the source-specific cells, drawn in another colour;
            by default those whose two names are equal.
        chosen: (row, column) -> threshold h that selects in this cell, drawn as a line.
        bins: number of equal bins over [0, 1].

    Raises:
        InputError: `cells` is empty or is not one row a measurer and one cell a source.
    """
    if not measurers or not sources:
        raise InputError("a score matrix needs at least one measurer and one source to draw")
    if len(cells) != len(measurers) or any(len(row) != len(sources) for row in cells):
        raise InputError(
            f"expected {len(measurers)} x {len(sources)} cells (measurers x sources), "
            f"got rows of {[len(row) for row in cells]}"
        )
    figure = new_figure(max(4.5, 2.9 * len(sources) + 0.8), max(3.2, 2.2 * len(measurers) + 0.8))
    grid = figure.subplots(len(measurers), len(sources), squeeze=False, sharex=True)
    for i, measurer in enumerate(measurers):
        for j, source in enumerate(sources):
            own = measurer == source if specific is None else bool(specific[i][j])
            _density_cell(grid[i, j], cells[i][j], CYCLE[0] if own else CYCLE[1], bins)
            if chosen and (i, j) in chosen:
                grid[i, j].axvline(chosen[i, j], color="black", linestyle="--", linewidth=1.4)
                for side in grid[i, j].spines.values():
                    side.set_linewidth(2)
            if i == 0:
                grid[i, j].set_title(f"labels: {cut(source)}")
            if j == 0:
                grid[i, j].set_ylabel(f"measurer:\n{cut(measurer)}\ndensity")
            if i == len(measurers) - 1:
                grid[i, j].set_xlabel("reliability r")
    title = "Reliability by measurer and source (blue: source-specific)"
    figure.suptitle(title + ("; line: chosen h" if chosen else ""), fontsize=11)
    return figure


def performance_curve(
    thresholds: Sequence[float],
    performance: Sequence[float],
    *,
    chosen: float | None = None,
    kept: Sequence[float] | None = None,
    baseline: float | None = None,
    metric: str = "Acc@0.5 on the validation labels",
) -> Figure:
    """Draw the performance of models trained on labels with r >= h, against h.

    Args:
        thresholds (K,): the thresholds that were tried, in any order.
        performance (K,): one value each, higher is better; NaN where nothing was trained.
        chosen: the winning threshold, marked.
        kept (K,): number of labels each threshold keeps, written at the points.
        baseline: performance without selection, drawn as a level line.
        metric: label of the vertical axis.
    """
    figure = new_figure(7.2, 3.8)
    axes = figure.add_subplot()
    draw_performance(axes, thresholds, performance, chosen=chosen, kept=kept, baseline=baseline)
    axes.set(xlabel="reliability threshold h", ylabel=metric)
    axes.set_title("Performance by reliability threshold")
    legend_below(figure)
    return figure


def draw_performance(
    axes: Axes,
    thresholds: Sequence[float],
    performance: Sequence[float],
    *,
    chosen: float | None = None,
    kept: Sequence[float] | None = None,
    baseline: float | None = None,
    baseline_name: str = "all labels",
) -> None:
    """Draw performance by threshold into axes; the arguments are those of `performance_curve`."""
    order = np.argsort(np.asarray(thresholds, dtype=float), kind="stable")
    h = np.asarray(thresholds, dtype=float)[order]
    y = np.asarray(performance, dtype=float)[order]
    name = "trained on r ≥ h" + ("" if kept is None else " (number of labels)")
    axes.plot(h, y, "o-", color=BLUE, label=name)
    if kept is not None:
        for x, value, count in zip(h, y, np.asarray(kept)[order], strict=True):
            if np.isfinite(value):
                _note(axes, f"{int(count):,}", (x, value))
    if baseline is not None:
        axes.axhline(baseline, color=GRAY, linestyle="--", label=baseline_name)
    if chosen is not None:
        at = int(np.argmin(np.abs(h - chosen)))
        axes.plot(h[at], y[at], "*", color=VERMILION, markersize=17, label=f"chosen h = {chosen:g}")
    axes.margins(x=0.08, y=0.18)


def training_curves(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw loss and validation performance by epoch, as `metrics.jsonl` records them.

    Args:
        metrics: one mapping an epoch (or step); every numeric key whose name holds "loss" is drawn
            on the left, every other one that holds "acc" or "iou" on the right. "epoch" or, where
            it is absent, "step" is the horizontal axis.
    """
    rows = [dict(row) for row in metrics]
    axis = "epoch" if any("epoch" in row for row in rows) else "step"
    figure = new_figure(7.2, 3.4)
    left, right = figure.subplots(1, 2)
    names = dict.fromkeys(name for row in rows for name in row)
    losses = [name for name in names if "loss" in name.lower()]
    shares = [name for name in names if re.search("acc|iou", name.lower()) and name not in losses]
    _curves(left, rows, axis, losses, "loss")
    _curves(right, rows, axis, shares, "validation, share")
    left.set_title("Training loss")
    right.set_title("Validation")
    return figure


def _count(name: str, mask: np.ndarray) -> str:
    return f"{name} ({int(np.count_nonzero(mask)):,})"


def cut(name: str, length: int = 26) -> str:
    """Shorten a name so that it fits beside a figure; its end is kept."""
    # "$" would start a formula in matplotlib.
    short = name if len(name) <= length else "…" + name[-length + 1 :]
    return short.replace("$", r"\$")


def _mark_threshold(axes: Axes, threshold: float, label: str) -> None:
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1.4, label=label)


def _note(axes: Axes, text: str, point: tuple[float, float]) -> None:
    axes.annotate(
        text,
        point,
        xytext=(0, 11),  # clear of the star of the chosen one
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color=GRAY,
    )


def _density_cell(axes: Axes, values: np.ndarray, color: str, bins: int) -> None:
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    axes.set_xlim(0, 1)
    if len(values) == 0:
        axes.text(0.5, 0.5, "not scored", ha="center", va="center", transform=axes.transAxes)
        axes.set_yticks([])
        return
    lines = [f"N = {len(values):,}", f"r ≥ 0.5: {float(np.mean(values >= 0.5)):.0%}"]
    drawn = values[values > 0]
    if len(drawn) < len(values):
        lines.append(f"r = 0: {1 - len(drawn) / len(values):.0%}, not drawn")
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
        fontsize=8,
        transform=axes.transAxes,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},  # over a threshold
    )


def _density(values: np.ndarray, points: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Return a Gaussian kernel density over [0, 1], reflected at both ends to keep its mass."""
    counts, edges = np.histogram(values, points, (0.0, 1.0))
    x = (edges[:-1] + edges[1:]) / 2
    # Half of Silverman's rule, which is for one hump: cross-source scores have two. The floor keeps
    # a single repeated value drawable.
    width = max(0.45 * float(np.std(values)) * len(values) ** -0.2, 0.01)
    kernel = np.zeros((points, points))
    for mirror in (x, -x, 2 - x):
        kernel += np.exp(-0.5 * ((x[:, None] - mirror[None, :]) / width) ** 2)
    kernel /= width * np.sqrt(2 * np.pi)
    return x, kernel @ (counts / counts.sum())


def _curves(
    axes: Axes, rows: Sequence[Mapping[str, Any]], axis: str, names: Sequence[str], ylabel: str
) -> None:
    for number, name in enumerate(names):
        points = [
            (float(row.get(axis, index)), float(row[name]))
            for index, row in enumerate(rows)
            if isinstance(row.get(name), int | float)
        ]
        if points:
            x, y = zip(*points, strict=True)
            color = (BLUE, VERMILION, ORANGE, GRAY, *CYCLE)[number % 6]
            axes.plot(x, y, color=color, linewidth=1.6, label=name)
    axes.set(xlabel=axis, ylabel=ylabel)
    if axes.lines:
        axes.legend(frameon=False, fontsize=8)
    else:
        axes.text(0.5, 0.5, "not recorded", ha="center", va="center", transform=axes.transAxes)
