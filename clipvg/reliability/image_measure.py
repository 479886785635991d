"""Run several measures of the same labels, with one pass over the images for all that use them.

However many measures there are, each image is decoded once and encoded once per image tower, each
expression is encoded once per text tower, and a model's outputs for a batch are computed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from clipvg.features.images import load_images
from clipvg.features.keys import image_key, text_key
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel
from clipvg.model.grounder import evaluating
from clipvg.model.tokenizer import Tokenizer
from clipvg.ops.linear import fast_cpu
from clipvg.reliability.batch import Batch, Chunk, Memo
from clipvg.reliability.matrix import ScoreMatrix
from clipvg.reliability.measurer import Context, Measurer, Scores, checked, join_reasons
from clipvg.reliability.measurer import measure as run_measurer
from clipvg.rescoring.config import EngineConfig
from clipvg.rescoring.encode import decode_chunks
from clipvg.rescoring.plan import Plan
from clipvg.runtime import distributed
from clipvg.runtime.progress import progress_bar

_ROUNDING = 1e-4  # tolerated rounding of float32 sums at the ends of [0, 1]


class ImageMeasure:
    """Base class of measures that use images; subclasses define `observe` and `score`."""

    name: str  # of the score column
    only_towers: ClassVar[bool] = False  # whether scores depend on labels and towers, not on heads

    @property
    def asks(self) -> tuple[GroundingModel, ...]:
        """The grounding models that it runs, each on its own device."""
        raise NotImplementedError

    @property
    def tokenizers(self) -> tuple[Tokenizer, ...]:
        """The tokenizers of its models."""
        return tuple(model.tokenizer for model in self.asks)

    @property
    def requires(self) -> frozenset[str]:
        """What it needs besides the labels."""
        return frozenset({"images"})

    @property
    def shares_pass(self) -> bool:
        """Whether it uses the labels as they are, so that other measures can share its pass."""
        return type(self).measure is ImageMeasure.measure

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Sources the models were trained on."""
        sources = (source for model in self.asks for source in model.config.trained_on)
        return tuple(dict.fromkeys(sources))

    @property
    def towers_key(self) -> str | None:
        """Equal for models that give equal scores, whatever they learned; None if heads matter."""
        if not self.only_towers or not all(model.frozen_text for model in self.asks):
            return None
        return " ".join(f"{image_key(model)} {text_key(model)}" for model in self.asks)

    def observe(self, batch: Batch) -> Tensor | np.ndarray:
        """Return the observations of each label of a batch, (B,) or (B, K) numbers."""
        raise NotImplementedError

    def score(self, observed: np.ndarray, labels: LabelTable, context: Context) -> Scores:
        """Score all labels by their observations, (N, K) float32.

        Rows whose image cannot be read are NaN in `observed`; their reasons are known already.
        """
        return Scores(observed[:, 0])

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        """Score every label in a pass of its own."""
        return measure_images([self], labels, context)[0]


def measure_together(
    measurers: Mapping[str, Measurer], labels: LabelTable, context: Context
) -> dict[str, Scores]:
    """Run measures: first those that use images, in one pass, then the others in their order.

    A measure that requires "scores" sees those of the context and of all measures run before it, so
    fused measures may name measures of the same call. Results are in the order given.
    """
    looking = {
        name: m
        for name, m in measurers.items()
        if isinstance(m, ImageMeasure) and m.shares_pass and m.requires <= {"images"}
    }
    found: dict[str, Scores] = {}
    if looking:
        scores = measure_images(list(looking.values()), labels, context)
        found = {
            name: checked(measurer, one, len(labels))
            for (name, measurer), one in zip(looking.items(), scores, strict=True)
        }
    for name, measurer in measurers.items():
        if name not in found:
            found[name] = run_measurer(measurer, labels, _with_scores(context, labels, found))
    return {name: found[name] for name in measurers}


def _with_scores(context: Context, labels: LabelTable, found: Mapping[str, Scores]) -> Context:
    """Return the context with the scores found so far added to its own."""
    if not found:
        return context
    scores = ScoreMatrix.of(found, labels.encoded_sources())
    if context.scores is not None:
        others = [name for name in context.scores.names if name not in found]
        scores = ScoreMatrix.concat([context.scores.select(others), scores])
    return replace(context, scores=scores)


