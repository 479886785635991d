"""Region-text match: a matcher learned from the labels themselves, cross-fitted by image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from clipvg.features.keys import image_key
from clipvg.labels import LabelTable
from clipvg.measures.common.model_measure import ModelMeasure
from clipvg.measures.match.features import (
    BESIDE,
    narrow_images,
    token_features,
    whitening,
    with_observed,
)
from clipvg.model.quality import BINS, Matcher, bin_features
from clipvg.pseudo.observations import ObservationTable
from clipvg.pseudo.reading import as_observations
from clipvg.reliability.batch import Batch
from clipvg.reliability.measurer import Context, Scores
from clipvg.training.matching import (
    DISPLACED,
    MatcherInputs,
    MatcherTrainer,
    RaggedLists,
    displaced,
    rivals_of,
)

_VIEWS = 1 + DISPLACED  # boxes per label: its own, then displaced ones
_LEAST = 64  # fewest labels that a matcher is trained on
_LEAST_WEIGHT = 1e-3  # smallest weight of a label in training
_NO_FOLD = -1
_NONE = -30.0  # logit that stands for no rival


class RegionTextMatch(ModelMeasure):
    """Probability that region and expression belong together, by a matcher learned from the labels.

    r = σ(m(b, t)) · σ(m(b, t) − max_k m(b_k, t)): the words fit the box, and fit it better than the
    box b_k (IoU < 0.5) of any other label of its image. m is a small network over the frozen
    features (all tapped levels) of patches around the box, its position, and the tokens of the
    expression: each token searches the box for what it names, and all must find it. It learns to
    tell labels from mismatches: the expression with another box of its image or with a displaced
    one (IoU < 0.5), the box with a random expression, or with one that differs in one word. Most
    labels are right and wrong ones differ from one another, so it learns what words mean. Each
    later round draws labels in proportion to the r of the earlier rounds, and the final r is that
    of the rounds' mean logits. The images are split into folds, and each fold is scored by matchers
    that were trained, and their labels weighted, on the other folds only.

    Token-wise matching: FILIP, Yao et al., ICLR 2022; hard negatives: ALBEF, Li et al., NeurIPS
    2021; out-of-sample scores: Northcutt et al., JAIR 2021.

    It detects what a grounding model does not: an expression that fits no object of the image, or
    several. Fuse it with IoU by a weighted mean in which it counts twice.

    Cost: one pass of the towers, then training a small network rounds × folds times. Equal seeds
    give equal scores on one machine.

    Args:
        model: grounding model whose towers give the features.
        folds: number of folds of the images, at least 2.
        rounds: number of matchers trained per fold.
        epochs: passes over the labels of the other folds, at most 3,000 steps of 192 labels.
        width: hidden width of the matcher, divisible by 4.
        seed: seed of the matchers and their mismatches.
        observations: table of observations, or a file in any format that
            `clipvg.pseudo.read_observations` reads; objects that no label shows are rivals b_k too.
    """

    folds: Annotated[int, (2, None)] = 3
    rounds: Annotated[int, (1, None)] = 3
    epochs: Annotated[int, (1, None)] = 10
    width: Annotated[int, (1, None)] = 64
    seed: int = 0
    observations: str | Path | ObservationTable | None = field(default=None, repr=False)
    name: str = "match"
    only_towers: ClassVar[bool] = True
    reads = "_seen"

    def problems(self) -> Iterator[str]:
        """Yield a problem if the width is not divisible by the number of heads."""
        if self.width % Matcher.heads:
            yield f"width is {self.width}, expected a multiple of {Matcher.heads}"

    @cached_property
    def _seen(self) -> ObservationTable | None:
        return None if self.observations is None else as_observations(self.observations)

    @property
    def shares_pass(self) -> bool:
        """Whether the measure looks at the labels alone, without observed objects."""
        return self._seen is None

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        """Score every label, with observed objects as additional rivals."""
        if self._seen is None:
            return super().measure(labels, context)
        found = super().measure(with_observed(labels, self._seen), context)
        reasons = {row: why for row, why in found.reasons.items() if row < len(labels)}
        return Scores(found.values[: len(labels)], reasons)

    def observe(self, batch: Batch) -> Tensor:
        """Return boxes and regions of each label's views, (B, views * (4 + bins * C))."""
        model = self.model
        key = ("narrow", image_key(model), model.device)
        features = batch.chunk.memo.get(key, lambda: narrow_images(batch, model))
        rows = batch.chunk.row_names[batch.rows]
        boxes = displaced(batch.target(model).cpu(), rows, self.seed).to(features.device)
        regions = bin_features(features[batch.index(model)], boxes)  # (B, V, bins, C)
        return torch.cat([boxes.flatten(1), regions.flatten(1)], dim=1)

    def score(self, observed: np.ndarray, labels: LabelTable, context: Context) -> Scores:
        """Return the probabilities."""
        scores = np.full(len(observed), np.nan, dtype=np.float32)
        known = np.flatnonzero(np.isfinite(observed).all(axis=1))
        if not len(known):
            return Scores(scores)
        image = labels.distinct_images()[1][known]
        pairs = self.pairs(
            observed[known], np.arange(len(known)), np.asarray(labels.expressions)[known]
        )
        fold = torch.from_numpy(image % self.folds)
        if BESIDE in labels.table.column_names:  # objects are not scored or trained on
            beside = labels.table.column(BESIDE).to_numpy()[known]
            fold[torch.from_numpy(beside)] = _NO_FOLD
        found = self.judge(pairs, image, fold)
        scores[known] = found.values
        return Scores(scores, {int(known[row]): why for row, why in found.reasons.items()})

    def judge(
        self, pairs: MatcherInputs, group: np.ndarray, fold: Tensor, prior: np.ndarray | None = None
    ) -> Scores:
        """Return r of N labels, each scored by matchers trained on the other folds.

        Args:
            pairs: inputs of the matchers.
            group: (N,) int64; a label's rivals are the labels of its group with another box.
            fold: (N,) int64 from 0; labels with −1 are neither scored nor trained on.
            prior: (N,) in [0, 1], weight of each label before any matcher has scored it; 1 when
                None.
        """
        known = torch.ones(len(group)) if prior is None else torch.from_numpy(prior).float()
        rivals = rivals_of(group, pairs.boxes[pairs.box_of, 0])
        trainer = MatcherTrainer(
            pairs=pairs,
            others=RaggedLists(rivals[0].numpy(), rivals[1].numpy(), len(group)),
            width=self.width,
            epochs=self.epochs,
            device=self.model.device,
        )
        scores = np.full(len(group), np.nan, dtype=np.float32)
        reasons: dict[int, str] = {}
        for number in range(self.folds):
            judged = (fold == number).nonzero()[:, 0]
            rest = ((fold != number) & (fold != _NO_FOLD)).nonzero()[:, 0]
            if len(judged) and len(rest) < _LEAST:
                why = f"{self.name}: {len(rest)} other labels are too few to learn from"
                reasons |= dict.fromkeys(judged.tolist(), why)
            elif len(judged):
                scores[judged.numpy()] = self._judge_fold(
                    trainer, (judged, rest), rivals, known, number
                )
        return Scores(scores, reasons)

    def _judge_fold(
        self,
        trainer: MatcherTrainer,
        parts: tuple[Tensor, Tensor],
        rivals: Tensor,
        prior: Tensor,
        fold: int,
    ) -> Tensor:
        """Return r of the labels of the first part, by matchers trained on the second, (J,)."""
        judged, rest = parts
        weights = prior.clamp(min=_LEAST_WEIGHT)
        of_judged, of_rest = _Logits(judged, rivals, trainer), _Logits(rest, rivals, trainer)
        for number in range(self.rounds):
            seed = (self.seed * 1009 + fold) * 1009 + number
            net = trainer.train(rest, weights, seed)
            of_judged.add(net)
            if number + 1 < self.rounds:
                of_rest.add(net)
                seen = prior[rest] * of_rest.reliability()
                weights[rest] = seen.clamp(min=_LEAST_WEIGHT)
        return of_judged.reliability()

    def pairs(
        self, observed: np.ndarray, box_of: np.ndarray, expressions: np.ndarray
    ) -> MatcherInputs:
        """Return the matchers' inputs, with features of mean 0 and standard deviation 1.

        Args:
            observed: (M, K) float32, result of `observe` for M boxes.
            box_of: (N,) int64, index of each label's box.
            expressions: (N,) str.
        """
        values = torch.from_numpy(observed)
        boxes = values[:, : 4 * _VIEWS].unflatten(1, (_VIEWS, 4))
        regions = values[:, 4 * _VIEWS :].unflatten(1, (_VIEWS, BINS**2, -1))
        own = regions[:, 0].flatten(0, 1)
        regions = (regions - own.mean(0)) @ whitening(own)
        distinct, text_of = np.unique(expressions, return_inverse=True)  # whatever the order
        texts, masks = token_features(self.model, distinct.tolist())
        return MatcherInputs(
            boxes,
            regions,
            torch.from_numpy(box_of),
            texts,
            masks,
            torch.from_numpy(text_of),
            distinct.tolist(),
        )


