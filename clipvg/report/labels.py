"""Report page of label files: statistics, findings of a check, and example labels."""

from __future__ import annotations

import functools
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipvg.boxes import iou
from clipvg.data.image import read_image
from clipvg.errors import InputError
from clipvg.labels import Finding, LabelTable, check_labels
from clipvg.labels.schema import RELIABILITY
from clipvg.pseudo.entities import count_entities, entity_heads
from clipvg.pseudo.words import ADJECTIVES, PLACES, make_singular
from clipvg.report.cases import label_image
from clipvg.report.choice import Choice, Rule, rule_order
from clipvg.report.figures import center_map, count_bars
from clipvg.report.html import PageImage, Report, Table
from clipvg.report.numbers import percent

if TYPE_CHECKING:
    from clipvg.model.grounder import GroundingModel

_CLASSES = 20  # rows of the table of classes


def label_rules(labels: LabelTable) -> list[Rule]:
    """Return the source and rule of each label, "" where unknown."""
    sources = labels.sources()
    if "pseudo.rule" not in labels.table.column_names:
        return [(source, "") for source in sources]
    rules = labels.table.column("pseudo.rule").to_pylist()
    return [(source, rule or "") for source, rule in zip(sources, rules, strict=True)]


def report_labels(
    labels: LabelTable,
    *,
    name: str,
    choice: Choice | None = None,
    model: GroundingModel | None = None,
) -> Report:
    """Return the report page of labels.

    Raises:
        InputError: there are no labels, an image cannot be read, or the choice is not possible.
    """
    if not len(labels):
        raise InputError(f"{name}: no labels to show")
    choice = choice or Choice()
    rules = label_rules(labels)
    overlap = None if model is None else functools.partial(_overlap, model, labels)
    column = choice.column(labels)
    shown = choice.rows(labels, rules, overlap)
    sizes = _sizes(labels)
    sized = labels.with_column("width", sizes[:, 0]).with_column("height", sizes[:, 1])
    findings = check_labels(sized, open_images=False).findings
    lengths = [len(expression.split()) for expression in labels.expressions]
    entities = [count_entities(expression) for expression in labels.expressions]
    roles = {"pseudo": True, "true": labels.has_truth, "predicted": model is not None}
    return Report(
        title=f"Labels of {name}",
        lead=_lead(labels, findings),
        facts=[
            ("labels", f"{len(labels):,}"),
            ("images", f"{labels.num_images:,}"),
            ("labels an image", f"{len(labels) / labels.num_images:.1f}"),
            ("different expressions", f"{len(set(labels.expressions)):,}"),
            ("words, median", f"{statistics.median(lengths):g}"),
            ("entities, mean", f"{statistics.fmean(entities):.2f}"),
        ],
        tables=[*_finding_tables(findings), _rule_table(labels, rules), _class_table(labels)],
        figures=_figures(labels, sizes, lengths, entities),
        gallery=_gallery(labels, shown, _remarks(labels, shown, findings, column), model),
        gallery_note=f"{choice.describe(column, len(shown))} Click an image to enlarge it.",
        gallery_roles=[role for role, is_there in roles.items() if is_there],
    )


def _lead(labels: LabelTable, findings: Sequence[Finding]) -> str:
    counts = Counter(source or "unknown" for source in labels.sources())
    parts = [f"{source} {count:,}" for source, count in counts.most_common()]
    clean = "" if findings else " A check found nothing wrong or odd."
    return f"Labels by source: {', '.join(parts)}.{clean}"


def _finding_tables(findings: Sequence[Finding]) -> list[Table]:
    if not findings:
        return []
    rows = [(f"{each.kind}: {each.title}", each.severity, f"{each.count:,}") for each in findings]
    note = "clipvg labels check says what to do about these, and looks at the images too."
    return [Table("Findings", ("finding", "severity", "count"), rows, note)]


def _rule_table(labels: LabelTable, rules: Sequence[Rule]) -> Table:
    rows = []
    image_of, expressions = labels.distinct_images()[1], labels.expressions
    for (source, rule), count in sorted(Counter(rules).items(), key=lambda item: rule_order(*item)):
        of_rule = [row for row, each in enumerate(rules) if each == (source, rule)]
        images = len({image_of[row] for row in of_rule})
        words = statistics.fmean(len(expressions[row].split()) for row in of_rule)
        rows.append(
            (source or "unknown", rule or "–", f"{count:,}", percent(count / len(labels)),
             f"{images:,}", f"{words:.1f}")
        )  # fmt: skip
    header = ("source", "rule", "labels", "share", "images", "mean words")
    return Table("Sources and rules", header, rows)


