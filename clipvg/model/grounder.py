"""The grounding model: frozen CLIP towers, a fusion encoder, a box."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from clipvg.boxes import convert
from clipvg.data.dataset import Batch
from clipvg.data.letterbox import load_square, patch_mask
from clipvg.data.preset import get_preset
from clipvg.errors import InputError, near_matches
from clipvg.model.backbone import Backbone
from clipvg.model.checkpoint import CheckpointMixin
from clipvg.model.config import GroundingConfig
from clipvg.model.fast.tokens import packed_state
from clipvg.model.fusion import Features, FusionEncoder, keep_mask
from clipvg.model.head import BoxHead
from clipvg.model.tokenizer import Tokenizer, prefix_ids, real_lengths
from clipvg.ops.linear import fast_cpu, is_fast

# Of a fusion encoder; below, the calls a sequence cost more than its padding.
LEAST_PACKED_WIDTH = 256


class GroundingModel(CheckpointMixin):
    """CLIP-VG (arXiv 2305.08685): find the box that an expression describes.

    Made by `create_model`, `load` or `from_pretrained`.

    Args:
        config: all choices; its `backbone`, `pretrained` and `levels` describe `backbone`.
        backbone: the towers.

    Attributes:
        config: the configuration.
        preset: input rules.
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

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
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
        """Token ids (Tensor[B, 77] int64) and mask (bool, True for a real token)."""
        return self.tokenizer(expressions)

    def encode_images(self, images: Tensor) -> Tensor:
        """Image features (Tensor[U, 1 + P, LW]) of normalised squares (Tensor[U, 3, S, S])."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_images):
            return self.backbone.image_features(images)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Text features (Tensor[B, T, E]) of token ids (Tensor[B, T] int64, T at most 77)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_text):
            return self.backbone.text_features(tokens, self.prefix)

    def patch_mask(self, pixel_mask: Tensor) -> Tensor:
        """Patches to ignore (Tensor[U, P] bool) from pixels of padding (Tensor[U, S, S] bool)."""
        return patch_mask(pixel_mask, self.backbone.patch_size, self.preset.patch_mask)

    def forward(self, batch: Batch) -> Tensor:
        """Boxes of a batch.

        Args:
            batch: images are encoded once each, however many expressions they have.

        Returns:
            Tensor[B, 4] float32, cxcywh in [0, 1] of the letterboxed square.
        """
        length = _real_length(batch.text_mask)
        text = self.encode_text(batch.tokens[:, :length])
        image, ignored = self.encode_images(batch.images), self.patch_mask(batch.pixel_mask)
        mask = batch.text_mask[:, :length]
        return self.fuse(Features(image, ignored, text, mask, batch.image_index))

    def fuse(self, given: Features) -> Tensor:
        """Boxes from features, (B, 4) float32, cxcywh in [0, 1]."""
        return self.head(self.state(given))

    def state(self, given: Features) -> Tensor:
        """Return [REG] after the last fusion layer, (B, D): what the head reads.

        Within `fast_cpu` without padding, see `clipvg.model.fast`.
        """
        width = self.reg_token.embedding_dim
        if is_fast(given.image) and len(given.text_mask) and width >= LEAST_PACKED_WIDTH:
            return packed_state(self, given)
        return self.fusion(*self.sequence(given))

    def sequence(self, given: Features) -> tuple[Tensor, Tensor, Tensor]:
        """What the fusion encoder reads: `[REG] | text | [CLS] | patches`.

        Text that no row of the batch has is left out: nothing attends to it.

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
        reg = self.reg_token.weight.to(text.dtype).expand(len(text), 1, -1)
        table = self.position.weight
        position = torch.cat([table[: 1 + length], table[1 + self.backbone.context_length :]])
        keep = keep_mask(text_mask[:, :length], patch_ignored)
        return torch.cat([reg, text, visual], dim=1), position.to(text.dtype), keep

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that training changes."""
        return (p for p in self.parameters() if p.requires_grad)

    def num_parameters(self) -> dict[str, float]:
        """How many parameters: `total`, `trainable`, `clip`, and `share` trainable / total."""
        total = sum(p.numel() for p in self.parameters())
        trainable = sum(p.numel() for p in self.trainable_parameters())
        clip = sum(p.numel() for p in self.backbone.parameters())
        return {"total": total, "trainable": trainable, "clip": clip, "share": trainable / total}

    def predict(
        self,
        image: str | Path | Image.Image,
        expressions: str | Sequence[str],
        *,
        box_format: str = "xyxy",
        batch_size: int = 64,
    ) -> np.ndarray:
        """Boxes in an image.

        Args:
            image: a file, or an image in memory.
            expressions: one text or several.
            box_format: "xyxy", "xywh" or "cxcywh".
            batch_size: expressions fused at once; the image is encoded once.

        Returns:
            float32 (E, 4), pixels of the image (upright when the preset applies EXIF), clipped
            to it. No expressions give shape (0, 4).

        Raises:
            InputError: the image cannot be read, an argument is wrong, or the model is not float32
                or predicts no numbers.

        Example:
            >>> model.predict("street.jpg", ["left car", "the tall lamp"]).shape
            (2, 4)
        """
        if box_format not in ("xyxy", "xywh", "cxcywh"):
            raise InputError(
                f"box_format={box_format!r} is unknown: "
                f"{near_matches(box_format, ('xyxy', 'xywh', 'cxcywh'))}"
            )
        dtype = self.reg_token.weight.dtype
        if dtype != torch.float32:
            raise InputError(
                f"the model is {str(dtype).removeprefix('torch.')}, and images are float32; "
                "call model.float() first, or predict under torch.autocast for speed."
            )
        texts = [expressions] if isinstance(expressions, str) else list(expressions)
        pixels, mask, letterbox = load_square(image, self.backbone.image_size, self.preset)
        boxes = [np.zeros((0, 4), np.float32)]
        with torch.no_grad(), evaluating(self), fast_cpu():
            features = self.encode_images(pixels[None].to(self.device))
            ignored = self.patch_mask(mask[None].to(self.device))
            for start in range(0, len(texts), max(1, batch_size)):
                chunk = texts[start : start + max(1, batch_size)]
                ids, text_mask = (t.to(self.device) for t in self.tokenize(chunk))
                length = _real_length(text_mask)
                text, text_mask = self.encode_text(ids[:, :length]), text_mask[:, :length]
                index = torch.zeros(len(chunk), dtype=torch.int64, device=self.device)
                found = self.fuse(Features(features, ignored, text, text_mask, index))
                boxes.append(letterbox.to_image(found.cpu().numpy()))
        found_boxes = np.concatenate(boxes)
        if not np.isfinite(found_boxes).all():
            raise InputError(
                "the model predicts boxes that are no numbers: its weights hold NaN or infinity. "
                "Train it anew with a lower lr, or take another checkpoint."
            )
        return convert(found_boxes, "xyxy", box_format)


def _real_length(text_mask: Tensor) -> int:
    """Positions up to the last real token of any row; all of them inside a traced graph."""
    length = text_mask.shape[1]
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or not len(text_mask):
        return length
    return max(1, int(real_lengths(text_mask).max()))


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put models into evaluation mode and back into the mode they were in."""
    before = [model.training for model in models]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for model, training in zip(models, before, strict=True):
            model.train(training)
