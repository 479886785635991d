"""Count the floating-point operations of rescoring by stage, for the reference and the engine.

Matrix products and attention only, a multiply-add as 2, like `torch.utils.flop_counter` (a test
compares the two). Letters: S tokens of a sequence, D fusion width, F feed-forward width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipvg.labels import LabelTable
from clipvg.model import GroundingModel
from clipvg.rescoring import Optimisations, Plan

STAGES = ("image", "text", "fuse")  # "fuse" includes the projections


@dataclass(frozen=True)
class Tower:
    """A transformer without causal savings: width, feed-forward width, blocks."""

    width: int
    inner: int
    blocks: int

    def flops(self, tokens: float) -> float:
        """Return the operations on one sequence."""
        linear = 2 * tokens * self.width * (4 * self.width + 2 * self.inner)
        return self.blocks * (linear + 4 * tokens**2 * self.width)


@dataclass(frozen=True)
class Sizes:
    """Sizes of a grounding model."""

    image: Tower
    text: Tower
    patches: int
    patch_values: int
    feature_width: int
    embed_dim: int
    context: int
    width: int
    feedforward: int
    layers: int

    @classmethod
    def of(cls, model: GroundingModel) -> Sizes:
        """Read the sizes of a model with tapped levels."""
        backbone, first = model.backbone, model.fusion.layers[0]
        text = getattr(backbone.clip, "text", backbone.clip).transformer
        return cls(
            image=_tower(backbone.clip.visual.transformer, backbone.levels[-1] + 1),
            text=_tower(text, len(text.resblocks)),
            patches=backbone.grid**2,
            patch_values=3 * backbone.patch_size**2,
            feature_width=backbone.feature_width,
            embed_dim=backbone.embed_dim,
            context=backbone.context_length,
            width=first.linear1.in_features,
            feedforward=first.linear1.out_features,
            layers=len(model.fusion.layers),
        )

    def image_flops(self) -> float:
        """Return the operations for encoding one image."""
        embed = 2 * self.patches * self.patch_values * self.image.width
        return embed + self.image.flops(1 + self.patches)

    def text_flops(self, tokens: float) -> float:
        """Return the operations for encoding one expression."""
        return self.text.flops(tokens) + 2 * tokens * self.text.width * self.embed_dim

    def project_flops(self, text: float, visual: float) -> float:
        """Return the operations for projecting tokens to one measurer's fusion width."""
        return 2 * self.width * (text * self.embed_dim + visual * self.feature_width)

    def qkv_flops(self, tokens: float) -> float:
        """Return the operations for queries, keys and values of one layer."""
        return 6 * tokens * self.width**2

    def head_flops(self) -> float:
        """Return the operations of the box head."""
        return 2 * (2 * self.width**2 + 4 * self.width)

    def layer_flops(self, tokens: float, keys: float) -> float:
        """Return the rest of a fusion layer's operations; each token attends to `keys` keys."""
        linear = 2 * tokens * (self.width**2 + 2 * self.width * self.feedforward)
        return linear + 4 * tokens * keys * self.width


def _tower(transformer: Any, blocks: int) -> Tower:
    inner = transformer.resblocks[0].mlp.c_fc
    return Tower(inner.in_features, inner.out_features, blocks)


def reference_flops(sizes: Sizes) -> dict[str, float]:
    """Return the operations of the reference's pass per label and measurer, by stage."""
    tokens = 2 + sizes.context + sizes.patches
    layers = sizes.layers * (sizes.qkv_flops(tokens) + sizes.layer_flops(tokens, tokens))
    project = sizes.project_flops(sizes.context, 1 + sizes.patches)
    return {
        "image": sizes.image_flops(),
        "text": sizes.text_flops(sizes.context),
        "fuse": project + layers + sizes.head_flops(),
    }


@dataclass(frozen=True)
class Counted:
    """What the engine encoded, from its statistics."""

    images: int
    texts: int


def engine_flops(
    model: GroundingModel,
    n: int,
    labels: LabelTable,
    does: Optimisations,
    counted: Counted,
    images_per_chunk: int,
) -> dict[str, float]:
    """Return the operations of the engine's pass over labels with n measurers, by stage.

    Args:
        model: any of the measurers, which are of one architecture.
        n: number of measurers.
        labels: labels with width and height.
        does: optimisations that are on.
        counted: images and expressions it encoded.
        images_per_chunk: images whose tokens are projected together.
    """
    sizes = Sizes.of(model)
    text, visual = _text_tokens(model, labels), _visual_tokens(model, labels)
    encoded = text if does.trim_text else np.full(len(text), sizes.context)
    fuse = sum(
        _fuse_flops(sizes, does, labels.select(rows), text[rows], visual[rows])
        for rows in _chunks(labels, images_per_chunk)
    )
    return {
        "image": counted.images * sizes.image_flops(),
        "text": counted.texts * float(np.mean([sizes.text_flops(t) for t in encoded])),
        "fuse": n * fuse,
    }


def _fuse_flops(
    sizes: Sizes,
    does: Optimisations,
    labels: LabelTable,
    text: np.ndarray,
    visual: np.ndarray,
) -> float:
    """Return the operations of one measurer on one chunk of labels with these token counts."""
    keys = 1 + text + visual
    if not does.pack:
        text = np.full(len(text), text.max() if does.trim_text else sizes.context)
        visual = np.full(len(visual), 1 + sizes.patches)
    lengths = 1 + text + visual
    _, first_text = np.unique(labels.expressions, return_index=True)
    _, first_image = np.unique(labels.image_names, return_index=True)
    if not does.encode_once:
        first_image = np.arange(len(visual))
    total = sizes.project_flops(text[first_text].sum(), visual[first_image].sum())
    tokens, count = lengths.sum(), len(lengths)
    layer = sum(sizes.layer_flops(*pair) for pair in zip(lengths, keys, strict=True))
    total += (sizes.layers - 1) * (sizes.qkv_flops(tokens) + layer)
    # the last layer: one query per label
    total += sizes.qkv_flops(count) / 3 + sizes.qkv_flops(tokens) * 2 / 3
    total += sum(sizes.layer_flops(1, length) for length in keys)
    return float(total + count * sizes.head_flops())


def _text_tokens(model: GroundingModel, labels: LabelTable) -> np.ndarray:
    """Real tokens of each label's expression, (N,) int64."""
    return model.tokenize(labels.expressions)[1].sum(1).numpy()


def _visual_tokens(model: GroundingModel, labels: LabelTable) -> np.ndarray:
    """[CLS] and the patches of each label's picture that are not padding, (N,) int64."""
    from clipvg.data.letterbox import Letterbox

    distinct, which = np.unique(labels.sizes(), axis=0, return_inverse=True)
    size = model.backbone.image_size
    masks = [model.patch_mask(Letterbox(int(w), int(h), size).pixel_mask()) for w, h in distinct]
    return np.array([1 + int((~mask).sum()) for mask in masks])[which.ravel()]


def _chunks(labels: LabelTable, size: int) -> Iterator[np.ndarray]:
    """Yield the rows of each chunk, in a pass whose shards are whole chunks."""
    for chunk in Plan(labels).chunks(size):
        yield chunk.rows
