"""What a label's feature is compared with: trusted labels, features, or the labels themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.reliability.measures.batch import Batch
from clipvg.reliability.measures.features import KINDS, label_features
from clipvg.reliability.measures.look import PictureMeasure, see
from clipvg.reliability.measures.scales import conformal, note, one_of

if TYPE_CHECKING:
    from clipvg.model import GroundingModel
    from clipvg.reliability.measurer import Context

Reference = LabelTable | np.ndarray | str | Path | None

CONTEXT = "context"


class FeatureDistance(PictureMeasure):
    """Distance from a reference, as the share of the reference that lies further out.

    Args:
        model: grounding model that gives the features.
        features: kind of feature, see `label_features`.
        reference: trusted labels, their file, (M, K) features, "context" for
            ``context.reference``, or None for the labels themselves.
        max_reference: most rows of the reference; a random part of a larger one is taken.
        seed: of that part.
        name: name of the score column.
    """

    def __init__(
        self,
        model: GroundingModel,
        *,
        features: str,
        reference: Reference,
        max_reference: int,
        seed: int,
        name: str,
    ) -> None:
        one_of("features", features, KINDS)
        if max_reference < 2:
            raise InputError(f"max_reference is {max_reference}; expected at least 2.")
        super().__init__([model], name)
        self.features, self.max_reference, self.seed = features, max_reference, seed
        self.from_context = isinstance(reference, str) and reference == CONTEXT
        if self.from_context:
            self.requires = self.requires | {"reference"}
        elif isinstance(reference, str | Path):
            reference = read_labels(reference)
        self.reference = reference

    def look(self, batch: Batch) -> Tensor:
        """Return the features, (B, K)."""
        return label_features(batch, self.models[0], self.features)

    def judge(self, seen: np.ndarray, labels: LabelTable, context: Context) -> np.ndarray:
        """Return the share of the reference that lies at least as far out, (N,)."""
        scores = np.full(len(seen), np.nan, dtype=np.float32)
        known = np.isfinite(seen).all(axis=1)
        own = self.reference is None
        reference = seen[known] if own else self._reference(labels, context)
        if not known.any():
            return scores
        if own and len(reference) == 1:
            note(context, np.flatnonzero(known), f"{self.name}: one label, nothing to compare with")
            return scores
        if len(reference) < 2 or reference.shape[1] != seen.shape[1]:
            raise InputError(
                f"measure {self.name!r}: the reference holds {reference.shape} features and the "
                f"labels {seen.shape}; expected at least 2 rows of the labels' width."
            )
        rng = np.random.default_rng(self.seed)
        part = np.arange(len(reference))
        if len(reference) > self.max_reference:
            part = np.sort(rng.choice(len(reference), self.max_reference, replace=False))
        held = np.full(len(seen), -1, dtype=np.int64)  # place in the reference of a label in it
        if own:
            held[np.flatnonzero(known)[part]] = np.arange(len(part))
        inside, outside = self.distances(reference[part], seen[known], held[known])
        scores[known] = conformal(inside, outside, own=own)
        return scores

    def distances(
        self, reference: np.ndarray, values: np.ndarray, held: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return how far out the reference (M,) and the labels (N,) lie.

        Args:
            reference: (M, K) features.
            values: (N, K) features.
            held: (N,) place in the reference of labels that are in it, else −1; no label counts
                as its own neighbour.
        """
        raise NotImplementedError

    def _reference(self, labels: LabelTable, context: Context) -> np.ndarray:
        given: Any = context.reference if self.from_context else self.reference
        found = given
        if isinstance(given, LabelTable):
            given = given if given.images is not None else given.with_images(labels.images)
            # Reasons of its own: those of the reference are no label's.
            quiet = replace(context, reasons={}, on_error="null")
            found = see([self], given.drop_columns("truth"), quiet)[0]
            found = found[np.isfinite(found).all(axis=1)]
        found = np.asarray(found, dtype=np.float32)
        if found.ndim != 2:
            raise InputError(
                f"measure {self.name!r}: the reference is a {type(given).__name__} of shape "
                f"{found.shape}; expected a LabelTable or (M, K) features."
            )
        return found
