"""Scores of grounding models: shards of images, shared out among processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability.engine import Engine, Plan, Shard
from clipvg.reliability.measurer import Context
from clipvg.training import distributed
from clipvg.training.progress import progress_bar

if TYPE_CHECKING:
    from clipvg.model import GroundingModel

IMAGES_PER_SHARD = 128


def score_models(
    labels: LabelTable, models: Mapping[str, GroundingModel], context: Context
) -> np.ndarray:
    """Score all labels with all models.

    Under `torchrun` the shards are shared out and every process gets all scores; all must call.

    Args:
        labels: N labels; their ``truth`` is never read.
        models: n models by name, on one device.
        context: how the engine runs, what to do about unreadable images, progress; ``reasons`` is
            filled.

    Returns:
        (n, N) float32 IoU in label order, NaN where the image cannot be read.

    Raises:
        InputError: an image cannot be read and ``context.on_error`` is "raise"; a prediction is
            not finite (names the measurer and the rows).
    """
    engine = Engine(models, context.engine)
    world = distributed.join(engine.device)
    mine = plan_shards(labels)[world.rank :: world.size]
    scores = np.full((len(models), len(labels)), np.nan, dtype=np.float32)
    reasons: dict[int, str] = {}
    error = None
    show = context.progress and world.is_main
    try:
        total = len(labels) // world.size
        with progress_bar(total, desc="score", unit="label", show=show) as bar:
            parts = engine.stream(labels, mine, on_error=context.on_error, advance=bar.update)
            for part in parts:
                scores[:, part.rows] = part.scores
                reasons.update(part.reasons)
    except InputError as failure:
        if world.size == 1:
            raise
        error = str(failure)  # the others wait for the exchange
    for failed, found in distributed.gather_objects((error, reasons), world):
        if failed is not None:
            raise InputError(failed)
        context.reasons.update(found)
    return _exchange(scores, world)


def plan_shards(labels: LabelTable, images: int = IMAGES_PER_SHARD) -> list[Shard]:
    """Cut the distinct images of labels into shards of ``images``."""
    count = Plan(labels).num_images
    return [(first, min(first + images, count)) for first in range(0, count, images)]


def _exchange(scores: np.ndarray, world: distributed.World) -> np.ndarray:
    """Fill in the scores of the other processes' shards: NaN is what nobody scored."""
    if world.size > 1:
        best = torch.from_numpy(np.nan_to_num(scores, nan=-1.0))
        scores = distributed.all_reduce(best, world, "max").numpy()
        scores[scores < 0] = np.nan
    return scores
