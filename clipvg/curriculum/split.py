"""Split the labels of a curriculum into training and validation labels, with given scores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from clipvg.curriculum.beyond.correction import Agreed
from clipvg.curriculum.config import SSAConfig
from clipvg.curriculum.labelled import is_labelled
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.labels.schema import RELIABILITY
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.runs.run import Run

ROW = "adapt.row"


@dataclass(frozen=True)
class Split:
    """Labels divided into those to train on and those to validate on."""

    labels: LabelTable  # all labels as given
    is_held: np.ndarray  # (all labels,) bool, pseudo-labels held out: not trained on
    training: LabelTable  # the N others, without truth and reliability
    validation: LabelTable  # labels that models are judged on, without truth: given, or held out
    # scores of all labels by the requested measurers; None without any
    given: ScoreMatrix | None
    # whether held-out labels are weighted by the agreement of other sources' measurers
    is_weighted: bool = False

    @property
    def is_held_out(self) -> bool:
        """Whether models are judged on held-out pseudo-labels."""
        return bool(self.is_held.any())

    @cached_property
    def labelled(self) -> np.ndarray:
        """Training labels (N,) bool that are annotated, see `join_labelled`."""
        return is_labelled(self.training)

    @classmethod
    def of(
        cls,
        run: Run,
        config: SSAConfig,
        scored_by: Sequence[str] = (),
        sides: Mapping[str, bool] | None = None,
    ) -> Split:
        """Divide the labels of a run; if no validation labels are given, images are held out.

        Raises:
            InputError: there is nothing to train or validate on, or no such score column.
        """
        labels, validation = run.labels, run.validation
        given = _given(labels, scored_by) if scored_by else None
        is_held = np.zeros(len(labels), bool)
        if validation is None:
            is_held = hold_out(labels, config.holdout, seed=config.seed, sides=sides)
        # Nothing from here on sees the truth, or reliability given by others.
        training = blind(labels.select(~is_held))
        deciding = blind(labels.select(is_held) if validation is None else validation)
        if not len(training) or not len(deciding):
            raise InputError("there are no labels to train or to validate on; pass some.")
        for part, purpose in ((training, "train"), (deciding, "validate")):
            if not part.weights().any():
                raise InputError(
                    f"all {len(part):,} labels to {purpose} on have weight 0; pass validation "
                    "labels, or give labels of more images a weight."
                )
        return cls(labels, is_held, training, deciding, given)

    def weighted(self, held_out: ScoreMatrix) -> Split:
        """Weight held-out labels by the agreement of other sources' measurers, if any agrees."""
        weights = self.validation.weights() * agreement_with_others(held_out)
        if not weights.any():
            return self
        validation = self.validation.with_column("weight", weights)
        return replace(self, validation=validation, is_weighted=True)

    def given_scores(self, *, held_out: bool = False) -> ScoreMatrix:
        """Return the given scores of the training labels, or of the held-out ones."""
        assert self.given is not None
        return self.given.take(self.is_held if held_out else ~self.is_held)

    def tables(
        self, weights: np.ndarray, agreed: Agreed | None = None, corrections: Agreed | None = None
    ) -> dict[str, LabelTable]:
        """Return the label tables that a run keeps beside its summary, by file name.

        `weights`, (N,) in [0, 1], are those of the training labels in the resulting model; `agreed`
        are corrected labels that it was trained on, `corrections` those that are kept as a table.
        """
        rows = np.flatnonzero(~self.is_held)
        labels = self.labels.select(rows).with_column(ROW, rows)
        selected = labels if agreed is None else agreed.apply(labels)
        if not np.isin(weights, (0, 1)).all():
            selected = selected.with_column("weight", selected.weights() * weights)
        tables = {"selected.parquet": selected.select(weights > 0)}
        if corrections is not None:
            tables["corrections.parquet"] = corrections.table(labels)
        if self.is_held_out:
            held = np.flatnonzero(self.is_held)
            tables["held_out.parquet"] = (
                self.labels.select(held)
                .with_column(ROW, held)
                .with_column("weight", self.validation.weights())
            )
        return tables


def hold_out(
    labels: LabelTable,
    share: float = 0.1,
    *,
    seed: int = 0,
    sides: Mapping[str, bool] | None = None,
) -> np.ndarray:
    """Return which labels are held out, (N,) bool, by image: no image is on both sides.

    Which images are held out depends on their names and the seed alone, not on their order.

    Args:
        labels: N labels on at least two images.
        share: share of the images to hold out, in (0, 1); without `sides` at least one image, never
            all.
        seed: seed of the choice.
        sides: images whose side is already decided: name -> whether it is held out. The share is
            that of the others.

    Raises:
        InputError: the share is outside (0, 1), or there are fewer than two images.
    """
    names, image_of = labels.distinct_images()
    sides = sides or {}
    if not 0 < share < 1:
        raise InputError(f"held-out share is {share}; expected between 0 and 1, e.g. 0.1.")
    if len(names) < 2:
        raise InputError(
            f"the labels are on {len(names)} image(s), too few to hold some out; pass annotated "
            "labels as validation."
        )
    is_held = np.array([sides.get(name, False) for name in names])
    free = [i for i, name in enumerate(names) if name not in sides]
    draws = {i: hashlib.sha256(f"{seed}:{names[i]}".encode()).digest() for i in free}
    count = round(share * len(free))
    if not sides:
        count = min(max(1, count), len(names) - 1)
    is_held[sorted(free, key=draws.__getitem__)[:count]] = True
    return is_held[image_of]


def agreement_with_others(scores: ScoreMatrix) -> np.ndarray:
    """Return how far measurers of other sources agree with each label, (N,) float32 in [0, 1].

    It is the mean reliability by the measurers that were not trained on the label's source; 0 if
    there is none or none has scored the label.
    """
    others = np.stack([scores.cross(name) for name in scores.names])
    count = np.isfinite(others).sum(axis=0)
    return (np.nansum(others, axis=0) / np.maximum(count, 1)).astype(np.float32)


def sources_of(labels: LabelTable) -> tuple[str, ...]:
    """Return the distinct known sources of labels, in order of first appearance."""
    return tuple(dict.fromkeys(filter(None, labels.sources())))


def blind(labels: LabelTable) -> LabelTable:
    """Return labels without truth and without reliability."""
    given = [RELIABILITY + name for name in labels.reliability_names]
    return labels.drop_columns(["truth", *given])


def identity_of_scores(labels: LabelTable, scored_by: Sequence[str]) -> dict[str, str]:
    """Return a SHA-256 of each named score column, which `LabelTable.fingerprint` leaves out."""
    return {
        name: hashlib.sha256(labels.reliability(name).tobytes()).hexdigest() for name in scored_by
    }


def _given(labels: LabelTable, scored_by: Sequence[str]) -> ScoreMatrix:
    for name in scored_by:
        labels.reliability(name)  # refuses a name that is not there
    others = [RELIABILITY + name for name in labels.reliability_names if name not in scored_by]
    scores = ScoreMatrix.from_labels(labels.drop_columns(others))
    if not np.isfinite(scores.scores).any():
        raise InputError(f"no label has a score by {', '.join(scored_by)}; score the labels first.")
    return scores
