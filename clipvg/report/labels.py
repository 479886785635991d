"""The page of a file of labels: what is in it, and a sample of each rule to look at."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Sequence

import numpy as np

from clipvg.data.image import read_image
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.pseudo.entities import count_entities, entity_heads
from clipvg.pseudo.plurals import make_singular
from clipvg.pseudo.words import ADJECTIVES, PLACES
from clipvg.report.canvas import encode_figure
from clipvg.report.drawing import Mark, draw_boxes, encode_image
from clipvg.report.figures import center_map, count_bars
from clipvg.report.html import PageImage, Report, Table
from clipvg.report.style import VERMILION

_CLASSES = 20  # rows of the table of classes
_ENLARGED = 900  # pixels of a gallery image's longer side


def label_rules(labels: LabelTable) -> list[tuple[str, str]]:
    """Return source and rule of each label, "" where unknown."""
    sources = labels.sources()
    if "pseudo.rule" not in labels.table.column_names:
        return [(source, "") for source in sources]
    rules = labels.table.column("pseudo.rule").to_pylist()
    return [(source, rule or "") for source, rule in zip(sources, rules, strict=True)]


def report_labels(labels: LabelTable, *, name: str, per_rule: int = 4, seed: int = 0) -> Report:
    """Return the page of labels.

    Args:
        labels: with the image root.
        name: of their file, for the title.
        per_rule: labels of each source and rule in the gallery.
        seed: of which these are.

    Raises:
        InputError: there are no labels, or an image cannot be read.
    """
    if not len(labels):
        raise InputError(f"{name}: no labels to show")
    rules = label_rules(labels)
    lengths = [len(expression.split()) for expression in labels.expressions]
    entities = [count_entities(expression) for expression in labels.expressions]
    return Report(
        title=f"Labels of {name}",
        lead=_lead(labels),
        facts=[
            ("labels", f"{len(labels):,}"),
            ("images", f"{labels.num_images:,}"),
            ("labels an image", f"{len(labels) / labels.num_images:.1f}"),
            ("different expressions", f"{len(set(labels.expressions)):,}"),
            ("words, median", f"{statistics.median(lengths):g}"),
            ("entities, mean", f"{statistics.fmean(entities):.2f}"),
        ],
        tables=[_rule_table(labels, rules), _class_table(labels)],
        figures=_figures(labels, lengths, entities),
        gallery=_gallery(labels, rules, per_rule, seed),
        gallery_note=f"At most {per_rule} labels of each rule, drawn at random with seed {seed}. "
        "Click an image to enlarge it.",
        gallery_roles=(),
    )


def _lead(labels: LabelTable) -> str:
    counts = Counter(source or "unknown" for source in labels.sources())
    parts = [f"{source} {count:,}" for source, count in counts.most_common()]
    return f"Labels by source: {', '.join(parts)}."


def _rule_table(labels: LabelTable, rules: Sequence[tuple[str, str]]) -> Table:
    rows = []
    for (source, rule), count in sorted(Counter(rules).items(), key=_by_source_and_count):
        of_rule = [row for row, each in enumerate(rules) if each == (source, rule)]
        images = len({labels.distinct_images()[1][row] for row in of_rule})
        words = statistics.fmean(len(labels.expressions[row].split()) for row in of_rule)
        rows.append(
            (source or "unknown", rule or "–", f"{count:,}", f"{count / len(labels):.1%}",
             f"{images:,}", f"{words:.1f}")
        )  # fmt: skip
    header = ("source", "rule", "labels", "share", "images", "mean words")
    return Table("Sources and rules", header, rows)


def _by_source_and_count(item: tuple[tuple[str, str], int]) -> tuple[str, int, str]:
    (source, rule), count = item
    return source, -count, rule


def _class_table(labels: LabelTable) -> Table:
    classes = Counter(_class_of(expression) for expression in labels.expressions)
    rows = [
        (name, f"{count:,}", f"{count / len(labels):.1%}")
        for name, count in classes.most_common(_CLASSES)
    ]
    rest = len(classes) - len(rows)
    note = "The class is the main noun of the expression." + (f" {rest:,} more." if rest else "")
    return Table("Classes", ("class", "labels", "share"), rows, note)


def _class_of(expression: str) -> str:
    """The first thing named: of "leftmost of the two dogs" the dog."""
    said_of_things = ADJECTIVES | PLACES
    heads = [head for head in entity_heads(expression) if head not in said_of_things]
    return make_singular(heads[0]) if heads else "–"


def _figures(labels: LabelTable, lengths: list[int], entities: list[int]) -> list[PageImage]:
    sizes = _sizes(labels)
    figures = [
        (count_bars(lengths, "words of an expression"), "Lengths of the expressions."),
        (count_bars(entities, "entities of an expression"), "Things that the expressions name."),
        (
            center_map(labels.boxes(), sizes),
            "Centres of the boxes, as shares of the image's width and height.",
        ),
    ]
    return [PageImage(*encode_figure(figure), alt=text, caption=text) for figure, text in figures]


def _sizes(labels: LabelTable) -> np.ndarray:
    """(N, 2) width and height of each label's image; read from the image where not known."""
    sizes = labels.sizes().astype(np.float64)
    names, index = labels.distinct_images()
    for unknown in np.unique(index[(sizes <= 0).any(axis=1)]):
        sizes[index == unknown] = read_image(labels.image_path(names[unknown])).size
    return sizes


def _gallery(
    labels: LabelTable, rules: Sequence[tuple[str, str]], per_rule: int, seed: int
) -> list[PageImage]:
    state = random.Random(seed)
    images = []
    for rule, count in sorted(Counter(rules).items(), key=_by_source_and_count):
        rows = [row for row, each in enumerate(rules) if each == rule]
        for row in sorted(state.sample(rows, min(per_rule, count))):
            images.append(_image(labels, row, rule))
    return images


def _image(labels: LabelTable, row: int, rule: tuple[str, str]) -> PageImage:
    expression, name = labels.expressions[row], labels.image_names[row]
    image = read_image(labels.image_path(name))
    box = labels.boxes(rows=np.array([row]))[0]
    drawn = draw_boxes(image, [Mark(box, expression, role="label", color=VERMILION)])
    detail = " · ".join([*(part for part in rule if part), name])
    data, media_type = encode_image(drawn, max_size=_ENLARGED)
    return PageImage(
        data, media_type, alt=f"{name}: {expression}", caption=expression, detail=detail
    )
