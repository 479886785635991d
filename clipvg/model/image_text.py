"""Does an image show what is said, as CLIP itself judges: for models without a quality head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.model.tokenizer import real_lengths

if TYPE_CHECKING:
    from clipvg.model.fusion import Features
    from clipvg.model.grounder import GroundingModel

# What is said of images in general. A CLIP similarity s of image and text is learned so that
# exp(s) is proportional to p(text | image) / p(text); the mean over these gives the proportion.
EVERYDAY = (
    "person", "woman in white", "man on the left", "child", "dog", "black cat", "horse", "bird",
    "red car", "bus", "bicycle", "chair", "table", "cup", "pizza on a plate", "laptop",
    "sky", "grass", "tree", "water", "building", "sign", "blue shirt", "the one on the right",
    "red circle", "small green square", "elephant", "boat", "flowers", "window", "clock", "bed",
)  # fmt: skip

_kept: dict[tuple[object, ...], Tensor] = {}  # embeddings of EVERYDAY, of the last text tower


def shown_in(model: GroundingModel, given: Features, index: Tensor) -> Tensor:
    """Return the logit of P(the image shows what the text says), (B,) float32.

    P is 1/2 beforehand, and P / (1 − P) = exp(s) / mean of exp(s_k), with s CLIP's similarity of
    image and text times its logit scale, and s_k that of the image and text k of `EVERYDAY`.
    `index` (B,) int64 says on which of the images each text is.
    """
    whole = _image_embeddings(model, given.image[:, 0, -model.backbone.last_width :])
    images, texts = whole[index], _text_embeddings(given.text, given.text_mask)
    scale = model.backbone.clip.logit_scale.exp().float()
    others = _everyday(model).to(images)
    own = scale * (images * texts).sum(-1)
    usual = (scale * images @ others.T).logsumexp(-1) - torch.tensor(float(len(others))).log()
    return own - usual.to(own)


def _image_embeddings(model: GroundingModel, last: Tensor) -> Tensor:
    """CLIP's embedding of length 1 of each image, (U, E) float32, from [CLS] of its last level."""
    tower = model.backbone.clip.visual
    if model.backbone.visual == "levels":
        last = tower.ln_post(last)
        last = last if tower.proj is None else last @ tower.proj
    return F.normalize(last.float(), dim=-1)


def _text_embeddings(features: Tensor, mask: Tensor) -> Tensor:
    """CLIP's embedding of length 1 of each text, which its last real token is: (B, E) float32."""
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
        _kept.clear()  # another thread may do so as well, and returns its own
        _kept[key] = found
    return found
