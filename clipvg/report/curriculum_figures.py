"""Figures of SSA and MSA: histograms of reliability, curves of the searches, precision-recall."""

from __future__ import annotations

from collections.abc import Sequence

from clipvg.report.decided import Decided
from clipvg.report.figures import score_matrix_figure
from clipvg.report.html import PageImage
from clipvg.report.numbers import percent
from clipvg.report.selection import (
    Curve,
    PrecisionRecall,
    histogram_image,
    performance_figure,
    precision_recall_figure,
)


def draw_histograms(decided: Decided) -> list[PageImage]:
    """Draw the reliability of the labels: one histogram, or a grid by measurer and source."""
    scores = decided.selection.scores
    if scores is None:
        return []
    if decided.is_ssa:
        last, correct = decided.last, decided.selection.correct
        meaning = _meaning(decided, [last.measurer])
        return [histogram_image(scores[last.measurer], correct, last.threshold, meaning)]
    # Rows and columns in the order of the decisions, own sources on the diagonal.
    ordered = [source for source in decided.chosen if source in scores.sources]
    sources = list(dict.fromkeys([*ordered, *scores.sources]))
    place = {source: number for number, source in enumerate(sources)}
    names = sorted(scores.names, key=lambda name: place.get(name, len(sources)))
    figure = score_matrix_figure(scores.select(names), sources=sources, chosen=decided.chosen)
    return [
        PageImage.of_figure(
            figure,
            alt=f"Grid of {len(names)} × {len(sources)} reliability histograms: measurers "
            f"{', '.join(names)}; sources {', '.join(sources)}.",
            caption="Reliability of the labels of each source (columns) by each measurer "
            f"(rows): {_meaning(decided, names)}. Framed with a line: the cell and the threshold "
            "that select the source's labels.",
        )
    ]


def draw_curves(decided: Decided) -> PageImage:
    """Draw performance by threshold, one panel per decision."""
    before = decided.summary.score_before if decided.is_ssa else None
    if decided.summary.continued is not None:
        before = decided.summary.continued.score
    curves = []
    for step in decided.summary.steps:
        title = "Performance" if decided.is_ssa else f"{step.source}, by {step.measurer}"
        curves.append(Curve.of(title, step.stages, step.threshold, before))
        before = step.score
    baseline = decided.summary.first_name if decided.is_ssa else "before this source"
    figure = performance_figure(curves, metric=decided.metric, baseline=baseline)
    panels = "" if decided.is_ssa else ", one panel a source"
    joined = "" if decided.is_ssa else "what was selected before, joined with "
    return PageImage.of_figure(
        figure,
        alt=f"Performance by reliability threshold{panels}. " + "; ".join(map(str, curves)) + ".",
        caption=f"Each point is a model trained on {joined}the labels whose reliability is at "
        "least h; the number is of all its labels.",
    )


def draw_precision_recall(decided: Decided) -> list[PageImage]:
    """Draw how well thresholds find correct labels; for evaluation, where truth is known."""
    scores, correct = decided.selection.scores, decided.selection.correct
    if scores is None or correct is None:
        return []
    panels: dict[str, dict[str, PrecisionRecall]] = {}
    for source in decided.chosen:
        rows = decided.of_source(source)
        curves = {n: PrecisionRecall.of(scores[n][rows], correct[rows]) for n in scores.names}
        panels[source] = {name: curve for name, curve in curves.items() if curve is not None}
    panels = {source: curves for source, curves in panels.items() if curves}
    if not panels:
        return []
    trained = list(zip(scores.names, scores.trained_on, strict=True))
    own = {
        source: [name for name, on in trained if on and (decided.is_ssa or source in on)]
        for source in panels
    }
    said = "; ".join(
        f"{source}: "
        + ", ".join(f"{name} {percent(curve.average)}" for name, curve in curves.items())
        for source, curves in panels.items()
    )
    return [
        PageImage.of_figure(
            precision_recall_figure(panels, chosen=decided.chosen, specific=own),
            alt=f"Precision-recall curves of the kept labels. Average precision: {said}.",
            caption="How well a threshold on reliability finds the correct labels. The truth "
            "is for evaluation alone: no decision saw it. Solid: source-specific, dashed: "
            "cross-source.",
        )
    ]


def _meaning(decided: Decided, names: Sequence[str]) -> str:
    """Return what the scores of these names are, for captions."""
    box = f"{decided.similarity} of the measurer's box with the label's box"
    # given, or of further measures: no model of this run made them
    scored = {each.name for each in decided.summary.measurers if each.stage is None}
    scores = [name for name in names if name in scored]
    if not scores:
        return box
    own = f"the score of {', '.join(scores)}"
    return own if len(scores) == len(names) else f"{box}, or {own}"
