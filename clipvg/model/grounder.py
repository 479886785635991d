"""The grounding model: frozen CLIP towers, a fusion encoder and a box head."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from clipvg.boxes import FORMATS, convert
from clipvg.data.dataset import Batch
from clipvg.data.inputs import ImageInput, as_list
from clipvg.data.letterbox import patch_mask
from clipvg.data.preset import get_preset
from clipvg.errors import InputError, near_matches
from clipvg.model.attention import attention_maps
from clipvg.model.backbone import Backbone
from clipvg.model.checkpoint import CheckpointMixin
from clipvg.model.config import GroundingConfig
from clipvg.model.fast.tokens import packed_state
from clipvg.model.fusion import Features, FusionEncoder, keep_mask
from clipvg.model.head import BoxHead
from clipvg.model.predict import BY_HEAD, BY_MEASURES, expressions_of, predict
from clipvg.model.predictions import Predictions
from clipvg.model.quality import QualityHead
from clipvg.model.rank import rank
from clipvg.model.tokenizer import Tokenizer, prefix_ids, real_lengths
from clipvg.ops.linear import fast_cpu, is_fast

# Smallest fusion width to pack at; below it, the calls per sequence cost more than its padding.
LEAST_PACKED_WIDTH = 256


class GroundingModel(CheckpointMixin):
    """CLIP-VG (arXiv 2305.08685): find the box that an expression describes.

    Create it with `create_model`, `load` or `from_pretrained`.

    Args:
        config: all options; its `backbone`, `pretrained` and `levels` describe `backbone`.
        backbone: the towers.

    Attributes:
        config: the configuration, with the actual `levels` and `width`.
        preset: rules by which images and expressions are read.
        backbone: the frozen towers.
    """

    def __init__(self, config: GroundingConfig, backbone: Backbone) -> None:
        super().__init__()
        width, context = config.width or backbone.embed_dim, backbone.context_length
        self.config = dataclasses.replace(config, levels=list(backbone.levels), width=width)
        self.preset = get_preset(config.preset, backbone.mean, backbone.std)
        self.backbone = backbone
        self.visual_projection = nn.Linear(backbone.feature_width, width)
        self.text_projection = nn.Linear(backbone.embed_dim, width)
        self.reg_token = nn.Embedding(1, width)
        # One table: [REG], the text positions, [CLS], the patches.
        self.position = nn.Embedding(2 + context + backbone.grid**2, width)
        for table in (self.reg_token, self.position):
            nn.init.normal_(table.weight, std=config.position_std)
        self.fusion = FusionEncoder(
            width, config.layers, config.heads, config.feedforward, dropout=config.dropout
        )
        self.head = BoxHead(width)
        self.tokenizer = Tokenizer(self.preset, context, prefix=config.prefix, prompt=config.prompt)
        self.prefix: nn.Parameter | None = None
        if config.prefix == "learned":
            self.prefix = nn.Parameter(backbone.token_embeddings(prefix_ids(config.prefix)))
        self.quality = QualityHead(width) if config.quality else None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.reg_token.weight.device

    @property
    def frozen_images(self) -> bool:
        """Whether image features stay the same while the model trains."""
        return not self.config.train_visual_positions

    @property
    def frozen_text(self) -> bool:
        """Whether text features stay the same while the model trains."""
        return self.prefix is None

    def tokenize(self, expressions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return token ids (Tensor[B, 77] int64) and mask (bool, True for a real token)."""
        return self.tokenizer(expressions)

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode normalised squares (Tensor[U, 3, S, S]) as features (Tensor[U, 1 + P, LW])."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_images):
            return self.backbone.image_features(images)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Encode token ids (Tensor[B, T] int64, T at most 77) as features (Tensor[B, T, E])."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_text):
            return self.backbone.text_features(tokens, self.prefix)

    def patch_mask(self, pixel_mask: Tensor) -> Tensor:
        """Return patches to ignore (Tensor[U, P] bool) given padding (Tensor[U, S, S] bool)."""
        return patch_mask(pixel_mask, self.backbone.patch_size, self.preset.patch_mask)

    def forward(self, batch: Batch) -> Tensor:
        """Predict the boxes of a batch.

        Args:
            batch: each image is encoded once, however many expressions it has.

        Returns:
            Tensor[B, 4] float32, cxcywh in [0, 1] of the letterboxed square.
        """
        length = _real_length(batch.text_mask)
        text = self.encode_text(batch.tokens[:, :length])
        image, ignored = self.encode_images(batch.images), self.patch_mask(batch.pixel_mask)
        mask = batch.text_mask[:, :length]
        return self.fuse(Features(image, ignored, text, mask, batch.image_index))

    def fuse(self, given: Features) -> Tensor:
        """Predict boxes from features, (B, 4) float32, cxcywh in [0, 1]."""
        return self.head(self.state(given))

    def state(self, given: Features) -> Tensor:
        """Return [REG] after the last fusion layer, (B, D): the input of the box head."""
        if self.packs(given.image) and len(given.text_mask):
            return packed_state(self, given)
        return self.fusion(*self.sequence(given))

    def packs(self, image: Tensor) -> bool:
        """Whether fusion runs without padding, as within `fast_cpu`; see `clipvg.model.fast`."""
        return is_fast(image) and self.reg_token.embedding_dim >= LEAST_PACKED_WIDTH

    def sequence(self, given: Features) -> tuple[Tensor, Tensor, Tensor]:
        """Return the input of the fusion encoder: `[REG] | text | [CLS] | patches`.

        Text positions beyond the longest text of the batch are left out: nothing attends to them.

        Returns:
            (tokens Tensor[B, S, D], positions Tensor[S, D], keep Tensor[B, S] bool).
        """
        image, patch_ignored, text_features, text_mask, image_index = given
        length = _real_length(text_mask)
        text = self.text_projection(text_features[:, :length])  # (B, length, D)
        visual = self.visual_projection(image)  # (B or U, 1 + P, D)
        if image_index is not None:
            # The backward of visual[image_index] would add in any order on several threads.
            visual = visual.index_select(0, image_index)
            patch_ignored = patch_ignored[image_index]
        reg = self.reg_token.weight.to(text.dtype).expand(text.shape[0], 1, -1)
        table = self.position.weight
        position = torch.cat([table[: 1 + length], table[1 + self.backbone.context_length :]])
        keep = keep_mask(text_mask[:, :length], patch_ignored)
        return torch.cat([reg, text, visual], dim=1), position.to(text.dtype), keep

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters that training changes."""
        return (p for p in self.parameters() if p.requires_grad)

    def num_parameters(self) -> dict[str, float]:
        """Count parameters: `total`, `trainable`, `clip`, and `share`, trainable / total."""
        total = sum(p.numel() for p in self.parameters())
        trainable = sum(p.numel() for p in self.trainable_parameters())
        clip = sum(p.numel() for p in self.backbone.parameters())
        return {"total": total, "trainable": trainable, "clip": clip, "share": trainable / total}

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights: float32 unless they were converted, for example by `half`."""
        return self.reg_token.weight.dtype

    @property
    def scored_by(self) -> Mapping[str, str]:
        """How `scores` and `present` of `Predictions` are computed, by name."""
        return BY_MEASURES if self.quality is None else BY_HEAD

    def keep_quality(self, head: QualityHead) -> None:
        """Attach a quality head, which checkpoints then include."""
        self.quality, self.config.quality = head.to(self.device), True

    def forget_quality(self) -> None:
        """Drop the quality head, which is valid only for the weights it was fitted to."""
        self.quality, self.config.quality = None, False

    @overload
    def predict(
        self,
        images: list[Any] | tuple[Any, ...],
        expressions: str | Sequence[str | Sequence[str]],
        *,
        box_format: str = "xyxy",
        scores: bool = True,
        batch_size: int | None = None,
    ) -> list[Predictions]: ...

    @overload
    def predict(
        self,
        images: ImageInput,
        expressions: str | Sequence[str],
        *,
        box_format: str = "xyxy",
        scores: bool = True,
        batch_size: int | None = None,
    ) -> Predictions: ...

    def predict(
        self,
        images: ImageInput | Sequence[ImageInput],
        expressions: str | Sequence[str | Sequence[str]],
        *,
        box_format: str = "xyxy",
        scores: bool = True,
        batch_size: int | None = None,
    ) -> Predictions | list[Predictions]:
        """Predict a box for each expression, and how certain each answer is.

        Each image is encoded once, each distinct expression once per 32 images; images are
        decoded ahead in threads.

        Args:
            images: a path, bytes, a file opened with 'rb', a PIL image, a NumPy array (H, W, 3) or
                a torch tensor (3, H, W), both uint8 or float in [0, 1]; or a list of any of these.
            expressions: one text or several; for a list of images a list of the same length with
                the text or texts of each image, or one text for all.
            box_format: "xyxy", "xywh" or "cxcywh".
            scores: also give `scores` and `present`. A checkpoint without a quality head takes
                them from measures, for two more encodings of each image; False leaves them NaN.
            batch_size: expressions fused at once; None chooses by device and number of tokens.

        Returns:
            `Predictions` for one image, a list of them for a list. Boxes are float32 (E, 4), pixels
            of the image (upright when the preset applies EXIF), clipped to it.

        Raises:
            InputError: an image cannot be read, an expression is blank, an argument is wrong, or
                the model predicts numbers that are not finite.

        Example:
            >>> model.predict("street.jpg", ["left car", "the tall lamp"]).shape
            (2, 4)
        """
        if box_format not in FORMATS:
            raise InputError(
                f"box_format={box_format!r} is unknown: {near_matches(box_format, FORMATS)}"
            )
        given, alone = as_list(images)
        asked = expressions_of(expressions, len(given), alone=alone)
        with torch.no_grad(), evaluating(self), fast_cpu():
            found = predict(
                self, given, asked, scores=scores, batch_size=batch_size, box_format=box_format
            )
        return found[0] if alone else found

    def rank(
        self,
        image: ImageInput,
        expression: str | Sequence[str],
        boxes: ArrayLike,
        *,
        box_format: str = "xyxy",
    ) -> np.ndarray:
        """Return how likely an expression means each of some given boxes, such as a detector's.

        Args:
            image: as for `predict`.
            expression: one text, which may mean several of the boxes; or E texts, for which the
                image is encoded once.
            boxes: (N, 4) pixels of the image.
            box_format: "xyxy", "xywh" or "cxcywh".

        Returns:
            (N,) float32, P(the expression means the box) in [0, 1], in the order of the boxes;
            ``np.argsort(-p)`` has the likeliest first. (E, N) for several texts.

        Raises:
            InputError: as for `predict`, or the boxes are not (N, 4) finite numbers.
        """
        with torch.no_grad(), evaluating(self), fast_cpu():
            given = np.asarray(boxes, np.float32)
            given = given if given.size else given.reshape(0, 4)  # of a detector that found none
            texts = [expression] if isinstance(expression, str) else expression
            found = rank(self, image, texts, convert(given, box_format, "xyxy"))
            return found[0] if isinstance(expression, str) else found

    def attention(self, image: ImageInput, expressions: str | Sequence[str]) -> np.ndarray:
        """Return where the model looks: the attention of [REG] in its last fusion layer.

        Args:
            image: as for `predict`.
            expressions: one text or several.

        Returns:
            (E, h, w) float32, a map of the whole image for each expression, each summing to 1; h
            and w are the image's height and width in the model's square. Attention on the words is
            left out. `clipvg.report.heat.draw_heat` draws the maps.

        Example:
            >>> model.attention("street.jpg", ["left car", "the tall lamp"]).shape[0]
            2
        """
        texts = [expressions] if isinstance(expressions, str) else list(expressions)
        with torch.no_grad(), evaluating(self), fast_cpu():
            return attention_maps(self, image, texts)


def _real_length(text_mask: Tensor) -> int:
    """Return the positions up to the last real token of any row; all in a traced graph."""
    length = text_mask.shape[1]
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or not len(text_mask):
        return length
    return max(1, int(real_lengths(text_mask).max()))


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put models into evaluation mode, and restore their modes afterwards."""
    before = [model.training for model in models]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for model, training in zip(models, before, strict=True):
            model.train(training)
