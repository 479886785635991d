"""Measures that compare the label's box with the image's other boxes, using CLIP on regions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from clipvg.features.keys import image_key
from clipvg.features.regions import (
    PROMPT,
    Mode,
    check_prompt,
    clip_tokenizer,
    encode_prompted,
    encode_regions,
    logit_scale,
    modes_of,
    whole_pixels,
)
from clipvg.labels import LabelTable
from clipvg.measures.attention import entropy
from clipvg.measures.common.model_measure import ModelMeasure
from clipvg.model.tokenizer import Tokenizer
from clipvg.reliability.batch import Batch, Chunk
from clipvg.reliability.measurer import Context, Scores


class _RegionMeasure(ModelMeasure):
    """CLIP's softmax over the proposals of an image: the distinct boxes of the image's labels.

    A label whose image has only one proposal is not scored; ``grid`` adds more.

    Args:
        mode: how a proposal is shown to CLIP: "crop", "blur" (all but the box blurred) or "both".
        prompt: template with ``{}`` for the expression.
        proposals: table of further boxes, of which only image and box are read.
        grid: also compare with the whole image and the cells of a grid x grid raster; 0 for none.
    """

    mode: Mode = "both"
    prompt: str = PROMPT
    proposals: LabelTable | None = field(default=None, repr=False)
    grid: Annotated[int, (0, None)] = 0
    only_towers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_prompt(self.prompt)

    @property
    def modes(self) -> tuple[str, ...]:
        """How a proposal is shown to CLIP, in one or two ways."""
        return modes_of(self.mode)

    @property
    def tokenizers(self) -> tuple[Tokenizer, ...]:
        """The measure's own tokenizer, with its prompt."""
        return (self._tokenizer,)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return clip_tokenizer(self.model.backbone, self.prompt)

    def score(self, observed: np.ndarray, labels: LabelTable, context: Context) -> Scores:
        """Return the observed values, with a reason where a box is the only proposal."""
        alone = np.flatnonzero(np.isnan(observed[:, 0])).tolist()
        why = f"{self.name}: the image has one proposal, nothing to compare with"
        return Scores(observed[:, 0], dict.fromkeys(alone, why))

    def shares(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the softmax over each label's proposals.

        Returns:
            (shares (B, K), 0 past the last proposal; number of proposals (B,); index of the
            label's own box among them (B,)).
        """
        boxes = self._boxes(batch)
        regions, starts = self._regions(batch.chunk, boxes)  # (modes, R, E)
        texts = self._texts(batch)
        image = batch.image
        of = boxes.image_of[batch.rows]
        count = boxes.counts[of]
        longest = int(count.max())
        place = np.minimum(starts[image][:, None] + np.arange(longest), regions.shape[1] - 1)
        chosen = regions[:, torch.from_numpy(place).to(regions.device)]  # (modes, B, K, E)
        logits = torch.einsum("mbke,be->bk", chosen, texts) * logit_scale(self.model.backbone)
        number = torch.from_numpy(count).to(logits.device)
        absent = torch.arange(longest, device=logits.device) >= number[:, None]
        shares = logits.masked_fill(absent, -torch.inf).softmax(-1)
        own = torch.from_numpy(boxes.place_of[batch.rows]).to(logits.device)
        return shares, number, own

    def _boxes(self, batch: Batch) -> Proposals:
        """Return the proposals of all images of the pass."""
        key = ("proposals", id(self.proposals), self.grid)
        return batch.chunk.shared.get(
            key, lambda: Proposals.of(batch.labels, self.proposals, grid=self.grid)
        )

    def _texts(self, batch: Batch) -> Tensor:
        """Return unit-length embeddings of the batch's expressions, (B, E)."""
        model = self.model
        expressions = [batch.labels.table.column("expression")[int(r)].as_py() for r in batch.rows]
        key = ("prompts", model.backbone.text_key, model.device, self.prompt)
        kept: dict[str, Tensor] = batch.chunk.shared.get(key, dict)
        new = [e for e in dict.fromkeys(expressions) if e not in kept]
        if new:
            found = encode_prompted(model.backbone, self._tokenizer, new)
            kept.update(zip(new, found, strict=True))
        return torch.stack([kept[e] for e in expressions])

    def _regions(self, chunk: Chunk, boxes: Proposals) -> tuple[Tensor, np.ndarray]:
        """Return embeddings (modes, R, E) of a chunk's proposals, and where each image's start."""
        model = self.model
        key = ("regions", image_key(model), model.device, self.modes, id(boxes), self.grid)
        return chunk.memo.get(key, lambda: self._encode(chunk, boxes))

    def _encode(self, chunk: Chunk, boxes: Proposals) -> tuple[Tensor, np.ndarray]:
        exif = self.model.preset.exif
        first_row = np.zeros(len(chunk.images), dtype=np.int64)
        first_row[chunk.image] = chunk.rows  # any row of the image identifies it
        numbers = boxes.image_of[first_row]
        starts = np.concatenate([[0], np.cumsum(boxes.counts[numbers])[:-1]])
        shown = (
            (oriented[exif], boxes.pixels(int(number), oriented[exif].size, self.grid))
            for oriented, number in zip(chunk.images, numbers, strict=True)
        )
        return encode_regions(self.model.backbone, shown, self.modes), starts


class RegionAlignment(_RegionMeasure):
    """CLIP's probability of the label's box among all boxes of its image.

    r = softmax_k(τ Σ_m cos(v_m(box_k), t)) at the label's own box: v_m the image embedding of the
    crop and of the image with all but the box blurred, t the embedding of the prompted expression,
    τ CLIP's logit scale. ReCLIP, Subramanian et al., ACL 2022. CLIP knows little about positions
    and relations: use this measure to find wrong objects and attributes.

    Cost: two image encodings per distinct box, one text encoding per expression.
    """

    name: str = "region"

    def observe(self, batch: Batch) -> Tensor:
        """Return the probability of the label's box, NaN where it is the only proposal, (B,)."""
        shares, number, own = self.shares(batch)
        share = shares.gather(1, own[:, None])[:, 0]
        return torch.where(number > 1, share, torch.nan)


class ProposalEntropy(_RegionMeasure):
    """How clearly CLIP prefers one box of the image, whichever it is.

    r = 1 − H(softmax over the K proposals) / log K with the softmax of `RegionAlignment`: 0 where
    all boxes fit the text equally well. It does not see which box the label names: it finds
    ambiguous expressions. It shares the encodings of `RegionAlignment`.
    """

    name: str = "proposal_entropy"

    def observe(self, batch: Batch) -> Tensor:
        """Return one minus the normalised entropy, NaN where there is one proposal, (B,)."""
        shares, number, _ = self.shares(batch)
        return torch.where(number > 1, 1 - entropy(shares, number), torch.nan)


@dataclass(frozen=True, eq=False)
class Proposals:
    """Distinct boxes by image."""

    boxes: np.ndarray  # (K, 4) float32 xyxy pixels as labelled, grouped by image
    starts: np.ndarray  # (U,) first box of each image
    counts: np.ndarray  # (U,) int64 proposals of each image, those of the raster included
    image_of: np.ndarray  # (N,) image of each label
    place_of: np.ndarray  # (N,) int64 place of each label's box among its image's proposals
    raster: int  # number of boxes that `pixels` adds to each image

    @classmethod
    def of(
        cls, labels: LabelTable, others: LabelTable | None = None, *, grid: int = 0
    ) -> Proposals:
        """Collect the distinct boxes of labels and, on the images of these, of others.

        The counts include the raster that `pixels` adds: `grid` x `grid` cells and the whole image.
        """
        names, image_of = labels.distinct_images()
        images, boxes = image_of, labels.boxes()
        if others is not None:
            number = {name: i for i, name in enumerate(names)}
            other_names, other_of = others.distinct_images()
            known = np.array([number.get(name, -1) for name in other_names], dtype=np.int64)
            there = known[other_of] >= 0
            images = np.concatenate([images, known[other_of][there]])
            boxes = np.concatenate([boxes, others.boxes()[there]])
        keyed = np.column_stack([images, boxes.astype(np.float64)])
        distinct, inverse = np.unique(keyed, axis=0, return_inverse=True)
        of = distinct[:, 0].astype(np.int64)
        own = np.bincount(of, minlength=len(names))
        starts = np.concatenate([[0], np.cumsum(own)[:-1]]).astype(np.int64)
        place = inverse.reshape(-1)[: len(labels)] - starts[image_of]
        raster = grid * grid + (grid > 1) if grid else 0
        return cls(
            distinct[:, 1:].astype(np.float32), starts, own + raster, image_of, place, raster
        )

    def pixels(self, image: int, size: tuple[int, int], grid: int) -> np.ndarray:
        """Return an image's proposals (K, 4) int64 xyxy in pixels, inside it and not empty."""
        start = self.starts[image]
        boxes = self.boxes[start : start + self.counts[image] - self.raster].astype(np.float64)
        if grid:
            edges = np.arange(grid + 1) / grid
            x, y = (axis.reshape(-1) for axis in np.meshgrid(edges[:-1], edges[:-1]))
            cells = np.stack([x, y, x + 1 / grid, y + 1 / grid], axis=1)
            whole = [[0.0, 0.0, 1.0, 1.0]] if grid > 1 else np.zeros((0, 4))
            boxes = np.concatenate([boxes, np.concatenate([cells, whole]) * np.tile(size, 2)])
        return whole_pixels(boxes, size)
