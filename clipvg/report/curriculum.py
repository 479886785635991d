"""The report of self-paced adapting: decisions, curves, histograms and pictures, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from clipvg.curriculum import RunSummary, Step
from clipvg.curriculum.summary import Choice, Training
from clipvg.report.beyond import searched_name, variants_facts, variants_lead, variants_table
from clipvg.report.figures import encode_figure, score_matrix_figure
from clipvg.report.html import Picture, Report, Table
from clipvg.report.numbers import percent, points
from clipvg.report.run_data import Selection
from clipvg.report.sections import curve_section, histogram_section
from clipvg.report.selection import (
    Curve,
    PrecisionRecall,
    performance_curves,
    precision_recall_figure,
)

_PICTURES = (
    "Training labels drawn by chance, some that the threshold keeps and some that it leaves out; "
    "the predicted box is the adapted model's."
)


def curriculum_report(folder: Path, summary: RunSummary) -> Report:
    """The report of an SSA or MSA run."""
    held_out = summary.validation.is_held_out
    metric = "agreement, held-out labels" if held_out else "Acc@0.5, validation labels"
    selection = Selection.read(folder, summary)
    make = _ssa if summary.method == "ssa" else _msa
    report = make(folder, summary, metric, selection)
    if summary.beyond is not None:
        report.tables = [*report.tables, variants_table(summary.beyond, metric)]
        report.lead += variants_lead(summary.beyond)
    report.gallery_note = _PICTURES
    known = selection.correct is not None
    report.gallery_roles = ("predicted", "true", "pseudo") if known else ("predicted", "pseudo")
    return report


def _ssa(folder: Path, summary: RunSummary, metric: str, selection: Selection) -> Report:
    (step,), (base,) = summary.steps, summary.stages
    threshold, after = step.threshold, step.score
    figures: list[Picture] = []
    gallery: list[Picture] = []
    if selection.scores is not None:
        reliability = selection.scores[step.measurer]
        figures.append(
            histogram_section(reliability, correct=selection.correct, threshold=threshold)
        )
        gallery = selection.gallery(reliability, np.ones(len(reliability), bool), folder / "model")
    figures.append(curve_section(step.stages, chosen=threshold, baseline=base.score, metric=metric))
    if selection.scores is not None:
        chosen = {step.source or "all": (step.measurer, threshold)}
        figures += _precision_recall(chosen, selection, whole=True)
    gain = after - (base.score or 0)
    return Report(
        title=f"Self-paced adapting {folder.name}",
        lead=f"The labels with reliability r ≥ {threshold:g} give {percent(after)} instead of "
        f"{percent(base.score)} ({points(gain)} points). "
        f"{summary.validation.statement}",
        facts=[
            ("no SSA", percent(base.score)),
            (searched_name(summary, "SSA"), percent(after)),
            *variants_facts(summary),
            ("gain (points)", points(gain)),
            ("threshold h", f"{threshold:g}"),
            ("labels kept", f"{step.kept:,} of {base.kept:,}"),
        ],
        tables=[_ssa_stages(summary, metric)],
        figures=figures,
        gallery=gallery,
        timings={_ssa_name(training): training.seconds for training in (base, *step.stages)},
    )


def _ssa_stages(summary: RunSummary, metric: str) -> Table:
    (step,), (base,) = summary.steps, summary.stages
    rows = [("all labels (no SSA)", f"{base.kept:,}", percent(base.score), "")]
    for training in step.stages:
        chosen = " (chosen)" if training.threshold == step.threshold else ""
        gain = "" if training.score is None else points(training.score - (base.score or 0))
        rows.append(
            (_ssa_name(training) + chosen, f"{training.kept:,}", percent(training.score), gain)
        )
    return Table("Models that were trained", ("trained on", "labels", metric, "gain"), rows)


def _ssa_name(training: Training) -> str:
    h = training.threshold
    return "all labels" if h is None else f"r ≥ {h:g}"


def _msa(folder: Path, summary: RunSummary, metric: str, selection: Selection) -> Report:
    last = summary.steps[-1]
    after, kept, total = last.score, last.total, summary.labels.count
    base = summary.score_before
    chosen = {step.source: (step.measurer, step.threshold) for step in summary.all_steps}
    figures = [*_grid(selection, chosen), *_precision_recall(chosen, selection)]
    figures.append(_curves(summary, metric))
    gain = "" if base is None else f" instead of {percent(base)} ({points(after - base)} points)"
    order = ", ".join(step.source for step in summary.all_steps)
    name = searched_name(summary, "MSA")
    facts = [(name, percent(after)), ("labels kept", f"{kept:,} of {total:,}")]
    if base is not None:
        facts = [("no MSA", percent(base)), facts[0], ("gain (points)", points(after - base)),
                 facts[1]]  # fmt: skip
    return Report(
        title=f"Multi-source self-paced adapting {folder.name}",
        lead=f"{kept:,} reliable labels of {total:,}, selected source by source "
        f"({order}), give {percent(after)}{gain}. {summary.validation.statement}",
        facts=[*facts, *variants_facts(summary), ("trainings", f"{summary.num_trainings}")],
        tables=[
            _decisions(summary, metric),
            _choices(summary.steps, metric),
            _trained_once(summary, metric),
        ],
        figures=figures,
        gallery=_msa_gallery(folder, selection, chosen),
        timings=_msa_times(summary),
    )


def _decisions(summary: RunSummary, metric: str) -> Table:
    earlier = len(summary.all_steps) - len(summary.steps)
    rows = []
    for number, step in enumerate(summary.all_steps, 1):
        own = "own" if step.specific else "cross-source"
        rows.append(
            (
                f"{number}. {step.source}{' (earlier run)' if number <= earlier else ''}",
                "" if step.complexity is None else f"{step.complexity:.2f}",
                f"{step.measurer} ({own})",
                f"{step.threshold:g}",
                f"{step.kept:,} of {step.labels:,}",
                f"{step.total:,}",
                percent(step.score),
            )
        )
    header = (
        "source", "complexity", "measurer i*", "h*", "labels kept", "selected in all", metric
    )  # fmt: skip
    return Table(
        "Decisions, from the simplest source to the most complex",
        header,
        rows,
        "Complexity: mean number of entities per expression, unless another measure was given. "
        "Measurer: own is source-specific, trained on the source itself; cross-source is not.",
    )


def _choices(steps: Sequence[Step], metric: str) -> Table:
    names = list(dict.fromkeys(choice.measurer for step in steps for choice in step.choice))
    rows = []
    for step in steps:
        found = {choice.measurer: choice for choice in step.choice}
        cells = [_choice_cell(found.get(name), name == step.measurer) for name in names]
        rows.append((f"labels of {step.source}", *cells))
    h0 = ", ".join(sorted({f"{step.h0:g}" for step in steps}))
    return Table(
        f"Which measurer selects: {metric}, of what was selected before with the labels r ≥ {h0}",
        ("", *(f"by {name}" for name in names)),
        rows,
        "In brackets the labels of the source that the measurer keeps; ★ the chosen one.",
    )


def _choice_cell(choice: Choice | None, is_chosen: bool) -> str:
    if choice is None:
        return ""
    score = "not trained" if choice.score is None else percent(choice.score)
    return f"{score} ({choice.kept:,}){' ★' if is_chosen else ''}"


def _trained_once(summary: RunSummary, metric: str) -> Table:
    names = {
        "all labels": "all labels of all sources (no MSA)",
        "continued": "what the earlier run selected",
    }
    rows = [
        (
            names.get(training.name, f"all labels of {training.measurer}"),
            f"{training.kept:,}",
            percent(training.score),
        )
        for training in summary.stages
    ]
    last = summary.steps[-1]
    rows.append(("what MSA selected", f"{last.total:,}", percent(last.score)))
    return Table("Models to compare with", ("trained on", "labels", metric), rows)


def _grid(selection: Selection, chosen: Mapping[str, tuple[str, float]]) -> list[Picture]:
    scores = selection.scores
    if scores is None:
        return []
    # Rows and columns in the order of the decisions, own sources on the diagonal.
    sources = [*(s for s in chosen if s in scores.sources)]
    sources += [s for s in scores.sources if s not in sources]
    names = sorted(scores.names, key=lambda n: sources.index(n) if n in sources else len(sources))
    cells = [[scores.cell(name, source) for source in sources] for name in names]
    specific = [
        [source in scores.trained_on[scores.names.index(name)] for source in sources]
        for name in names
    ]
    marked = {
        (names.index(name), sources.index(source)): h
        for source, (name, h) in chosen.items()
        if name in names and source in sources
    }
    figure = score_matrix_figure(cells, names, sources, specific=np.array(specific), chosen=marked)
    return [
        Picture(
            *encode_figure(figure),
            alt=f"Grid of {len(names)} × {len(sources)} reliability histograms: measurers "
            f"{', '.join(names)}; sources {', '.join(sources)}.",
            caption="Reliability of the labels of each source (columns) by each measurer (rows): "
            "IoU of the measurer's box with the label's box. Framed with a line: the cell and the "
            "threshold that select the source's labels.",
        )
    ]


def _precision_recall(
    chosen: Mapping[str, tuple[str, float]], selection: Selection, *, whole: bool = False
) -> list[Picture]:
    """Precision and recall of each measurer's thresholds; for evaluation, where truth is known."""
    scores, correct = selection.scores, selection.correct
    if scores is None or correct is None:
        return []
    source_of = np.array(scores.sources)[scores.source_of]
    panels: dict[str, dict[str, PrecisionRecall]] = {}
    for source in chosen:
        rows = np.ones(len(correct), bool) if whole else source_of == source
        curves = {n: PrecisionRecall.of(scores[n][rows], correct[rows]) for n in scores.names}
        known = {name: curve for name, curve in curves.items() if curve is not None}
        if known:
            panels[source] = known
    if not panels:
        return []
    trained = dict(zip(scores.names, scores.trained_on, strict=True))
    own = {s: [n for n, on in trained.items() if s in on or (whole and on)] for s in panels}
    said = "; ".join(
        f"{source}: " + ", ".join(f"{name} {curve.average:.2f}" for name, curve in curves.items())
        for source, curves in panels.items()
    )
    return [
        Picture(
            *encode_figure(precision_recall_figure(panels, chosen=chosen, specific=own)),
            alt=f"Precision-recall curves of the kept labels. Average precision: {said}.",
            caption="How well a threshold on reliability finds the correct labels. The truth is "
            "for evaluation alone: no decision saw it. Solid: source-specific, dashed: "
            "cross-source.",
        )
    ]


