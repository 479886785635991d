from __future__ import annotations

import pytest

from clipvg.errors import InputError
from clipvg.report.numbers import draw_grid


def test_latex_needs_no_mending() -> None:
    text = draw_grid(("model", "Acc@0.5"), [("r|s_1 & 50 %", "–")], "latex")
    assert r"r|s\_1 \& 50 \% & -- \\" in text.splitlines()


def test_markdown_keeps_bars_inside_cells() -> None:
    text = draw_grid(("model", "Acc@0.5"), [("a|b", "1")])
    assert text.splitlines()[-1] == r"| a\|b | 1 |"


def test_other_markup_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'latex'"):
        draw_grid(("a",), [], "latx")  # type: ignore[arg-type]
