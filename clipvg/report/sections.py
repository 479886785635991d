"""Ready-made parts of a report page: figures and images from plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipvg.boxes import iou
from clipvg.data.image import read_image
from clipvg.labels import LabelTable
from clipvg.report.canvas import encode_figure
from clipvg.report.drawing import Mark, draw_boxes, encode_image
from clipvg.report.figures import reliability_histogram, training_curves
from clipvg.report.html import PageImage
from clipvg.report.numbers import percent
from clipvg.runtime.files import Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CORRECT_IOU = 0.5
_PIXELS_PER_INCH = 96  # of a page
_SHOWN = 800  # pixels of an image's long side in the gallery


def figure_image(figure: Figure, alt: str, caption: str) -> PageImage:
    """Return a figure for the page, where its letters are as large as those of any other."""
    width = round(_PIXELS_PER_INCH * figure.get_figwidth())
    return PageImage(*encode_figure(figure), alt=alt, caption=caption, width=width)


def histogram_section(
    reliability: np.ndarray,
    correct: np.ndarray | None,
    threshold: float,
    similarity: str = "IoU",
) -> PageImage:
    """Draw the histogram of reliability, split by correct and wrong labels where that is known."""
    figure = reliability_histogram(reliability, correct=correct, threshold=threshold)
    split = " split by correct and wrong labels" if correct is not None else ""
    scored = reliability[np.isfinite(reliability)]
    median = f", median {np.median(scored):.2f}" if len(scored) else ""
    caption = f"Reliability of each label: {similarity} of the measurer's box with the label's box."
    if correct is not None:
        caption += f" A label is correct when its IoU with the true box is at least {CORRECT_IOU}."
    return figure_image(
        figure, f"Histogram of the reliability of {len(scored)} labels{split}{median}.", caption
    )


def training_section(metrics: Sequence[Json]) -> PageImage:
    """Draw loss and validation curves of one training."""
    return figure_image(
        training_curves(metrics),
        f"Curves of training loss and validation accuracy over {len(metrics)} records.",
        "Loss per label (L1 + GIoU) and performance on the validation labels.",
    )


def label_image(
    labels: LabelTable,
    row: int,
    predicted: np.ndarray | None = None,
    remarks: Sequence[str] = (),
    *,
    score: float | None = None,
    before: np.ndarray | None = None,
    exif: bool = True,
) -> PageImage:
    """Draw one label's image with its box, true box and prediction, and say how these overlap.

    Args:
        labels: with an image root.
        row: index of the label.
        predicted (4,): xyxy pixels, where there is a prediction.
        remarks: lines to say below the expression, before the overlap.
        score: of the prediction.
        before (4,): what was predicted before adapting, xyxy pixels, where that is known.
        exif: whether boxes are of the upright image, as EXIF says, or of the stored one.

    Raises:
        InputError: the image cannot be read.
    """
    one = labels.select([row])
    name, expression = one.image_names[0], one.expressions[0]
    box, truth = one.boxes()[0], one.truth()[0]
    image = read_image(one.image_path(name), exif=exif)
    scale = min(1.0, _SHOWN / max(image.size))  # before drawing: lines keep their width
    image = image.resize([max(1, round(scale * side)) for side in image.size])
    has_truth = bool(np.isfinite(truth).all())
    marks = [Mark(scale * box, role="pseudo"), Mark(scale * truth, role="true")]
    said = list(remarks)
    if labels.has_truth and not has_truth:
        said.append("nothing in the image fits the expression")
    if before is not None:
        marks.append(Mark(scale * before, role="before"))
    if predicted is not None:
        marks.append(Mark(scale * predicted, role="predicted"))
        boxes = [each for each in (before, predicted) if each is not None]
        overlaps = {"true box": iou(boxes, truth)} if has_truth else {}
        overlaps["label"] = iou(boxes, box)
        shown = [
            f"with the {name} {' → '.join(map(percent, overlap.tolist()))}"
            for name, overlap in overlaps.items()
        ]
        shown += [] if score is None else [f"score {percent(score)}"]
        said.append(f"IoU {', '.join(shown)}")
    return PageImage(
        *encode_image(draw_boxes(image, marks), max_size=_SHOWN),
        alt=f"{name} with the boxes of the expression “{expression}”.",
        caption=expression,
        detail="\n".join(said),
    )
