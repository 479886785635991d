"""Figures, pictures with boxes, and the HTML page of a run.

Names are imported at first use: matplotlib comes with the first figure only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipvg.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from clipvg.report.figures import (
        performance_curve,
        reliability_histogram,
        save_figure,
        score_matrix_figure,
        training_curves,
    )
    from clipvg.report.html import Picture, Report, Table, write_html
    from clipvg.report.pictures import Mark, draw_boxes
    from clipvg.report.run import draw_report, report_run

_MODULE_OF = {
    "Mark": "pictures",
    "Picture": "html",
    "Report": "html",
    "Table": "html",
    "draw_boxes": "pictures",
    "draw_report": "run",
    "performance_curve": "figures",
    "reliability_histogram": "figures",
    "report_run": "run",
    "save_figure": "figures",
    "score_matrix_figure": "figures",
    "training_curves": "figures",
    "write_html": "html",
}

__all__ = [
    "Mark",
    "Picture",
    "Report",
    "Table",
    "draw_boxes",
    "draw_report",
    "performance_curve",
    "reliability_histogram",
    "report_run",
    "save_figure",
    "score_matrix_figure",
    "training_curves",
    "write_html",
]

__getattr__ = lazy_names(__name__, _MODULE_OF)