class _Logits:
    """Sums of the matchers' logits of labels and of their rivals."""

    def __init__(self, rows: Tensor, rivals: Tensor, trainer: MatcherTrainer) -> None:
        self.rows, self.trainer = rows, trainer
        place = torch.full((len(trainer.pairs.box_of),), -1)
        place[rows] = torch.arange(len(rows))
        self.asking, self.rival = rivals[:, place[rivals[0]] >= 0]
        self.place = place[self.asking]
        # a rival with the same text, as when boxes compete for one expression, gets the logit that
        # it has as a label
        text_of, at = trainer.pairs.text_of, place[self.rival]
        self.is_own = (text_of[self.rival] == text_of[self.asking]) & (at >= 0)
        self.at = at[self.is_own]
        self.own, self.other = torch.zeros(len(rows)), torch.zeros(len(self.rival))
        self.matchers = 0

    def add(self, net: Matcher) -> None:
        """Add the logits of one more matcher."""
        text_of, others = self.trainer.pairs.text_of, ~self.is_own
        own = self.trainer.ask(net, self.rows, text_of[self.rows])
        self.own += own
        self.other[self.is_own] += own[self.at]
        self.other[others] += self.trainer.ask(
            net, self.rival[others], text_of[self.asking[others]]
        )
        self.matchers += 1

    def reliability(self) -> Tensor:
        """Return r of the labels from the mean of the matchers' logits."""
        own, other = self.own / self.matchers, self.other / self.matchers
        best = torch.full_like(own, _NONE).scatter_reduce(0, self.place, other, "amax")
        return own.sigmoid() * (own - best).sigmoid()
