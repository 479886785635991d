"""Scores of a reference checkpoint, which has no quality head."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from clipvg.data.letterbox import load_square
from clipvg.model import GroundingModel
from clipvg.model.fusion import Features
from clipvg.model.predict import COPIES
from clipvg.model.signs import CORNERS, ZOOM, carried_back, move_into_corner
from clipvg.ops.boxes import overlap

IMAGES = "images/other/images/mscoco/images/train2014"


def test_scores_are_finite_and_higher_where_another_copy_agrees(
    published: GroundingModel, mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = json.loads((mini / "reliability.json").read_text())["sets"]
    asked: dict[Path, list[str]] = {}
    for label in sets["unc"]["labels"]:
        asked.setdefault(mini / IMAGES / label["image"], []).append(label["phrase_seen"])
    encoded: list[int] = []
    encode = published.encode_images
    monkeypatch.setattr(
        published, "encode_images", lambda some: (encoded.append(len(some)), encode(some))[1]
    )
    found = published.predict(list(asked), list(asked.values()))
    assert sum(encoded) == (1 + COPIES) * len(asked)
    assert {tuple(each.scored_by.values()) for each in found} == {("confidence", "image_text")}
    scores, present = (
        np.concatenate([getattr(f, n) for f in found]) for n in ("scores", "present")
    )
    for chances in (scores, present):
        assert ((chances >= 0) & (chances <= 1)).all()
        assert len(np.unique(chances)) > len(chances) / 2
    # A copy in a corner that no score uses: its boxes agree more where scores are high.
    overlaps = []
    size, preset, corner = published.backbone.image_size, published.preset, CORNERS[COPIES]
    for path, texts in asked.items():
        square = load_square(path, size, preset)
        pixels, mask = square.pixels[None], square.mask[None]
        moved = move_into_corner(pixels, mask, ZOOM, corner)
        boxes = [_boxes(published, *each, texts) for each in ((pixels, mask), moved)]
        overlaps.append(overlap(boxes[0], carried_back(boxes[1], ZOOM, corner)))
    assert spearmanr(scores, torch.cat(overlaps)).statistic > 0.3


@torch.no_grad()
def _boxes(
    model: GroundingModel, pixels: torch.Tensor, mask: torch.Tensor, texts: list[str]
) -> torch.Tensor:
    ids, text_mask = model.tokenize(texts)
    index = torch.zeros(len(texts), dtype=torch.int64)
    image, ignored = model.encode_images(pixels), model.patch_mask(mask)
    return model.fuse(Features(image, ignored, model.encode_text(ids), text_mask, index))
