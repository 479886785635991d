"""Small images, labels on them, and untrained models."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from clipvg.boxes import convert, iou
from clipvg.data import load_square
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel, create_model
from clipvg.model.fusion import Features

WORDS = ["red dog", "the man on the left", "a very small blue car behind the tree", "sky"]


def untrained(seed: int, **options: Any) -> GroundingModel:
    """Return a copy of a cached untrained tiny model, as drawing the weights takes long."""
    return copy.deepcopy(_untrained(seed, json.dumps(options)))


@functools.lru_cache(maxsize=8)
def _untrained(seed: int, options: str) -> GroundingModel:
    torch.manual_seed(seed)
    return create_model("clipvg-tiny", None, **json.loads(options))


def make_model(seed: int = 0, **options: Any) -> GroundingModel:
    """Return an untrained tiny model; equal seeds give equal weights, all share one image tower."""
    small = {"width": 32, "layers": 2, "heads": 4, "feedforward": 32, **options}
    model = untrained(0, **small)
    torch.manual_seed(seed)
    for parameter in model.trainable_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def make_labels(
    folder: Path, images: int = 5, per_image: int = 4, *, seed: int = 0, prefix: str = ""
) -> LabelTable:
    """Return labels on noise images of several shapes, in an order that mixes the images.

    Images that already exist are kept as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {"image": [], "expression": [], "box": [], "truth": []}
    for i in range(images):
        width, height = [(64, 40), (40, 64), (97, 33), (50, 50), (128, 96)][i % 5]
        pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        name = f"{prefix}{i}.png"
        if not (folder / name).exists():
            Image.fromarray(pixels).save(folder / name)
        for j in range(per_image):
            corner = rng.uniform(0, [width / 2, height / 2])
            box = [*corner, *(corner + rng.uniform(5, [width / 2, height / 2]))]
            rows["image"].append(name)
            rows["expression"].append(WORDS[(i + j) % len(WORDS)])
            rows["box"].append(box)
            rows["truth"].append(box)
    sources = ["template" if k % 2 else "relation" for k in range(len(rows["image"]))]
    labels = LabelTable.from_columns(**rows, source=sources, images=folder)
    return labels.select(rng.permutation(len(labels)))


def one_by_one(model: GroundingModel, labels: LabelTable) -> np.ndarray:
    """Return each label's IoU in the letterboxed square, from a full-length pass of its own."""
    found, wanted = [], []
    preset = model.preset
    boxes = labels.boxes(integer=preset.integer_boxes)
    for row, (name, expression) in enumerate(
        zip(labels.image_names, labels.expressions, strict=True)
    ):
        path = labels.image_path(name)
        pixels, mask, letterbox = load_square(path, model.backbone.image_size, preset)
        tokens, text_mask = model.tokenize([expression])
        with torch.no_grad():
            box = model.fuse(
                Features(
                    model.encode_images(pixels[None]),
                    model.patch_mask(mask[None]),
                    model.encode_text(tokens),
                    text_mask,
                )
            )
        found.append(convert(box[0].numpy(), "cxcywh", "xyxy").clip(0, 1))
        wanted.append(convert(letterbox.to_square(boxes[row]), "cxcywh", "xyxy"))
    return iou(np.stack(found), np.stack(wanted)).astype(np.float32)
