"""Format numbers for people, and tables as Markdown or as LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

from clipvg.errors import InputError, near_matches

Markup = Literal["markdown", "latex"]
Row = Sequence[str]

_LATEX = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {"–": "--", "≥": r"$\geq$"}
)


def percent(value: float | None, *, digits: int = 1) -> str:
    """Write a share as a percentage, 0.6542 as "65.4 %"; a dash for None."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def points(difference: float) -> str:
    """Write a difference of two shares in percentage points with its sign, 0.072 as "+7.2"."""
    return f"{100 * difference:+.1f}"


def listed(values: Sequence[float | None] | float | None) -> str:
    """Write one number or several, joined by commas; a dash for None."""
    each = values if isinstance(values, Sequence) else [values]
    return ", ".join("–" if value is None else f"{value:g}" for value in each)


def draw_grid(header: Row, rows: Sequence[Row], markup: Markup = "markdown") -> str:
    """Return a table whose first column is text and whose others are numbers.

    Example:
        >>> print(draw_grid(("model", "Acc@0.5"), [("ours", "65.4")]))
        | model | Acc@0.5 |
        |---|--:|
        | ours | 65.4 |
    """
    if markup not in get_args(Markup):
        raise InputError(f"table={markup!r}: {near_matches(markup, get_args(Markup))}")
    draw: Callable[[Row, Sequence[Row]], list[str]] = _markdown if markup == "markdown" else _latex
    return "\n".join(draw(header, rows))


def _markdown(header: Row, rows: Sequence[Row]) -> list[str]:
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (header, *rows)]
    rule = f"|---|{'--:|' * (len(header) - 1)}"
    return [f"| {lines[0]} |", rule, *(f"| {line} |" for line in lines[1:])]


def _latex(header: Row, rows: Sequence[Row]) -> list[str]:
    lines = [" & ".join(cell.translate(_LATEX) for cell in row) for row in (header, *rows)]
    return [
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"\toprule",
        rf"{lines[0]} \\",
        r"\midrule",
        *(rf"{line} \\" for line in lines[1:]),
        r"\bottomrule",
        r"\end{tabular}",
    ]
