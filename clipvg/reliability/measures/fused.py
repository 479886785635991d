"""Fusion of measures: weighted mean, mean of ranks, vote, cascade, mixture calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.histogram import kept
from clipvg.reliability.measures.inputs import (
    Of,
    input_names,
    input_scores,
    listed,
    mean_of_scored,
    needs,
    part_of,
    score_column,
    weights_of,
)
from clipvg.reliability.measures.mixture import clean_probability, group_column
from clipvg.reliability.measures.scales import inside, ranks

if TYPE_CHECKING:
    from clipvg.reliability.measurer import Context, Measurer

Weights = Mapping[str, float] | Sequence[float] | None
_ZERO = 1e-6  # least score of a geometric mean
_COMPETENT = (0.01, 0.99)  # bounds of a member's estimated accuracy: no one decides alone


class WeightedMean:
    """Weighted mean of the inputs that score a label.

    r = Σ_k w_k r_k / Σ_k w_k over the k with a score. Geometric: exp(Σ_k w_k log r_k / Σ_k w_k),
    which one low input pulls down, for inputs that find different errors.

    Cost: that of the inputs. Range [0, 1]. Requires what the inputs require; scores where they are
    named.

    Args:
        of: names of score columns, measures, or both; None for all scores of the context.
        weights: one number >= 0 an input, by name or in order; all 1 when None.
        geometric: mean of logarithms; scores below 1e-6 count as that, so that the other inputs
            still order labels of which one is 0.
        name: name of the score column.
    """

    def __init__(
        self,
        of: Of = None,
        *,
        weights: Weights = None,
        geometric: bool = False,
        name: str = "weighted_mean",
    ) -> None:
        self.of, self.weights, self.geometric, self.name = listed(of), weights, geometric, name
        self.requires = needs(self.of)

    def measure(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return the weighted mean, float32 (N,), NaN where no input scores."""
        rows = input_scores(self.of, labels, context, self.name)
        weights = weights_of(self.weights, input_names(self.of, context), self.name)
        if self.geometric:
            found = np.exp(mean_of_scored(np.log(np.maximum(rows, _ZERO)), weights))
        else:
            found = mean_of_scored(rows, weights)
        return np.clip(found, 0, 1).astype(np.float32)


