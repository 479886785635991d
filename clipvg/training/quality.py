"""Fit the quality head of a trained model on labels that the model was not trained on.

It is fitted after the boxes and not with them: on held-out labels the model errs as it does on new
images, its weights are final, and the training of the boxes is the same to the bit with and without
a head.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from clipvg.features import FeatureBatch
from clipvg.features.cache import CachedLabels, FeatureCache
from clipvg.features.texts import padded_tokens
from clipvg.labels import LabelTable
from clipvg.model.fusion import Features
from clipvg.model.grounder import GroundingModel, evaluating
from clipvg.model.quality import QualityHead
from clipvg.model.signs import shown_in
from clipvg.ops import box_reliability
from clipvg.ops.linear import fast_cpu
from clipvg.training.calibration import Foreign, Held, calibrate, standardise
from clipvg.training.evaluate import views
from clipvg.training.matching import (
    MatcherInputs,
    MatcherTrainer,
    RaggedLists,
    displaced,
    rivals_of,
)

LEAST = 100  # fewest held-out labels that a head is fitted on
_MOST = 20_000  # labels that the matcher learns from
_MOST_BYTES = 1 << 29  # of their regions
_AT_ONCE = 128
_FOREIGN = 3  # expressions of other images asked of each held-out label's image


def fit_quality(
    model: GroundingModel,
    labels: LabelTable,
    held_out: LabelTable,
    *,
    weights: np.ndarray | None = None,
    features: FeatureCache | None = None,
    seed: int = 0,
) -> bool:
    """Fit a quality head to a trained model; everything else of the model stays as it is.

    The matcher learns from the training labels what words look like. The reader of [REG] and the
    weights of all signs are fitted on held-out labels: whether the box is right on their own
    expressions, and whether anything fits on these against expressions of other images. Of the
    latter, those whose words are all in one expression of the image fit it and are left out.

    Args:
        model: on the device to use.
        labels: labels that it was trained on.
        held_out: labels of other images, whose boxes count as right.
        weights: (N,) weights of the labels; they only leave out those of weight 0.
        features: a cache over the model's towers to use.
        seed: seed of the fit.

    Returns:
        Whether the model has a head now. With a warning it has none if the held-out labels are
        fewer than 100, of one image, or answered nearly all right or all wrong, or if the model's
        prefix is learned.
    """
    model.forget_quality()
    if model.prefix is not None:
        return _without("its prompt prefix is learned, so that no word has features of its own")
    if len(held_out) < LEAST:
        return _without(f"{len(held_out)} held-out labels are fewer than {LEAST}")
    head = QualityHead(model.reg_token.embedding_dim).to(model.device)
    with evaluating(model), fast_cpu(), torch.random.fork_rng():
        torch.manual_seed(seed)
        _learn_words(model, head, _chosen(labels, weights, head, seed), features, seed)
        held = _ask(model, head, held_out, features, seed)
        if held is None:
            return _without(
                "the model is right, or wrong, on nearly all held-out labels, or one image has all"
            )
        calibrate(head, held, seed)
    model.keep_quality(head)
    return True


def _without(why: str) -> bool:
    warnings.warn(f"the model gets no quality head: {why}.", stacklevel=3)
    return False


def _chosen(
    labels: LabelTable, weights: np.ndarray | None, head: QualityHead, seed: int
) -> LabelTable:
    """Return the labels that the matcher learns from."""
    taken = labels.weights() if weights is None else labels.weights() * weights
    rows = np.flatnonzero(taken > 0)
    views_of_label = 3 * 9 * head.centre.shape[1] * 4
    most = min(_MOST, _MOST_BYTES // views_of_label)
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    return labels.select(rows)


@torch.no_grad()
def _seen(
    model: GroundingModel, labels: LabelTable, features: FeatureCache | None
) -> Iterator[tuple[np.ndarray, np.ndarray, CachedLabels]]:
    """Yield the table's rows in a view, some positions in the view at a time, and the view."""
    for rows, view in views(model, labels, features):
        for places in np.split(np.arange(len(rows)), range(_AT_ONCE, len(rows), _AT_ONCE)):
            yield rows, places, view


@torch.no_grad()
def _patches(model: GroundingModel, batch: FeatureBatch) -> Tensor:
    """Return the projected patches of each label's image, (B, P, D)."""
    projected = model.visual_projection(batch.image_features.to(model.dtype))[:, 1:]
    return projected.index_select(0, batch.image_index)


