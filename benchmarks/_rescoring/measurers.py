"""Make the measurers of a benchmark: random heads on one backbone, or trained models."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from baselines.reference_rescoring import square_loader
from torch import Tensor, nn

from clipvg.labels import LabelTable
from clipvg.model import GroundingModel, create_model, load
from clipvg.model.fusion import Features

POSITION_NOISE = 0.02  # standard deviation added to each measurer's visual position table
HEAD_NOISE = 0.02  # relative, added to the weights of further copies of a trained model
SEEN_IMAGES, SEEN_LABELS = 8, 32  # that random heads are adjusted to


def make_measurers(
    n: int, backbone: str, preset: str, *, own_positions: bool, seed: int = 0, **head: int
) -> dict[str, GroundingModel]:
    """Make n measurers with random heads over one frozen backbone.

    Args:
        n: number of measurers.
        backbone: as for `create_model`; "clipvg-tiny" has its own weights, others random ones.
        preset: input rules.
        own_positions: each has its own visual position table, as the reference code trains them,
            so that no two share an image pass.
        seed: fixes the weights.
        **head: sizes of the head, as in `GroundingConfig`; by default the published ones.
    """
    torch.manual_seed(seed)
    tag = "openai" if backbone == "clipvg-tiny" else None
    first = create_model(backbone, tag, preset=preset, train_visual_positions=own_positions, **head)
    models = [first]
    for _ in range(1, n):
        towers = copy.deepcopy(first.backbone) if own_positions else first.backbone
        models.append(GroundingModel(first.config, towers))
    if own_positions:
        for model in models:
            _disturb_positions(model)
    return _named(models)


def load_measurers(
    paths: Sequence[str | Path], n: int, *, own_positions: bool, seed: int = 0
) -> dict[str, GroundingModel]:
    """Load trained measurers; if n is larger, the others are perturbed copies of them."""
    torch.manual_seed(seed)
    models = [load(path) for path in paths]
    for i in range(len(models), n):
        model = copy.deepcopy(models[i % len(paths)])
        model.backbone = models[i % len(paths)].backbone
        with torch.no_grad():
            for module in (model.fusion, model.head):
                for weight in module.parameters():
                    weight += torch.randn_like(weight) * weight.std(correction=0) * HEAD_NOISE
        if own_positions:
            model.backbone = copy.deepcopy(model.backbone)
            _disturb_positions(model)
        models.append(model)
    return _named(models)


@torch.no_grad()
def diversify(models: dict[str, GroundingModel], labels: LabelTable) -> None:
    """Make random heads predict boxes that differ from label to label, like trained ones.

    Otherwise they predict nearly the same box for every label, and no error in the features could
    change its reliability. Tokens are standardised, and the box logits scaled to a deviation of 1,
    over some labels; this multiplies small differences, including rounding errors, by 20 to 80.
    """
    for model in models.values():
        visual, ignored, text, mask, image = _features(model, labels)
        _standardise(model.visual_projection, visual[:, 1:][~ignored])
        _standardise(model.text_projection, text[mask])
        tokens, position, keep = model.sequence(Features(visual, ignored, text, mask, image))
        _standardise(model.head.layers[-1], model.head.hidden(model.fusion(tokens, position, keep)))
        model.head.layers[-1].bias[2:] -= 0.5  # boxes of 0.38 of the square's side


def predicted_boxes(models: dict[str, GroundingModel], labels: LabelTable) -> np.ndarray:
    """Predict a box for every label, (N, 4) xyxy pixels; the measurers take turns by image."""
    names, image_of = labels.distinct_images()
    texts, boxes = labels.expressions, np.zeros((len(labels), 4))
    turns = itertools.cycle(models.values())
    for image, (name, model) in enumerate(zip(names, turns, strict=False)):
        rows = np.flatnonzero(image_of == image)
        asked = [texts[row] for row in rows]
        boxes[rows] = model.predict(labels.image_path(name), asked, scores=False)
    return boxes


def _features(model: GroundingModel, labels: LabelTable) -> tuple[Tensor, ...]:
    """For the first labels, return image features, ignored patches, text, mask and image index."""
    names, image_of = labels.distinct_images()
    rows = np.flatnonzero(image_of < SEEN_IMAGES)[:SEEN_LABELS]
    read = square_loader(model)
    squares = [read(labels.image_path(name)) for name in names[: image_of[rows].max() + 1]]
    pixels, masks = (torch.stack(x) for x in list(zip(*squares, strict=True))[:2])
    tokens, mask = model.tokenize([labels.expressions[row] for row in rows])
    tokens, mask, pixels, masks, image = (
        x.to(model.device) for x in (tokens, mask, pixels, masks, torch.from_numpy(image_of[rows]))
    )
    return (
        model.encode_images(pixels),
        model.patch_mask(masks),
        model.encode_text(tokens),
        mask,
        image,
    )


def _standardise(linear: nn.Linear, x: Tensor) -> None:
    """Scale and shift a linear map so that its outputs for some inputs have mean 0, deviation 1."""
    y = linear(x)
    mean, deviation = y.mean(0), y.std(0)
    linear.bias.copy_((linear.bias - mean) / deviation)
    linear.weight.div_(deviation[:, None])


def _disturb_positions(model: GroundingModel) -> None:
    with torch.no_grad():
        table = model.backbone.clip.visual.positional_embedding
        table += POSITION_NOISE * torch.randn_like(table)


def _named(models: list[GroundingModel]) -> dict[str, GroundingModel]:
    return {f"measurer {i + 1}": model.eval() for i, model in enumerate(models)}
