"""Training-free signs of a right answer: image copies agree on the box, and CLIP's similarity.

A confident model finds the same box in smaller copies of an image in the corners of its square. The
measure `confidence` and the scores of checkpoints without a quality head are made of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.model.tokenizer import real_lengths
from clipvg.ops.boxes import overlap

if TYPE_CHECKING:
    from clipvg.model.fusion import Features
    from clipvg.model.grounder import GroundingModel

# Corners that the smaller copies of the image go to: (x, y) in {0, 1}.
CORNERS = ((0, 0), (1, 1), (1, 0), (0, 1))
ZOOM = 0.875  # size of the copies relative to the square

# Expressions of images in general. CLIP learns a similarity s of image and text such that exp(s)
# is proportional to p(text | image) / p(text); the mean over these texts gives the factor.
EVERYDAY = (
    "person", "woman in white", "man on the left", "child", "dog", "black cat", "horse", "bird",
    "red car", "bus", "bicycle", "chair", "table", "cup", "pizza on a plate", "laptop",
    "sky", "grass", "tree", "water", "building", "sign", "blue shirt", "the one on the right",
    "red circle", "small green square", "elephant", "boat", "flowers", "window", "clock", "bed",
)  # fmt: skip

_kept: dict[tuple[object, ...], Tensor] = {}  # embeddings of EVERYDAY by the text tower used last


def move_into_corner(
    pixels: Tensor, mask: Tensor, zoom: float, corner: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Shrink squares and place them in a corner of the square.

    Args:
        pixels: (U, 3, S, S), zero where there is padding.
        mask: (U, S, S) bool, True where there is padding.
        zoom: size of the copy relative to the square.
        corner: (0, 0) top left, (1, 0) top right, (0, 1) bottom left, (1, 1) bottom right.

    Returns:
        Pixels and mask of the same shapes; around the copy there is padding.
    """
    # affine_grid maps output to input coordinates in [-1, 1]: in = out / zoom + shift
    shift = [(1 - 2 * side) * (1 / zoom - 1) for side in corner]
    matrix = torch.tensor([[1 / zoom, 0, shift[0]], [0, 1 / zoom, shift[1]]])
    grid = F.affine_grid(
        matrix.expand(len(pixels), -1, -1), list(pixels.shape), align_corners=False
    )
    shown = (~mask).float()[:, None]
    shown = F.grid_sample(shown, grid, mode="nearest", align_corners=False)
    smaller = F.grid_sample(pixels, grid, mode="bilinear", align_corners=False)
    return smaller * shown, shown[:, 0] < 0.5


def carried_back(boxes: Tensor, zoom: float, corner: tuple[int, int]) -> Tensor:
    """Map boxes (B, 4) cxcywh found in a copy back to the original square."""
    moved = torch.tensor(corner, device=boxes.device) * (1 - zoom)
    return torch.cat([boxes[:, :2] - moved, boxes[:, 2:]], dim=1) / zoom


def mean_overlap(boxes: Tensor) -> Tensor:
    """Return the mean IoU over all pairs of n boxes (n, B, 4) cxcywh of each label, (B,)."""
    pairs = [overlap(boxes[i], boxes[j]) for i, j in combinations(range(len(boxes)), 2)]
    return torch.stack(pairs).mean(0)


def shown_in(model: GroundingModel, given: Features, index: Tensor) -> Tensor:
    """Return the logit of P(the image shows what the text says), (B,) float32.

    The prior of P is 1/2, and P / (1 − P) = exp(s) / mean of exp(s_k), with s CLIP's similarity of
    image and text times its logit scale, and s_k that of the image and text k of `EVERYDAY`.
    `index` (B,) int64 is the image of each text.
    """
    whole = _image_embeddings(model, given.image[:, 0, -model.backbone.last_width :])
    images, texts = whole[index], _text_embeddings(given.text, given.text_mask)
    scale = model.backbone.clip.logit_scale.exp().float()
    others = _everyday(model).to(images)
    own = scale * (images * texts).sum(-1)
    usual = (scale * images @ others.T).logsumexp(-1) - torch.tensor(float(len(others))).log()
    return own - usual.to(own)


def _image_embeddings(model: GroundingModel, last: Tensor) -> Tensor:
    """Return CLIP's unit embedding of each image, (U, E) float32, from [CLS] of its last level."""
    tower = model.backbone.clip.visual
    if model.backbone.visual == "levels":
        last = tower.ln_post(last)
        last = last if tower.proj is None else last @ tower.proj
    return F.normalize(last.float(), dim=-1)


def _text_embeddings(features: Tensor, mask: Tensor) -> Tensor:
    """Return CLIP's unit embedding of each text, (B, E) float32, from its last real token."""
    last = (real_lengths(mask) - 1).clamp(min=0)
    return F.normalize(
        features[torch.arange(last.shape[0], device=last.device), last].float(), dim=-1
    )


def _everyday(model: GroundingModel, texts: Sequence[str] = EVERYDAY) -> Tensor:
    key = model.backbone.text_key, model.dtype, (model.tokenizer.prefix, model.tokenizer.prompt)
    found = _kept.get(key) if model.frozen_text else None
    if found is None:
        ids, mask = model.tokenize(texts)
        longest = int(real_lengths(mask).max())
        ids, mask = ids[:, :longest].to(model.device), mask[:, :longest].to(model.device)
        found = _text_embeddings(model.encode_text(ids), mask).cpu()
        _kept.clear()  # another thread may do so too; each returns its own
        _kept[key] = found
    return found