def _learn_words(
    model: GroundingModel,
    head: QualityHead,
    labels: LabelTable,
    features: FeatureCache | None,
    seed: int,
) -> None:
    """Train the matcher to tell labels from mismatches made of them."""
    count, width = len(labels), head.centre.shape[1]
    boxes, regions = torch.zeros(count, 3, 4), torch.zeros(count, 3, 9, width)
    for all_rows, places, view in _seen(model, labels, features):
        batch, rows = view.batch(places).to(model.device), all_rows[places]
        moved = displaced(batch.target.cpu(), rows, seed)
        boxes[rows] = moved
        # not standardised yet: the fresh head has mean 0 and deviation 1
        regions[rows] = head.regions(_patches(model, batch), moved.to(model.device)).cpu()
    distinct, text_of = np.unique(labels.expressions, return_inverse=True)
    texts, masks = padded_tokens(
        model,
        distinct.tolist(),
        lambda found: model.text_projection(found.to(model.device, model.dtype)).float().cpu(),
    )
    standardise(head, 0, regions[:, 0].flatten(0, 1))
    standardise(head, 1, texts[masks])
    on_cpu = head.cpu()
    regions, texts = on_cpu.standard(regions, 0), on_cpu.words(texts, masks)
    numbers = torch.from_numpy(text_of)
    pairs = MatcherInputs(
        boxes, regions, torch.arange(len(boxes)), texts, masks, numbers, distinct.tolist()
    )
    others, rivals = rivals_of(labels.distinct_images()[1], boxes[:, 0]).numpy()
    trainer = MatcherTrainer(
        pairs=pairs,
        others=RaggedLists(others, rivals, count),
        width=head.matcher.value.in_features,
        epochs=10,
        device=model.device,
    )
    net = trainer.train(torch.arange(count), torch.from_numpy(labels.weights()), seed)
    head.matcher.load_state_dict(net.state_dict())
    head.to(model.device)


@torch.no_grad()
def _ask(
    model: GroundingModel,
    head: QualityHead,
    labels: LabelTable,
    features: FeatureCache | None,
    seed: int,
) -> Held | None:
    """Return the model's answers; None if nearly all are right, or wrong, or none is foreign."""
    draw, held = np.random.default_rng(seed), Held()
    image_of = labels.distinct_images()[1]
    foreign = Foreign(labels.expressions, image_of)
    asked, found = [], []
    for rows, places, view in _seen(model, labels, features):
        image = image_of[rows[places]]
        _answer(model, head, view, (places, places), held, image)
        for _ in range(_FOREIGN):
            picked = draw.integers(0, len(rows), len(places))  # texts of this view
            other = image_of[rows[picked]] != image
            fits = foreign.fits(rows[picked], image)
            asked.append(rows[picked][other])
            found.append(fits[other])
            if (apart := other & ~fits).any():
                pairs = places[apart], picked[apart]
                _answer(model, head, view, pairs, held, image[apart], own=False)
    held.missed = foreign.missed(np.concatenate(asked), np.concatenate(found))
    right = torch.cat(held.right)[torch.cat(held.own)]
    return held if 0.02 < right.float().mean() < 0.98 and not torch.cat(held.own).all() else None


def _answer(
    model: GroundingModel,
    head: QualityHead,
    view: CachedLabels,
    asked: tuple[np.ndarray, np.ndarray],
    held: Held,
    image: np.ndarray,
    *,
    own: bool = True,
) -> None:
    """Add to `held` the answers on the images of some labels to texts of the same or others."""
    batch = view.batch(asked[0], texts=asked[1]).to(model.device)
    given = Features(
        batch.image_features.to(model.dtype),
        batch.patch_ignored,
        batch.text.to(model.dtype),
        batch.text_mask,
        batch.image_index,
    )
    state = model.state(given)
    boxes, patches = model.head(state), _patches(model, batch)
    text = model.text_projection(given.text), batch.text_mask
    there = shown_in(model, given, batch.image_index)
    signs = head.signs(state, boxes, patches, text, there)
    held.state.append(state.float().cpu())
    held.match.append(signs[:, 0].cpu())
    held.shown.append(there.cpu())
    held.right.append(box_reliability(boxes, batch.target, bins=1)[0][0].cpu() >= 0.5)
    held.own.append(torch.full((len(boxes),), own))
    held.image.append(torch.from_numpy(image))
    if own:
        moved = displaced(batch.target.cpu(), batch.row.numpy(), 1).to(boxes.device)
        for number in range(moved.shape[1]):
            at = head.signs(state, moved[:, number], patches, text, there)[:, 0]
            held.meant.append((at.cpu(), number == 0))
