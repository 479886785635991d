"""The report of self-paced adapting: decisions, curves, histograms and labels, as data."""

from __future__ import annotations

from pathlib import Path

from clipvg.curriculum import RunSummary
from clipvg.curriculum.summary import Choice, Training
from clipvg.report.beyond import searched_name, variants_facts, variants_lead, variants_table
from clipvg.report.cases import curriculum_cases
from clipvg.report.curriculum_figures import draw_curves, draw_histograms, draw_precision_recall
from clipvg.report.decided import Decided
from clipvg.report.html import Report, Table
from clipvg.report.numbers import percent, points
from clipvg.report.selection import Selection
from clipvg.report.style import ROLES

_GALLERY = (
    "Training labels that the threshold keeps and that it leaves out: some drawn by chance; of 48 "
    "looked at those that the adapted model misses furthest, and those whose box adapting moved "
    "most. IoU before → after."
)
TERMS = {
    "reliability r": "How far a model that did not choose the label agrees with it: the {measure} "
    "of its box with the label's, from 0 (apart) to 1 (the same).",
    "SSA, MSA": "Self-paced adapting with one or several sources of labels: train on all labels, "
    "score each by r, keep those with r ≥ h, train again.",
    "AUROC": "How often a correct label has a higher r than a wrong one: 50 % is chance, 100 % "
    "tells them apart.",
    "Acc@0.5": "Share of expressions whose predicted box overlaps the right one with an IoU of at "
    "least 0.5.",
}


def curriculum_report(folder: Path, summary: RunSummary) -> Report:
    """Return the report of an SSA or MSA run."""
    page = _Page(summary, Selection.read(folder, summary))
    tables = [page.models()] if page.is_ssa else [page.decisions(), page.choices(), page.models()]
    lead = " ".join([page.lead(), *summary.notes])
    if summary.beyond is not None:
        compared = page.metric, summary.score_before, summary.first_name
        tables.append(variants_table(summary.beyond, *compared))
        lead += variants_lead(summary.beyond)
    known = page.selection.correct is not None
    return Report(
        title=f"{summary.method.upper()}, self-paced adapting, {folder.name}",
        lead=lead,
        facts=page.facts(),
        tables=tables,
        figures=[*draw_histograms(page), draw_curves(page), *draw_precision_recall(page)],
        gallery=curriculum_cases(
            page.selection, page.deciding(), folder / "model", page.model_before(folder)
        ),
        gallery_note=_GALLERY,
        gallery_roles=[role for role in ROLES if known or role != "true"],
        timings=page.timings(),
        terms={
            word: said.format(measure=page.similarity)
            for word, said in TERMS.items()
            if known or word != "AUROC"
        },
    )