def _curves(summary: RunSummary, metric: str) -> Picture:
    before = None if summary.continued is None else summary.continued.score
    curves = []
    for step in summary.steps:
        tried = [(training.threshold, training) for training in step.stages]
        curves.append(
            Curve(
                f"{step.source}, by {step.measurer}",
                [h for h, _ in tried if h is not None],
                [np.nan if each.score is None else each.score for _, each in tried],
                step.threshold,
                [each.kept for _, each in tried],
                before,
            )
        )
        before = step.score
    listed = "; ".join(
        f"{curve.title}: "
        + ", ".join(
            f"{y:.3f} at h = {h:g}"
            for h, y in zip(curve.thresholds, curve.performance, strict=True)
        )
        for curve in curves
    )
    return Picture(
        *encode_figure(performance_curves(curves, metric=metric)),
        alt=f"Performance by reliability threshold, one panel a source. {listed}.",
        caption="Each point is a model trained on what was selected before, joined with the "
        "source's labels whose reliability is at least h; the number is of all its labels.",
    )


def _msa_gallery(
    folder: Path, selection: Selection, chosen: Mapping[str, tuple[str, float]]
) -> list[Picture]:
    scores = selection.scores
    if scores is None:
        return []
    reliability = np.full(len(scores), np.nan, np.float32)
    source_of = np.array(scores.sources)[scores.source_of]
    for source, (name, _) in chosen.items():
        if name in scores.names:
            rows = source_of == source
            reliability[rows] = scores[name][rows]
    return selection.gallery(reliability, np.isfinite(reliability), folder / "model")


def _msa_times(summary: RunSummary) -> dict[str, float]:
    times = {
        f"{training.name} {training.measurer or ''}".strip(): training.seconds
        for training in summary.stages
        if training.name != "continued"
    }
    for step in summary.steps:
        times[f"search, {step.source}"] = sum(training.seconds for training in step.stages)
    return times
