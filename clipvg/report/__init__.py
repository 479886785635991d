"""Figures, pictures with boxes, and the HTML page of a run.

Names are imported at first use: matplotlib comes with the first figure only.
"""

from typing import TYPE_CHECKING

from clipvg.runtime.lazy import lazy_imports

if TYPE_CHECKING:
    from clipvg.report.figures import performance_curve as performance_curve
    from clipvg.report.figures import reliability_histogram as reliability_histogram
    from clipvg.report.figures import save_figure as save_figure
    from clipvg.report.figures import score_matrix_figure as score_matrix_figure
    from clipvg.report.figures import training_curves as training_curves
    from clipvg.report.html import Picture as Picture
    from clipvg.report.html import Report as Report
    from clipvg.report.html import Table as Table
    from clipvg.report.html import write_html as write_html
    from clipvg.report.pictures import Mark as Mark
    from clipvg.report.pictures import draw_boxes as draw_boxes
    from clipvg.report.run import draw_report as draw_report
    from clipvg.report.run import report_run as report_run

__getattr__, __all__ = lazy_imports(__name__)
