"""Options of self-paced adapting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from clipvg.curriculum.threshold import check_grid
from clipvg.errors import InputError
from clipvg.runtime.fields import ABOVE_ZERO, BELOW_ONE, check_fields

ADAPTED = "adapted"  # name of the resulting model among the measurers
LEAST_SHARE = 0.05  # smallest share of the labels to train on: fewer teach nothing
HowTrained = Literal["separate", "together"]


@dataclass(frozen=True, kw_only=True)
class SSAConfig:
    """Options of SSA.

    Args:
        start: threshold that the search starts at.
        step: distance between neighbouring thresholds.
        low: lowest threshold allowed.
        high: highest threshold allowed.
        min_kept: smallest number of labels that a threshold may keep; None is a twentieth of those
            that it chooses among.
        strict: keep r > h, as the published filter does, instead of the paper's r >= h.
        candidates: "separate" trains each candidate on its own labels, as published; "together"
            trains the candidates of a step in one pass over the union of their labels.
        halving: drop the worse half of a step's candidates partway, by their score on the
            validation labels (successive halving); needs candidates="together" and a learner that
            supports it.
        warm_start: start candidates from the measurer's weights instead of fresh ones.
        holdout: share of the images to hold out if no validation labels are given.
        folds: measure out-of-sample: images are divided into this many folds, and the labels of
            each are measured by a model trained without them; 0 lets the measurer itself measure
            what it was trained on, as published.
        fold_steps: "whole" trains each fold's model for as long as the measurer; "shared" gives all
            folds' models together as many steps as the measurer.
        fold_mean: with folds, reliability is the mean of the measurer's own and that of the model
            without the label's fold, instead of the latter alone.
        seed: seed of every training, of the held-out images and of the folds.
    """

    start: float = 0.5
    step: Annotated[float, (ABOVE_ZERO, None)] = 0.1
    low: float = 0.0
    high: float = 1.0
    min_kept: Annotated[int | None, (1, 2**63 - 1)] = None
    strict: bool = False
    candidates: HowTrained = "separate"
    halving: bool = False
    warm_start: bool = False
    holdout: Annotated[float, (ABOVE_ZERO, BELOW_ONE)] = 0.1
    folds: Annotated[int, (0, 100)] = 0
    fold_steps: Literal["whole", "shared"] = "whole"
    fold_mean: bool = False
    seed: Annotated[int, (0, 2**63 - 1)] = 0

    def __post_init__(self) -> None:
        """Refuse values that a search could not use, before anything is trained."""
        check_fields(self, "options of the search")
        if self.folds == 1:
            raise InputError("folds is 1, which leaves nothing to train on; give 0, or 2 or more.")
        if self.halving and self.candidates != "together":
            raise InputError("halving needs candidates that train together: candidates='together'.")
        check_grid(self.start, self.step, self.low, self.high)

    def least(self, labels: int) -> int:
        """Return the smallest number of labels that a subset of `labels` labels may have."""
        return self.min_kept or max(1, math.ceil(labels * LEAST_SHARE))


@dataclass(frozen=True, kw_only=True)
class MSAConfig(SSAConfig):
    """Options of MSA: those of SSA for each source's search, and its own.

    Args:
        h0: threshold at which measurers are compared before the search of a source.
        baseline: also train once on all labels of all sources, for comparison: "no curriculum".
    """

    h0: Annotated[float, (0, 1)] = 0.5
    baseline: bool = True
