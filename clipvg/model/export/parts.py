"""Trace a grounding model for other runtimes: as a whole, and in parts that run separately."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from clipvg.model.grounder import GroundingModel
from clipvg.model.predict import Seen, answer


class Part(nn.Module):
    """Base class of the modules that are traced; each computes one program of a model."""

    def __init__(self, model: GroundingModel) -> None:
        super().__init__()
        self.model = model


class ImagePart(Part):
    """Image features, computed once for all expressions of an image."""

    def forward(self, pixels: Tensor, pixel_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (U, 1 + P, LW) and ignored patches (U, P) of squares (U, 3, S, S)."""
        features = self.model.encode_images(pixels.to(self.model.dtype))
        return features.float(), self.model.patch_mask(pixel_mask)


class TextPart(Part):
    """Text features, computed once for all images of an expression."""

    def forward(self, ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, T, E) and mask (B, T), True for a real token, of ids (B, T)."""
        backbone, length = self.model.backbone, ids.shape[1]
        place = torch.arange(length, device=ids.device)
        x = backbone.embed_text(ids, place.expand_as(ids), self.model.prefix)
        # A slice of the tower's own mask would fix the length in the program.
        later = torch.zeros(length, length, dtype=x.dtype, device=x.device)
        later = later.masked_fill(place[:, None] < place, -torch.inf)
        text = backbone.project_text(backbone.text_tower.transformer(x, attn_mask=later)).float()
        if self.model.preset.text_mask == "nonzero":
            return text, attention_mask & (ids > 0)
        return text, attention_mask.clone()  # a program must not return an input itself


class FusionPart(Part):
    """Boxes, and scores if there is a quality head, from features."""

    def forward(
        self,
        image: Tensor,
        patch_ignored: Tensor,
        text: Tensor,
        text_mask: Tensor,
        image_index: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return boxes (B, 4), cxcywh in [0, 1] of the square; see `Features`.

        With a quality head also scores and present, (B,) each.
        """
        image, text = image.to(self.model.dtype), text.to(self.model.dtype)
        scores = self.model.quality is not None
        patches = self.model.visual_projection(image)[:, 1:] if scores else None
        seen = Seen(image, patch_ignored, patches=patches)
        every = torch.arange(image.shape[0], device=image.device)
        found = answer(self.model, seen, every, image_index, (text, text_mask), scores=scores)
        return tuple(found) if scores else found[:1]


class WholeModel(Part):
    """Boxes, and scores if there is a quality head, from images and expressions."""

    def __init__(self, model: GroundingModel) -> None:
        super().__init__(model)
        self.image, self.text, self.fusion = ImagePart(model), TextPart(model), FusionPart(model)

    def forward(
        self,
        pixels: Tensor,
        pixel_mask: Tensor,
        ids: Tensor,
        attention_mask: Tensor,
        image_index: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return what `FusionPart` returns; `image_index` (B,) is the image of each expression."""
        features = (*self.image(pixels, pixel_mask), *self.text(ids, attention_mask))
        return self.fusion(*features, image_index)


class Program(NamedTuple):
    """A traced part and the names of its outputs."""

    traced: ExportedProgram
    outputs: tuple[str, ...]


def trace(model: GroundingModel) -> dict[str, Program]:
    """Return the programs of a model by name; batch sizes and text lengths are dynamic.

    Returns:
        `image`, `text`, `fusion`, and `model` for all three in one. `fusion` takes what the other
        two return, by the same names.
    """
    size, texts = model.backbone.image_size, ["the left dog", "a red cup on the table", "tree"]
    pixels = torch.zeros(2, 3, size, size)
    pixel_mask = torch.zeros(2, size, size, dtype=torch.bool)
    ids, text_mask = (t[:, :16].contiguous() for t in model.tokenize(texts))
    index = torch.tensor([0, 1, 1])
    images, batch = Dim("images", min=1), Dim("batch", min=1)
    square, row = {0: images}, {0: batch}
    text_row = {0: batch, 1: Dim("tokens", min=1, max=model.backbone.context_length)}
    both = (square, square, text_row, text_row, row)
    whole = WholeModel(model)
    with torch.no_grad():
        features = (*whole.image(pixels, pixel_mask), *whole.text(ids, text_mask))
        features = tuple(tensor.contiguous() for tensor in features)
        whole.fusion(*features, index)  # fills its caches before it is traced
        cases = {
            "image": (whole.image, (pixels, pixel_mask), (square, square)),
            "text": (whole.text, (ids, text_mask), (text_row, text_row)),
            "fusion": (whole.fusion, (*features, index), both),
            "model": (whole, (pixels, pixel_mask, ids, text_mask, index), both),
        }
        outputs = {"image": ("image", "patch_ignored"), "text": ("text", "text_mask")}
        return {
            name: Program(
                torch.export.export(part, example, dynamic_shapes=shapes, strict=False),
                outputs.get(name, answered(model)),
            )
            for name, (part, example, shapes) in cases.items()
        }


def answered(model: GroundingModel) -> tuple[str, ...]:
    """Return the output names of the programs `fusion` and `model`."""
    return ("boxes", "scores", "present") if model.quality is not None else ("boxes",)
