"""A small matcher of regions and texts, trained on the labels themselves, crosswise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipvg.boxes import iou
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.measures.attention import real_patches
from clipvg.reliability.measures.batch import Batch
from clipvg.reliability.measures.features import label_features
from clipvg.reliability.measures.geometry import patch_coverage
from clipvg.reliability.measures.look import PictureMeasure
from clipvg.reliability.measures.pairs import pairs_within
from clipvg.reliability.measures.scales import note, positive

if TYPE_CHECKING:
    from clipvg.model import GroundingModel
    from clipvg.reliability.measurer import Context

_APART = 0.3  # IoU below which another box of the picture is a wrong answer to the expression
_BATCH = 256
_LEAST = 64  # labels that a matcher needs to learn from
_MOST_STEPS = 3_000
_WAVES = (0.5, 1.0, 2.0)  # half periods of the box's coordinates in a square


class RegionTextMatch(PictureMeasure):
    """Probability that region and expression belong together, by a matcher learned from the labels.

    r = σ(m(v, t)): v the frozen features of the patches inside the label's box (all tapped levels)
    and the box, t those of the expression, m a small network that tells labels from mismatches: the
    expression with another box of its picture (IoU < 0.3), or of any picture. Most labels are right
    and wrong ones differ from one another, so it learns what words mean. The images are cut into
    folds, and each fold is judged by a matcher that was trained on the others. Matching with hard
    negatives: ALBEF, Li et al., NeurIPS 2021; judging out of sample: Northcutt et al., JAIR 2021.

    It sees what a grounding model does not: an expression that fits no object of the picture. Fuse
    it with IoU by a geometric mean.

    Cost: one pass of the towers, then training of a small network a fold. Range [0, 1]. Requires
    images. Equal seeds give equal scores on one machine.

    Args:
        model: grounding model whose towers give the features.
        folds: parts of the images, at least 2.
        epochs: passes over the labels of the other folds, at most 3,000 steps of 256 labels.
        width: hidden width of the matcher.
        seed: of the matchers and their mismatches.
        name: name of the score column.
    """

    def __init__(
        self,
        model: GroundingModel,
        *,
        folds: int = 5,
        epochs: int = 12,
        width: int = 128,
        seed: int = 0,
        name: str = "match",
    ) -> None:
        if folds < 2:
            raise InputError(f"folds is {folds}; expected at least 2.")
        positive("epochs", epochs)
        positive("width", width)
        super().__init__([model], name)
        self.folds, self.epochs, self.width, self.seed = folds, epochs, width, seed

    def look(self, batch: Batch) -> Tensor:
        """Return box, region and text of each label, (B, 4 + F + E)."""
        (model,) = self.models
        features = batch.chunk.encoded(model)[0][batch.index(model)].float()  # (B, 1 + P, F)
        box = batch.target(model)
        share = patch_coverage(box, model.backbone.grid) * real_patches(batch, model)
        share = share / share.sum(1, keepdim=True).clamp(min=1e-6)
        region = torch.einsum("bp,bpf->bf", share, features[:, 1:])
        return torch.cat([box, region, label_features(batch, model, "text")], dim=1)

    def judge(self, seen: np.ndarray, labels: LabelTable, context: Context) -> np.ndarray:
        """Return the probabilities, (N,)."""
        (model,) = self.models
        scores = np.full(len(seen), np.nan, dtype=np.float32)
        known = np.flatnonzero(np.isfinite(seen).all(axis=1))
        if not len(known):
            return scores
        values = torch.from_numpy(seen[known])
        text_width = model.backbone.embed_dim
        region = _standard(torch.cat([_places(values[:, :4]), values[:, 4:-text_width]], dim=1))
        text = _standard(values[:, -text_width:])
        image = labels.distinct_images()[1][known]
        boxes, fold = labels.boxes()[known], torch.from_numpy(image % self.folds)
        others = _Others(image, boxes)
        for number in range(self.folds):
            judged, rest = (fold == number).nonzero()[:, 0], (fold != number).nonzero()[:, 0]
            if len(judged) and len(rest) < _LEAST:
                why = f"{self.name}: {len(rest)} other labels are too few to learn from"
                note(context, known[judged.numpy()], why)
            elif len(judged):
                matcher = self._train(region, text, rest, others, number)
                with torch.no_grad():
                    found = matcher(region[judged], text[judged]).sigmoid()
                scores[known[judged.numpy()]] = found.numpy()
        return scores

    def _train(
        self, region: Tensor, text: Tensor, rows: Tensor, others: _Others, fold: int
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Train a matcher on some rows; what it gives is a logit, (B,)."""
        device = self.models[0].device
        draw = torch.Generator().manual_seed(self.seed * 1009 + fold)
        cuda = [device] if device.type == "cuda" else []
        steps = min(max(self.epochs * len(rows) // _BATCH, 30), _MOST_STEPS)
        with torch.random.fork_rng(cuda), torch.enable_grad():
            torch.manual_seed(self.seed * 1009 + fold)
            net = _Matcher(region.shape[1], text.shape[1], self.width).to(device)
            solver = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
            schedule = torch.optim.lr_scheduler.OneCycleLR(solver, 2e-3, total_steps=steps)
            for _ in range(steps):
                right = rows[torch.randint(len(rows), (_BATCH,), generator=draw)]
                asked, shown = others.draw(right, draw)
                anyone = rows[torch.randint(len(rows), (_BATCH // 2,), generator=draw)]
                wanted = torch.cat([right, asked, right[: _BATCH // 2]])
                given = torch.cat([right, shown, anyone])
                truth = torch.zeros(len(wanted), device=device)
                truth[:_BATCH] = 1
                logits = net(region[given].to(device), text[wanted].to(device))
                solver.zero_grad()
                F.binary_cross_entropy_with_logits(logits, truth).backward()
                solver.step()
                schedule.step()
        net.eval()
        return lambda v, t: net(v.to(device), t.to(device)).cpu()


class _Matcher(nn.Module):
    """Two towers of two layers; their states and the product of these give the logit."""

    def __init__(self, region: int, text: int, width: int, dropout: float = 0.1) -> None:
        super().__init__()

        def tower(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, outputs)
            )

        self.region, self.text = tower(region, width), tower(text, width)
        self.head = tower(3 * width, 1)

    def forward(self, region: Tensor, text: Tensor) -> Tensor:
        """Logits (B,) of pairs."""
        v, t = self.region(region), self.text(text)
        return self.head(torch.cat([v, t, v * t], dim=1))[:, 0]


class _Others:
    """For each label the labels of its picture that show another object."""

    def __init__(self, image: np.ndarray, boxes: np.ndarray) -> None:
        parts = [np.zeros((2, 0), dtype=np.int64)]
        for i, j in pairs_within(image):
            apart = iou(boxes[i], boxes[j]) < _APART
            parts.append(np.stack([i[apart], j[apart]]))
        pairs = np.concatenate(parts, axis=1)
        pairs = pairs[:, np.argsort(pairs[0], kind="stable")]
        counts = np.bincount(pairs[0], minlength=len(image))
        self._rows = torch.from_numpy(pairs[1])
        self._counts = torch.from_numpy(counts)
        self._starts = torch.from_numpy(np.cumsum(counts) - counts)

    def draw(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return those of the rows that have another object beside them, and one of these each."""
        asked = rows[self._counts[rows] > 0]
        part = torch.rand(len(asked), generator=generator) * self._counts[asked]
        return asked, self._rows[self._starts[asked] + part.long()]


def _places(boxes: Tensor) -> Tensor:
    """Boxes (N, 4) and waves of their coordinates."""
    angles = torch.cat([boxes * wave * torch.pi for wave in _WAVES], dim=1)
    return torch.cat([boxes, angles.sin(), angles.cos()], dim=1)


def _standard(values: Tensor) -> Tensor:
    return (values - values.mean(0)) / values.std(0).clamp(min=1e-6)
