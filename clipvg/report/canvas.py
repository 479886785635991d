"""Create matplotlib figures, and write them as files or bytes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from clipvg.errors import InputError
from clipvg.runtime.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 10  # size of all text
_LONGEST = 26  # characters of a name


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, without pyplot and its global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure with one pair of axes."""
    figure = new_figure(width, height)
    return figure, figure.add_subplot()


def percents(axes: Axes, which: str) -> None:
    """Label the "x" axis, the "y" axis or "both", which show shares, with percentages."""
    for name in ("x", "y") if which == "both" else (which,):
        getattr(axes, f"{name}axis").set_major_formatter(lambda share, _: f"{100 * share:g} %")


def legend_below(figure: Figure, axes: Axes | None = None) -> None:
    """Put a legend below the axes: of everything in the figure, or of one of its axes."""
    shown = () if axes is None else axes.get_legend_handles_labels()
    # Outside the axes, where it cannot cover a bar or curve.
    figure.legend(*shown, loc="outside lower center", ncols=4, frameon=False)


def cut(name: str) -> str:
    """Shorten a name so that it fits beside a figure; its end is kept."""
    # "$" would start a formula in matplotlib.
    short = name if len(name) <= _LONGEST else "…" + name[-_LONGEST + 1 :]
    return short.replace("$", r"\$")


def check_figure_path(path: str | Path) -> Path:
    """Return the path of a figure to write, after checking that its ending names a format.

    Raises:
        InputError: the ending is not .png, .svg or .pdf.
    """
    path = Path(path)
    if path.suffix.lower() not in {".png", ".svg", ".pdf"}:
        raise InputError(f"{path}: a figure is written as .png, .svg or .pdf; change the ending")
    return path


def _in_one_size(figure: Figure) -> None:
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_fontsize(_POINTS)
    for axes in figure.axes:
        axes.tick_params(labelsize=_POINTS)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, SVG or PDF, by the ending of its name, and return the path.

    Raises:
        InputError: the ending is not .png, .svg or .pdf.
    """
    path = check_figure_path(path)
    suffix = path.suffix.lower()
    _in_one_size(figure)
    # Without a date the same figure gives the same bytes.
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix, {})
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], dpi=160, metadata=undated)
    return path


def encode_figure(figure: Figure) -> tuple[bytes, str]:
    """Return the bytes and media type of a figure for the page: PNG at 144 dpi."""
    buffer = BytesIO()
    _in_one_size(figure)
    figure.savefig(buffer, format="png", dpi=144)
    return buffer.getvalue(), "image/png"