def measure_images(
    measures: Sequence[ImageMeasure], labels: LabelTable, context: Context
) -> list[Scores]:
    """Return the scores of each of n measures, from one pass over the images.

    Under `torchrun` the processes share out the images, and each gets all scores; all must call it.
    """
    observed, unreadable = observe(measures, labels, context)
    found = []
    for measure, values in zip(measures, observed, strict=True):
        scores = measure.score(values, labels, context)
        reasons = join_reasons([unreadable, scores.reasons])
        found.append(Scores(_without_rounding(scores.values), reasons))
    return found


def observe(
    measures: Sequence[ImageMeasure], labels: LabelTable, context: Context
) -> tuple[list[np.ndarray], dict[int, str]]:
    """Return each measure's observations of all labels, and by row why an image cannot be read.

    Observations are (N, K) float32 for each measure, NaN for unreadable images.
    """
    models = [model for measure in measures for model in measure.asks]
    world = distributed.join(next((model.device for model in models), None))
    rows = np.flatnonzero(labels.distinct_images()[1] % world.size == world.rank)
    context = replace(context, progress=context.progress and world.is_main)
    own = labels if world.size == 1 else labels.select(rows)
    with torch.no_grad(), fast_cpu(), evaluating(*models):
        found = distributed.together(lambda: (rows, *_look(measures, own, context, rows)), world)
    reasons = join_reasons(
        {int(rows[row]): why for row, why in unreadable.items()} for rows, _, unreadable in found
    )
    observed = [
        _joined([(rows, seen[i]) for rows, seen, _ in found], len(labels))
        for i in range(len(measures))
    ]
    return observed, reasons


def _without_rounding(scores: np.ndarray) -> np.ndarray:
    scores = scores.astype(np.float32)
    near = (scores > -_ROUNDING) & (scores < 1 + _ROUNDING)  # values further out are an error
    return np.where(near, np.clip(scores, 0, 1), scores)


def _joined(parts: list[tuple[np.ndarray, np.ndarray]], num_labels: int) -> np.ndarray:
    width = max(seen.shape[1] for _, seen in parts)
    whole = np.full((num_labels, width), np.nan, dtype=np.float32)
    for rows, seen in parts:
        whole[rows, : seen.shape[1]] = seen
    return whole


def _look(
    measures: Sequence[ImageMeasure], labels: LabelTable, context: Context, row_names: np.ndarray
) -> tuple[list[np.ndarray], dict[int, str]]:
    """Run `observe` on a part of a table, whose rows have the numbers `row_names` in the whole."""
    settings, size, plan = context.engine or EngineConfig(), context.batch_size, Plan(labels)
    rules = {model.preset.exif for measure in measures for model in measure.asks}
    load = partial(load_images, exif_rules=sorted(rules) or [True])
    chunks = plan.chunks(settings.images_per_chunk)
    bar = progress_bar(len(labels), desc="look", unit="label", show=context.progress)
    memo = Memo()
    seen: dict[int, np.ndarray] = {}
    unreadable: dict[int, str] = {}
    with bar, closing(decode_chunks(plan, chunks, load, workers=settings.workers)) as decoded:
        for ready in decoded:
            unreadable.update(ready.unreadable(context.on_error))
            usable, image = ready.usable()
            rows, images = ready.chunk.rows[usable], ready.readable()
            chunk = Chunk(labels, rows, image, images, memo, row_names)
            for start in range(0, len(rows), size):
                batch = Batch(chunk, slice(start, start + size))
                for i, measure in enumerate(measures):
                    found = _numbers(measure.observe(batch))
                    if i not in seen:
                        seen[i] = np.full((len(labels), found.shape[1]), np.nan, np.float32)
                    seen[i][batch.rows] = found
            bar.update(len(ready.chunk.rows))
    nothing = np.full((len(labels), 1), np.nan, np.float32)
    return [seen.get(i, nothing) for i in range(len(measures))], unreadable


def _numbers(found: Tensor | np.ndarray) -> np.ndarray:
    """Return a measure's observations of a batch as an array (B, K)."""
    values = found.float().cpu().numpy() if isinstance(found, Tensor) else found
    return values.reshape(len(values), -1)
