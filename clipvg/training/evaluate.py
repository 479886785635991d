"""Predictions for whole label tables, and their accuracy."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from tqdm import tqdm

from clipvg.data.letterbox import square_boxes
from clipvg.errors import InputError
from clipvg.features.cache import Against, CachedLabels, FeatureCache
from clipvg.features.images import CacheOptions, CacheTooLargeError
from clipvg.labels import LabelTable
from clipvg.labels.formats.flickr import boxes_of_phrases
from clipvg.model.grounder import GroundingModel, evaluating
from clipvg.ops import box_reliability
from clipvg.ops.linear import fast_cpu
from clipvg.pseudo.entities import KINDS, kind_of
from clipvg.runtime import distributed
from clipvg.runtime.distributed import World
from clipvg.runtime.progress import progress_bar
from clipvg.training.metrics import Evaluation, Group

# COCO calls an object small below 32^2 and large from 96^2 pixels, on images of about 640 x 480.
# As shares of the image's area these hold for images of any size.
SMALL_BELOW, LARGE_FROM = 32**2, 96**2
SIZES = ("small", "medium", "large")

_IMAGES_AT_ONCE = 256  # features held while a table is predicted: 0.6 GB for ViT-B-16


@dataclass
class PredictedBoxes:
    """Boxes for the labels of a table, in its order.

    Attributes:
        boxes: (N, 4) float32 cxcywh, normalised to the letterboxed square; NaN where the image
            cannot be read.
        target: (N, 4) float32, the labels' boxes in the same frame; NaN where there is none.
        sizes: (N, 2) int64 image sizes (width, height) in pixels; (1, 1) where not readable.
        reasons: for each label why there is no box; None where there is one.
        side: side of the square in pixels.
    """

    boxes: np.ndarray
    target: np.ndarray
    sizes: np.ndarray
    reasons: list[str | None]
    side: int


def predict_labels(
    model: GroundingModel,
    labels: LabelTable,
    *,
    against: Against = "box",
    batch_size: int = 64,
    features: FeatureCache | None = None,
    reading: CacheOptions | None = None,
) -> PredictedBoxes:
    """Predict a box for every label, decoding and encoding each distinct image once.

    Under `torchrun` the processes share out the images, and each gets all boxes; all must call it.

    Args:
        model: on the device to use; it is left in the mode it was in.
        labels: the table, with an image root.
        against: which boxes become `target`.
        batch_size: labels in one forward pass.
        features: a cache over the model's towers to use and extend.
        reading: how to read images that `features` does not have; with `on_error="null"` the labels
            of an image that cannot be read get NaN and the reason.

    Returns:
        The boxes in the table's order.

    Raises:
        InputError: an image cannot be read, or an option is too small.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; expected at least 1.")
    reading = reading or CacheOptions()
    world, count = distributed.join(model.device), len(labels)
    progress = reading.progress and world.is_main
    (boxes, target), sizes = np.zeros((2, count, 4), np.float32), np.zeros((count, 2), np.int64)
    reasons: dict[int, str] = {}
    # "null" under torchrun, where all processes must reach the exchange of reasons
    on_error = "null" if world.size > 1 else reading.on_error
    chunks = replace(reading, on_error=on_error, progress=progress)
    mine = int((labels.distinct_images()[1] % world.size == world.rank).sum())
    bar = progress_bar(mine, desc="predict", unit="label", show=progress)
    with evaluating(model), bar:
        for rows, view in views(
            model, labels, features, world=world, against=against, reading=chunks
        ):
            boxes[rows] = _boxes(model, view, batch_size, bar)
            target[rows], sizes[rows] = view.target.numpy(), view.sizes
            found = zip(rows.tolist(), view.reasons(), strict=True)
            reasons |= {row: why for row, why in found if why is not None}
    for part in distributed.gather_objects(reasons, world):
        reasons |= part
    if reasons and reading.on_error == "raise":
        raise InputError(reasons[min(reasons)])
    for array in (boxes, target, sizes):
        distributed.all_reduce(torch.from_numpy(array), world)  # in place; 0 where not ours
    boxes[list(reasons)] = np.nan
    why = [reasons.get(row) for row in range(count)]
    return PredictedBoxes(boxes, target, sizes, why, model.backbone.image_size)