def _class_table(labels: LabelTable) -> Table:
    classes = Counter(_class_of(expression) for expression in labels.expressions)
    rows = [
        (name, f"{count:,}", percent(count / len(labels)))
        for name, count in classes.most_common(_CLASSES)
    ]
    rest = len(classes) - len(rows)
    note = "The class is the main noun of the expression." + (f" {rest:,} more." if rest else "")
    return Table("Classes", ("class", "labels", "share"), rows, note)


def _class_of(expression: str) -> str:
    """Return the first thing that is named: "dog" for "leftmost of the two dogs"."""
    said_of_things = ADJECTIVES | PLACES
    heads = [head for head in entity_heads(expression) if head not in said_of_things]
    return make_singular(heads[0]) if heads else "–"


def _figures(
    labels: LabelTable, sizes: np.ndarray, lengths: list[int], entities: list[int]
) -> list[PageImage]:
    figures = [
        (count_bars(lengths, "words of an expression"), "Lengths of the expressions."),
        (count_bars(entities, "entities of an expression"), "Things that the expressions name."),
        (
            center_map(labels.boxes(), sizes),
            "Centres of the boxes, as shares of the image's width and height.",
        ),
    ]
    return [PageImage.of_figure(figure, text, text) for figure, text in figures]


def _sizes(labels: LabelTable) -> np.ndarray:
    """Return the (width, height) of each label's image, (N, 2) int32, read from it if unknown."""
    sizes = labels.sizes()
    names, index = labels.distinct_images()
    for unknown in np.unique(index[(sizes <= 0).any(axis=1)]):
        sizes[index == unknown] = read_image(labels.image_path(names[unknown])).size
    return sizes


def _gallery(
    labels: LabelTable,
    rows: np.ndarray,
    remarks: Sequence[list[str]],
    model: GroundingModel | None,
) -> list[PageImage]:
    given = list(zip(rows.tolist(), remarks, strict=True))
    if model is None:
        return [label_image(labels, row, remarks=said) for row, said in given]
    boxes, scores = _predict(model, labels.select(rows), scores=True)
    exif = model.preset.exif
    return [
        label_image(labels, row, box, said, score=score, exif=exif)
        for (row, said), box, score in zip(given, boxes, scores.tolist(), strict=True)
    ]


def _remarks(
    labels: LabelTable, rows: np.ndarray, findings: Sequence[Finding], column: str | None
) -> list[list[str]]:
    """Return lines about each of the rows (R,): rule and image, reliability, findings."""
    some = labels.select(rows)
    found = [(each.kind, set(np.intersect1d(each.rows, rows).tolist())) for each in findings]
    remarks = []
    rules = label_rules(some)
    for row, rule, label in zip(rows.tolist(), rules, some, strict=True):
        worth = [f"{_said(label[RELIABILITY + by])} by {by}" for by in some.reliability_names]
        kinds = [kind for kind, its in found if row in its]
        lines = [" · ".join([*filter(None, rule), label["image"]])]
        if worth:
            lines.append(f"reliability {', '.join(worth)}")
        if column is not None and not column.startswith(RELIABILITY):
            lines.append(f"{column} {_said(label[column])}")
        if kinds:
            lines.append(f"check: {', '.join(kinds)}")
        remarks.append(lines)
    return remarks


def _said(value: object) -> str:
    return "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def _overlap(model: GroundingModel, labels: LabelTable) -> np.ndarray:
    """Return the IoU of the labels' boxes with those that a model predicts, (N,)."""
    return iou(labels.boxes(), _predict(model, labels, scores=False)[0])


def _predict(
    model: GroundingModel, labels: LabelTable, *, scores: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (N, 4) float32 xyxy pixels and scores (N,) of labels, image by image."""
    names, of_row = labels.distinct_images()
    by_image = np.split(np.argsort(of_row, kind="stable"), np.cumsum(np.bincount(of_row))[:-1])
    expressions = labels.expressions
    answers = model.predict(
        [labels.image_path(name) for name in names],
        [[expressions[row] for row in rows] for rows in by_image],
        scores=scores,
    )
    boxes, sure = np.zeros((len(labels), 4), np.float32), np.zeros(len(labels), np.float32)
    for rows, answer in zip(by_image, answers, strict=True):
        boxes[rows], sure[rows] = answer.boxes, answer.scores
    return boxes, sure