class RankMean:
    """Weighted mean of the inputs' ranks: inputs of different scales count alike.

    r = Σ_k w_k rank_k / N_k / Σ_k w_k over the k with a score; rank 1 is the least reliable of the
    N_k labels that input k scores, ties share their mean rank.

    Cost: a sort an input. Range (0, 1]. Requires what the inputs require; SciPy.

    Args:
        of: as of `WeightedMean`.
        weights: as of `WeightedMean`.
        name: name of the score column.
    """

    def __init__(self, of: Of = None, *, weights: Weights = None, name: str = "rank_mean") -> None:
        self.of, self.weights, self.name = listed(of), weights, name
        self.requires = needs(self.of)

    def measure(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return the mean of ranks, float32 (N,), NaN where no input scores."""
        rows = input_scores(self.of, labels, context, self.name)
        weights = weights_of(self.weights, input_names(self.of, context), self.name)
        return np.clip(mean_of_scored(ranks(rows), weights), 0, 1).astype(np.float32)


class Vote:
    """Share of the inputs' votes for a label.

    r = Σ_k w_k [r_k >= threshold_k] / Σ_k w_k over the k with a score. weights="competence" takes
    w_k = log(p_k / (1 − p_k)), optimal for independent voters that are right with probability p_k
    (Nitzan and Paroush, International Economic Review, 1982), with p_k the share of labels on which
    input k votes with the majority of the others (ties count half); an input that is at odds with
    the others has weight 0.

    Cost: that of the inputs. Range [0, 1]. Requires what the inputs require.

    Args:
        of: as of `WeightedMean`.
        threshold: score from which an input votes for the label; one for all, or one each.
        weights: as of `WeightedMean`, or "competence".
        name: name of the score column.
    """

    def __init__(
        self,
        of: Of = None,
        *,
        threshold: float | Sequence[float] = 0.5,
        weights: Weights | str = None,
        name: str = "vote",
    ) -> None:
        if isinstance(weights, str) and weights != "competence":
            raise InputError(f"weights={weights!r} is unknown: choose 'competence' or numbers.")
        for value in np.atleast_1d(threshold):
            inside("threshold", float(value))
        self.of, self.threshold, self.weights, self.name = listed(of), threshold, weights, name
        self.requires = needs(self.of)

    def measure(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return the share of votes, float32 (N,), NaN where no input scores."""
        rows = input_scores(self.of, labels, context, self.name)
        names = input_names(self.of, context)
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
            weights = competence(votes)
        else:
            weights = weights_of(self.weights, names, self.name)
        return np.clip(mean_of_scored(votes, weights), 0, 1).astype(np.float32)


class Cascade:
    """Cheap measures first, dear ones only for labels that they leave open.

    Stage k scores the labels that no earlier stage decided; r >= high or r <= low decides, else the
    next stage is asked. r = score of the last stage that gave one.

    Cost: each stage is paid for undecided labels only. Range [0, 1]. Requires what the stages
    require.

    Args:
        of: stages in order: names of score columns, measures, or both; at least two.
        low: scores up to this reject.
        high: scores from this accept.
        name: name of the score column.
    """

    def __init__(
        self,
        of: Sequence[str | Measurer],
        *,
        low: float = 0.2,
        high: float = 0.8,
        name: str = "cascade",
    ) -> None:
        inside("low", low)
        inside("high", high, low)
        self.of = listed(of) or ()
        if len(self.of) < 2:
            raise InputError(f"measure {name!r} has {len(self.of)} stage(s); give at least 2.")
        self.low, self.high, self.name = low, high, name
        self.requires = needs(self.of)

    def measure(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return the deciding stage's score, float32 (N,), NaN where no stage scores."""
        scores = np.full(len(labels), np.nan, dtype=np.float32)
        open_rows = np.arange(len(labels))
        reasons: dict[int, str] = {}
        for stage in self.of:
            if not len(open_rows):
                break
            part, own = part_of(labels, context, open_rows)
            found = input_scores((stage,), part, own, self.name)[0]
            scored = ~np.isnan(found)
            scores[open_rows[scored]] = found[scored]
            reasons.update({int(open_rows[row]): why for row, why in own.reasons.items()})
            narrow = found.astype(np.float32)  # as the scores are, and 0.2 is then 0.2
            decided = (narrow >= np.float32(self.high)) | (narrow <= np.float32(self.low))
            open_rows = open_rows[~decided]
        for row in np.flatnonzero(np.isnan(scores)):
            if int(row) in reasons:
                context.reasons.setdefault(int(row), reasons[int(row)])
        return scores


class MixtureCalibration:
    """Probability that a label is right, from a mixture of two components of a measure's scores.

    r = P(upper component | score) for two Beta distributions fitted to the scores, by group where
    asked: scores of any measure become probabilities, comparable across sources, without labels of
    truth. Splitting clean from noisy by a two-component mixture: Arazo et al., ICML 2019 (Beta);
    DivideMix, Li et al., ICLR 2020 (normal), there on losses.

    Cost: a one-dimensional mixture a group. Range [0, 1]. Requires what the input requires; SciPy.

    Args:
        of: name of a score column or a measure; None for the mean of all scores of the context.
        by: column whose groups ("source") have mixtures of their own; None for one mixture.
        name: name of the score column.
    """

    def __init__(
        self, of: str | Measurer | None = None, *, by: str | None = None, name: str = "mixture"
    ) -> None:
        self.of, self.by, self.name = of, by, name
        self.requires = needs(listed(of))  # type: ignore[arg-type]

    def measure(self, labels: LabelTable, context: Context) -> np.ndarray:
        """Return the probabilities, float32 (N,), NaN where the input does not score."""
        if self.of is None:
            scores = score_column(None, context, self.name)
        else:
            scores = input_scores((self.of,), labels, context, self.name)[0]
        found = clean_probability(scores, group_column(labels, self.by))
        return np.clip(found, 0, 1).astype(np.float32)


def competence(votes: np.ndarray) -> np.ndarray:
    """Weights log(p / (1 − p)) of k voters, p their agreement with the majority of the others.

    Args:
        votes: (k, N) 0 or 1, NaN where a voter abstains.
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
