"""Figures of a file of labels: counts, and where the boxes are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipvg.report.canvas import new_figure
from clipvg.report.style import BLUE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LAST = 20  # values above it share its bar
_CELLS = 16  # of the map, in each direction


def count_bars(values: Sequence[int], name: str) -> Figure:
    """Return a bar for each value from 0 or 1 up; what is above 20 shares the last.

    Args:
        values: whole numbers, one a label.
        name: what they count.
    """
    from matplotlib.ticker import MaxNLocator

    counts = Counter(min(value, _LAST) for value in values)
    first, last = min(counts), max(counts)
    places = list(range(first, last + 1))
    figure = new_figure(7.2, 2.8)
    axes = figure.add_subplot()
    axes.bar(places, [counts[place] for place in places], color=BLUE, width=0.8)
    axes.set_xticks(places, [f"{place}+" if place == _LAST else str(place) for place in places])
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set(xlabel=name, ylabel="labels")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def center_map(boxes: np.ndarray, sizes: np.ndarray) -> Figure:
    """Return how many boxes have their centre where in the image.

    Args:
        boxes (N, 4): xyxy pixels.
        sizes (N, 2): width and height of the image of each.
    """
    from matplotlib.ticker import MaxNLocator

    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 / sizes  # (N, 2) shares
    counts, _, _ = np.histogram2d(centers[:, 1], centers[:, 0], bins=_CELLS, range=[[0, 1], [0, 1]])
    figure = new_figure(7.2, 3.6)
    axes = figure.add_subplot()
    drawn = axes.imshow(counts, extent=(0, 1, 1, 0), cmap="viridis", vmin=0)
    figure.colorbar(drawn, ax=axes, label="boxes", ticks=MaxNLocator(5, integer=True))
    axes.set(xlabel="from left to right", ylabel="from top to bottom")
    return figure