class _Page(Decided):
    """The sentences, key figures and tables of a run's report."""

    def gain(self, score: float | None) -> str:
        before = self.summary.score_before
        return "" if before is None or score is None else points(score - before)

    def lead(self) -> str:
        """Return the outcome in a sentence or two."""
        summary, last = self.summary, self.last
        before = summary.score_before
        gain = f" instead of {percent(before)} ({self.gain(last.score)} points)"
        if self.is_ssa:
            which = f"The labels with reliability r ≥ {last.threshold:g}"
            if summary.labels.labelled:
                which = f"The {summary.labels.labelled:,} annotated labels and t{which[1:]}"
        else:
            which = (
                f"{last.total:,} reliable labels of {summary.labels.count:,}, selected source by "
                f"source ({', '.join(step.source for step in summary.all_steps)}),"
            )
        result = f"{which} give {percent(last.score)}{'' if before is None else gain}."
        said = [result, summary.validation.statement]
        return " ".join([*said, *([summary.folds.statement] if summary.folds else [])])

    def facts(self) -> list[tuple[str, str]]:
        """Return the key figures, which are shown large."""
        summary, last = self.summary, self.last
        method = summary.method.upper()
        facts = [(searched_name(summary, method), percent(last.score)), *variants_facts(summary)]
        if summary.score_before is not None:
            before = summary.first_name if summary.labels.labelled else f"no {method}"
            facts.insert(0, (before, percent(summary.score_before)))
            facts.append(("gain (points)", self.gain(summary.score)))
        if self.is_ssa:
            facts.append(("threshold h", f"{last.threshold:g}"))
        kept = f"{summary.kept:,} of {summary.labels.count:,}"
        return [*facts, ("labels kept", kept), ("trainings", f"{summary.num_trainings}")]

    @property
    def trained(self) -> list[tuple[str, Training]]:
        """Trainings with display names; for MSA without those of its searches."""
        found = []
        for training in (*self.summary.stages, *(self.last.stages if self.is_ssa else ())):
            name = f"all labels of {training.measurer}"
            if training.threshold is not None:
                name = f"r ≥ {training.threshold:g}"
            elif training.name == "continued":
                name = "what the earlier run selected"
            elif self.is_ssa or training.name == "all labels":
                name = self.summary.first_name
            found.append((name, training))
        return found

    def models(self) -> Table:
        """Return the table of trainings that are compared."""
        rows = []
        for name, training in self.trained:
            is_chosen = training.threshold == self.last.threshold
            gain = "" if training.threshold is None else self.gain(training.score)
            rows.append((name + " (chosen)" * is_chosen, training.kept, training.score, gain))
        if not self.is_ssa:
            score = self.last.score
            rows.append(("what MSA selected", self.last.total, score, self.gain(score)))
        cells = [(name, f"{kept:,}", percent(score), gain) for name, kept, score, gain in rows]
        header = ("trained on", "labels", self.metric, "gain")
        return Table("Models that were trained", header, cells)

    def decisions(self) -> Table:
        """Return the table of decisions about each source."""
        summary = self.summary
        earlier = len(summary.all_steps) - len(summary.steps)
        rows = [
            (
                f"{number}. {step.source}{' (earlier run)' if number <= earlier else ''}",
                "" if step.complexity is None else f"{step.complexity:.2f}",
                f"{step.measurer} ({'own' if step.specific else 'cross-source'})",
                f"{step.threshold:g}",
                f"{step.kept:,} of {step.labels:,}",
                f"{step.total:,}",
                percent(step.score),
            )
            for number, step in enumerate(summary.all_steps, 1)
        ]
        chosen = ("source", "complexity", "measurer i*", "h*")
        return Table(
            "Decisions, from the simplest source to the most complex",
            (*chosen, "labels kept", "selected in all", self.metric),
            rows,
            "Complexity: mean number of entities per expression, unless another measure was given. "
            "Measurer: own is source-specific, trained on the source itself; cross-source is not.",
        )

    def choices(self) -> Table:
        """Return the table that compares the measurers of each source."""
        steps = self.summary.steps
        names = list(dict.fromkeys(choice.measurer for step in steps for choice in step.choice))
        rows = []
        for step in steps:
            found = {choice.measurer: choice for choice in step.choice}
            cells = [_choice_cell(found.get(name), name == step.measurer) for name in names]
            rows.append((f"labels of {step.source}", *cells))
        h0 = ", ".join(sorted({f"{step.h0:g}" for step in steps}))
        return Table(
            f"Which measurer selects: {self.metric}, of what was selected before with the labels "
            f"r ≥ {h0}",
            ("", *(f"by {name}" for name in names)),
            rows,
            "In brackets the labels of the source that the measurer keeps; ★ the chosen one.",
        )

    def timings(self) -> dict[str, float]:
        """Return seconds by step."""
        times = {name: each.seconds for name, each in self.trained if each.name != "continued"}
        if not self.is_ssa:
            for step in self.summary.steps:
                times[f"search, {step.source}"] = sum(each.seconds for each in step.stages)
        return times


def _choice_cell(choice: Choice | None, is_chosen: bool) -> str:
    if choice is None:
        return ""
    score = "not trained" if choice.score is None else percent(choice.score)
    return f"{score} ({choice.kept:,}){' ★' if is_chosen else ''}"
