"""What a label's feature is compared with: trusted labels, features, or the labels themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.measures.attention import real_patches
from clipvg.measures.common.geometry import patch_coverage
from clipvg.measures.common.model_measure import ModelMeasure
from clipvg.measures.common.options import one_of
from clipvg.measures.common.scales import conformal
from clipvg.model import GroundingModel
from clipvg.reliability.batch import Batch
from clipvg.reliability.image_measure import observe
from clipvg.reliability.measurer import Context, Scores

Reference = LabelTable | np.ndarray | str | Path | None
# How far out features (N, K) lie, (N,); and the place in the reference of labels that are in it,
# else −1, as no label counts as its own neighbour.
Distances = Callable[[np.ndarray, np.ndarray], np.ndarray]

CONTEXT = "context"
KINDS = ("joint", "label", "region", "text", "image")


class FeatureDistance(ModelMeasure):
    """Distance from a reference: r = share of the reference that lies at least as far out.

    Args:
        features: kind of feature, see `label_features`.
        reference: trusted labels, their file, (M, K) features, "context" for ``context.reference``,
            or None for the labels themselves.
        max_reference: most rows of the reference; a random part of a larger one is taken.
        seed: of that part.
    """

    features: str = one_of("label", KINDS)
    reference: Reference = field(default=None, repr=False)
    max_reference: int
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.given  # a file that cannot be read is refused now

    @property
    def from_context(self) -> bool:
        """Whether the reference is that of the context."""
        return isinstance(self.reference, str) and self.reference == CONTEXT

    @cached_property
    def given(self) -> LabelTable | np.ndarray | None:
        """The reference, read; None for that of the context or the labels."""
        if isinstance(self.reference, str | Path):
            return None if self.from_context else read_labels(self.reference)
        return self.reference

    @property
    def requires(self) -> frozenset[str]:
        """What it needs beside the labels."""
        return frozenset({"images", "reference"} if self.from_context else {"images"})

    def observe(self, batch: Batch) -> Tensor:
        """Return the features, (B, K)."""
        return label_features(batch, self.model, self.features)

    def score(self, observed: np.ndarray, labels: LabelTable, context: Context) -> Scores:
        """Return the share of the reference that lies at least as far out."""
        scores = np.full(len(observed), np.nan, dtype=np.float32)
        known = np.isfinite(observed).all(axis=1)
        own = self.reference is None
        reference = observed[known] if own else self._reference(labels, context)
        if not known.any():
            return Scores(scores)
        if own and len(reference) == 1:
            why = f"{self.name}: one label, nothing to compare with"
            return Scores(scores, dict.fromkeys(np.flatnonzero(known).tolist(), why))
        if len(reference) < 2 or reference.shape[1] != observed.shape[1]:
            raise InputError(
                f"measure {self.name!r}: the reference holds {reference.shape} features and the "
                f"labels {observed.shape}; expected at least 2 rows of the labels' width."
            )
        rng = np.random.default_rng(self.seed)
        part = np.arange(len(reference))
        if len(reference) > self.max_reference:
            part = np.sort(rng.choice(len(reference), self.max_reference, replace=False))
        held = np.full(len(observed), -1, dtype=np.int64)  # place in the reference of a label in it
        if own:
            held[np.flatnonzero(known)[part]] = np.arange(len(part))
        distances = self.fit(reference[part])
        inside = distances(reference[part], np.arange(len(part)))
        scores[known] = conformal(inside, distances(observed[known], held[known]), own=own)
        return Scores(scores)

    def fit(self, reference: np.ndarray) -> Distances:
        """Return what says how far out features lie, from those of the reference, (M, K)."""
        raise NotImplementedError

    def _reference(self, labels: LabelTable, context: Context) -> np.ndarray:
        given = context.reference if self.from_context else self.given
        if isinstance(given, LabelTable):
            trusted = given if given.images is not None else given.with_images(labels.images)
            # Why images of the reference cannot be read is no label's reason.
            context = replace(context, on_error="null")
            ((found,), _) = observe([self], trusted.drop_columns("truth"), context)
            found = found[np.isfinite(found).all(axis=1)]
        else:
            found = np.asarray(given, dtype=np.float32)
        if found.ndim != 2:
            raise InputError(
                f"measure {self.name!r}: the reference is a {type(given).__name__} of shape "
                f"{found.shape}; expected a LabelTable or (M, K) features."
            )
        return found


def label_features(batch: Batch, model: GroundingModel, kind: str) -> Tensor:
    """Return features of B labels, (B, K) float32 of length 1, except "joint".

    "joint": state of [REG], image and expression but not the box; "region": mean of the last tapped
    level's patches inside the label's box; "text": text token at the end of the expression;
    "image": [CLS] of the last tapped level; "label": region and text, each of length 1, side by
    side.
    """
    if kind == "joint":
        return batch.state(model)
    if kind == "text":
        features, mask = batch.text(model)
        places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        last = (mask * places).amax(1).clamp(min=1) - 1
        return F.normalize(
            features[torch.arange(len(last), device=last.device), last].float(), dim=1
        )
    width = model.backbone.width if model.backbone.visual == "levels" else None
    features = batch.chunk.encoded(model)[0][batch.index(model)]  # (B, 1 + P, F)
    features = features.float() if width is None else features[..., -width:].float()
    if kind == "image":
        return F.normalize(features[:, 0], dim=1)
    share = patch_coverage(batch.target(model), model.backbone.grid) * real_patches(batch, model)
    region = F.normalize(torch.einsum("bp,bpf->bf", share, features[:, 1:]), dim=1)
    if kind == "region":
        return region
    return torch.cat([region, label_features(batch, model, "text")], dim=1)
