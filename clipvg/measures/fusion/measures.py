"""Fusion of measures: weighted mean, mean of ranks, vote, cascade, mixtures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Annotated, Literal

import numpy as np

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.measures.common.scales import ranks
from clipvg.measures.fusion.inputs import (
    FusedMeasure,
    Input,
    Weights,
    mean_of_scored,
    part_of,
    weights_of,
)
from clipvg.measures.fusion.mixture import clean_probability, group_column
from clipvg.reliability.histogram import kept
from clipvg.reliability.measurer import Context, Scores

_ZERO = 1e-6  # smallest score in a geometric mean
_COMPETENT = (0.01, 0.99)  # bounds of an input's estimated accuracy, so that none decides alone


class WeightedMean(FusedMeasure):
    """Weighted mean of the inputs that score a label.

    r = Σ_k w_k r_k / Σ_k w_k over the k with a score. Geometric: exp(Σ_k w_k log r_k / Σ_k w_k),
    which a single low input pulls down, for inputs that find different errors.

    Args:
        weights: one number >= 0 per input, by name or in order; all 1 when None.
        geometric: use the mean of logarithms; scores below 1e-6 count as 1e-6, so that labels with
            an input of 0 are still ordered by the others.
    """

    weights: Weights = None
    geometric: bool = False
    name: str = "weighted_mean"

    def fuse(self, rows: np.ndarray, names: Sequence[str], labels: LabelTable) -> np.ndarray:
        """Return the weighted mean."""
        weights = weights_of(self.weights, names, self.name)
        if self.geometric:
            return np.exp(mean_of_scored(np.log(np.maximum(rows, _ZERO)), weights))
        return mean_of_scored(rows, weights)


class RankMean(FusedMeasure):
    """Weighted mean of the inputs' ranks, so that inputs of different scales count equally.

    r = Σ_k w_k rank_k / N_k / Σ_k w_k over the k with a score; rank 1 is the least reliable of the
    N_k labels that input k scores, ties share their mean rank.

    It needs SciPy.

    Args:
        weights: see `WeightedMean`.
    """

    weights: Weights = None
    name: str = "rank_mean"

    def fuse(self, rows: np.ndarray, names: Sequence[str], labels: LabelTable) -> np.ndarray:
        """Return the mean of ranks."""
        return mean_of_scored(ranks(rows), weights_of(self.weights, names, self.name))


class Vote(FusedMeasure):
    """Share of the inputs' votes for a label.

    r = Σ_k w_k [r_k >= threshold_k] / Σ_k w_k over the k with a score. weights="competence" takes
    w_k = log(p_k / (1 − p_k)), optimal for independent voters that are right with probability p_k
    (Nitzan and Paroush, International Economic Review, 1982), with p_k the share of labels on which
    input k votes with the majority of the others (ties count half); an input that mostly disagrees
    with the others has weight 0.

    Args:
        threshold: score from which an input votes for the label; one for all, or one per input.
        weights: see `WeightedMean`, or "competence".
    """

    threshold: float | Sequence[float] | np.ndarray = 0.5
    weights: Weights | Literal["competence"] = None
    name: str = "vote"

    def problems(self) -> Iterator[str]:
        """Yield thresholds outside [0, 1]."""
        for value in np.atleast_1d(self.threshold):
            if not 0 <= value <= 1:
                yield f"threshold is {value}, expected a number from 0 to 1"

    def fuse(self, rows: np.ndarray, names: Sequence[str], labels: LabelTable) -> np.ndarray:
        """Return the share of votes."""
        limits = np.atleast_1d(np.asarray(self.threshold, dtype=np.float64))
        if len(limits) not in (1, len(rows)):
            raise InputError(
                f"measure {self.name!r} has {len(limits)} thresholds for {len(rows)} inputs; give "
                "one, or one each."
            )
        limits = np.broadcast_to(limits, len(rows))
        votes = np.stack([kept(row, limit) for row, limit in zip(rows, limits, strict=True)])
        votes = np.where(np.isnan(rows), np.nan, votes)
        if isinstance(self.weights, str):
            return mean_of_scored(votes, competence(votes))
        return mean_of_scored(votes, weights_of(self.weights, names, self.name))


class Cascade(FusedMeasure):
    """Cheap measures first, costly ones only for labels that these leave undecided.

    Stage k scores the labels that no earlier stage decided: r >= high or r <= low decides, else the
    next stage scores the label. r = score of the last stage that gave one.

    Args:
        of: stages in order: names of score columns, measures, or both; at least two.
        low: scores up to this reject the label.
        high: scores from this on accept it.
    """

    of: Sequence[Input] = field(kw_only=False)
    low: Annotated[float, (0, 1)] = 0.2
    high: Annotated[float, (0, 1)] = 0.8
    name: str = "cascade"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.stages) < 2:
            raise InputError(
                f"measure {self.name!r} has {len(self.stages)} stage(s); give at least 2."
            )

    def problems(self) -> Iterator[str]:
        """Yield a problem if some scores would both reject and accept."""
        if self.high < self.low:
            yield f"high is {self.high}, expected at least low, {self.low}"

    @property
    def stages(self) -> tuple[Input, ...]:
        """The inputs in the order in which they score."""
        return self.inputs or ()

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        """Return the deciding stage's score, NaN where no stage scores."""
        scores = np.full(len(labels), np.nan, dtype=np.float32)
        open_rows = np.arange(len(labels))
        reasons: dict[int, str] = {}
        for stage in self.stages:
            if not len(open_rows):
                break
            part, own = part_of(labels, context, open_rows)
            rows, why = FusedMeasure((stage,), name=self.name).input_scores(part, own)
            found = rows[0]
            scored = ~np.isnan(found)
            scores[open_rows[scored]] = found[scored]
            reasons |= {int(open_rows[row]): reason for row, reason in why.items()}
            narrow = found.astype(np.float32)  # like the scores, so that 0.2 equals low=0.2
            decided = (narrow >= np.float32(self.high)) | (narrow <= np.float32(self.low))
            open_rows = open_rows[~decided]
        unscored = np.isnan(scores)
        return Scores(scores, {row: why for row, why in reasons.items() if unscored[row]})