def evaluate(
    model: GroundingModel,
    labels: LabelTable,
    *,
    against: Against = "box",
    batch_size: int = 64,
    features: FeatureCache | None = None,
    num_workers: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Measure accuracy and mean IoU over a table, also by size of box and length and kind of words.

    IoU is measured in the letterboxed square with the prediction clamped to it, and a label is
    right when IoU >= the threshold, as in the published code; the model's preset decides whether
    boxes are cut to integers. Each label counts once, under `torchrun` too.

    Args:
        model: on the device to use.
        labels: the table, with an image root.
        against: compare with the labels' own boxes, or with the true ones; labels without a true
            box are then left out and counted in `skipped`.
        batch_size: labels in one forward pass.
        features: a cache over the model's towers to use and extend.
        num_workers: threads that decode images.
        progress: show a bar on standard error where it takes over two seconds.

    Returns:
        The result; its `to_dict()` has `acc_0.5`, `acc_0.5:0.95`, `mean_iou`, `count` and the rest.

    Raises:
        InputError: nothing to compare with, an unreadable image, or an option too small.
    """
    check_against(labels, against)
    found = predict_labels(
        model,
        labels,
        against=against,
        batch_size=batch_size,
        features=features,
        reading=CacheOptions(num_workers=num_workers, progress=progress),
    )
    return compare(found, labels, against)


def check_against(labels: LabelTable, against: Against) -> None:
    """Raise InputError if `against` is not "box" or "truth", or the labels have no such boxes."""
    if against not in ("box", "truth"):
        raise InputError(f"against is {against!r}; expected 'box' or 'truth'.")
    if against == "truth" and not labels.has_truth:
        raise InputError("the labels have no column 'truth' with boxes. Use against='box'.")


def compare(found: PredictedBoxes, labels: LabelTable, against: Against) -> Evaluation:
    """Return the accuracy of boxes that were predicted for labels; see `evaluate`."""
    known = np.isfinite(found.target).all(1)
    pred, target = (torch.from_numpy(boxes[known]) for boxes in (found.boxes, found.target))
    iou = np.full(len(labels), np.nan, np.float32)
    iou[known] = box_reliability(pred, target, bins=1)[0][0].numpy()
    lengths = [_length_group(expression) for expression in labels.expressions]
    shares, pixels = _area_shares(found), found.sizes.astype(np.float64).prod(1)
    return Evaluation(
        **vars(Group.of(iou[known])),
        against=against,
        skipped=int((~known).sum()),
        fingerprint=_fingerprint(labels, against),
        by_size=_grouped(iou, known, _size_groups(shares * (640 * 480)), SIZES),
        by_pixels=_grouped(iou, known, _size_groups(shares * pixels), SIZES),
        by_length=_grouped(iou, known, lengths, ("1-3", "4-6", "7+")),
        by_kind=_grouped(iou, known, _kinds(labels.expressions), KINDS),
        any_box=_any_box(found, labels) if against == "box" else None,
        iou=iou,
    )


def views(
    model: GroundingModel,
    labels: LabelTable,
    features: FeatureCache | None,
    *,
    world: World | None = None,
    against: Against = "box",
    reading: CacheOptions | None = None,
) -> Iterator[tuple[np.ndarray, CachedLabels]]:
    """Yield this process's rows with their features, a bounded number of images at a time."""
    world = world or World()
    _, image_of = labels.distinct_images()
    if features is not None and features.fits(model):
        rows = np.flatnonzero(image_of % world.size == world.rank)
        mine = labels if world.size == 1 else labels.select(rows)
        try:
            yield rows, features.view(mine, against=against)
            return
        except CacheTooLargeError:
            pass  # a table other than the one the cache was made for: read it in chunks
    order = np.argsort(image_of, kind="stable")
    order = order[image_of[order] % world.size == world.rank]
    chunk_of = image_of[order] // world.size // _IMAGES_AT_ONCE
    for rows in np.split(order, np.flatnonzero(np.diff(chunk_of)) + 1):
        if len(rows):
            chunk = FeatureCache(model, options=reading)
            yield rows, chunk.view(labels.select(rows), against=against)


@torch.no_grad()
def _boxes(model: GroundingModel, view: CachedLabels, batch_size: int, bar: tqdm) -> np.ndarray:
    """Predict the boxes of all rows of a view, (N, 4)."""
    rows = np.arange(len(view))
    found = []
    for start in range(0, len(view), batch_size):
        batch = view.batch(rows[start : start + batch_size]).to(model.device)
        with fast_cpu():
            found.append(batch.predict(model).float())
        bar.update(len(batch.row))
    return torch.cat(found).cpu().numpy() if found else np.zeros((0, 4), np.float32)


def _any_box(found: PredictedBoxes, labels: LabelTable) -> Group | None:
    """Return the accuracy against the best of several boxes; None if labels do not list them."""
    listed = boxes_of_phrases(labels)
    if listed is None:
        return None
    rows, boxes = listed
    count = np.bincount(rows, minlength=len(labels))
    target = square_boxes(boxes, found.sizes[rows], found.side)
    pred = torch.from_numpy(found.boxes[rows])
    iou = box_reliability(pred, torch.from_numpy(target), bins=1)[0][0].numpy()
    best = np.zeros(len(labels), np.float32)
    np.maximum.at(best, rows, iou)
    return Group.of(best[count > 0])


def _area_shares(found: PredictedBoxes) -> np.ndarray:
    """Return the share of the image's area that each target covers, (N,)."""
    width, height = found.sizes.astype(np.float64).T
    # In the square the long side is 1, so the image's area there is short side / long side.
    image = np.minimum(width, height) / np.maximum(width, height).clip(min=1)
    return found.target[:, 2].astype(np.float64) * found.target[:, 3] / image.clip(min=1e-9)


def _size_groups(areas: np.ndarray) -> list[str]:
    """Return the names of the size groups of areas in pixels."""
    groups = (areas >= SMALL_BELOW).astype(int) + (areas >= LARGE_FROM)
    return [SIZES[group] for group in groups]


def _kinds(expressions: Sequence[str]) -> list[str]:
    kinds = {expression: kind_of(expression) for expression in set(expressions)}
    return [kinds[expression] for expression in expressions]


def _length_group(expression: str) -> str:
    words = len(expression.split())
    return "1-3" if words <= 3 else "4-6" if words <= 6 else "7+"


def _grouped(
    iou: np.ndarray, known: np.ndarray, names: Sequence[str], wanted: Sequence[str]
) -> dict[str, Group]:
    name_of = np.array(names, dtype=object)
    return {name: Group.of(iou[known & (name_of == name)]) for name in wanted}


def _fingerprint(labels: LabelTable, against: Against) -> str:
    if against == "box":
        return labels.fingerprint()
    return hashlib.sha256(labels.fingerprint().encode() + labels.truth().tobytes()).hexdigest()