class MixtureCalibration(FusedMeasure):
    """Probability that a label is right, from a two-component mixture of a measure's scores.

    r = P(upper component | score) for two Beta distributions fitted to the scores, per group if
    asked: scores of any measure become probabilities, comparable across sources, without ground
    truth. Splitting clean from noisy labels by a two-component mixture: Arazo et al., ICML 2019
    (Beta); DivideMix, Li et al., ICLR 2020 (normal), both on losses.

    Several inputs are averaged first. It needs SciPy.

    Args:
        by: column (such as "source") whose groups each have their own mixture; None for one
            mixture.
    """

    by: str | None = None
    name: str = "mixture"

    def fuse(self, rows: np.ndarray, names: Sequence[str], labels: LabelTable) -> np.ndarray:
        """Return the probabilities."""
        return clean_probability(mean_of_scored(rows), group_column(labels, self.by))


class NoiseLevel(FusedMeasure):
    """Estimated share of right labels in the label's group.

    A mixture of two Beta distributions is fitted to the scores of each group (source, or any
    other column); r = mean posterior of the upper component, the group's share of clean labels, the
    same for all its labels. Such rates serve to weight sources, not to pick labels.

    Several inputs are averaged first. It needs SciPy.

    Args:
        by: column whose values are the groups.
    """

    by: str = "source"
    name: str = "noise_level"

    def fuse(self, rows: np.ndarray, names: Sequence[str], labels: LabelTable) -> np.ndarray:
        """Return the clean share of each label's group."""
        group = group_column(labels, self.by)
        posterior = clean_probability(mean_of_scored(rows), group)
        known = ~np.isnan(posterior)
        count = np.bincount(group[known], minlength=group.max(initial=0) + 1)
        total = np.bincount(group[known], posterior[known], len(count))
        share = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
        return np.where(known, share[group], np.nan)


def competence(votes: np.ndarray) -> np.ndarray:
    """Return weights log(p / (1 − p)) of k voters, p their agreement with the others' majority.

    Votes (k, N) are 0 or 1, NaN where a voter abstains.
    """
    cast = ~np.isnan(votes)
    favour = np.where(cast, np.nan_to_num(votes) * 2 - 1, 0)  # (k, N) −1, 0 or 1
    others = np.sign(favour.sum(axis=0) - favour)
    agree = (1 + favour * others) / 2
    share = np.divide(
        (agree * cast).sum(axis=1), cast.sum(axis=1),
        out=np.full(len(votes), 0.5), where=cast.any(axis=1),
    )  # fmt: skip
    share = np.clip(share, *_COMPETENT)
    weights = np.maximum(np.log(share / (1 - share)), 0)
    return weights if weights.any() else np.ones(len(votes))
