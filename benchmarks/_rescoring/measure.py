"""Time the reference's pass and the engine's over the same labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from baselines.reference_rescoring import rescore

from _rescoring.flops import Counted, Sizes, engine_flops, reference_flops
from _rescoring.peak import peak_memory, synchronise
from clipvg.features.images import load_squares
from clipvg.features.keys import pixels_key
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel
from clipvg.rescoring import Engine, EngineConfig, Optimisations, Plan, Stats
from clipvg.rescoring.engine import full_precision

SHARD = 128  # images after which the engine drops cached expressions, as when scores are stored
WARM_UP = 8  # labels of the reference's warm-up batch; images of the engine's

Models = Mapping[str, GroundingModel]
Save = Callable[[list[dict[str, Any]]], object]  # writes the records so far


@dataclass(frozen=True)
class Timed:
    """One variant's run.

    Attributes:
        scores: (n, N) float32 reliability in label order.
        seconds: duration of the whole pass; includes decoding unless the images were in memory.
        stages: seconds by stage: on a CPU of this pass, on a GPU of a second, synchronised one.
        flops: floating-point operations of the whole pass, by stage.
        peak_mib: peak memory above what was in use before the run.
        counts: images and expressions encoded, expressions found in the cache.
        setup_seconds: duration of making the engine: stacking weights, converting towers.
    """

    scores: np.ndarray
    seconds: float
    stages: dict[str, float]
    flops: dict[str, float]
    peak_mib: float
    counts: dict[str, int] = field(default_factory=dict)
    setup_seconds: float = 0.0

    @property
    def labels_per_s(self) -> float:
        """Labels scored by all measurers, per second."""
        return self.scores.shape[1] / self.seconds

    @property
    def gflops(self) -> float:
        """Achieved GFLOP/s over the whole time."""
        return sum(self.flops.values()) / self.seconds / 1e9


def first_images(labels: LabelTable, count: int) -> LabelTable:
    """All labels on the first ``count`` images, in order."""
    plan = Plan(labels)
    return labels.select(np.sort(plan.chunk(0, min(count, plan.num_images)).rows))


def run_baseline(
    models: Models, labels: LabelTable, *, batch: int, workers: int, memory: Memory | None
) -> Timed:
    """Time the reference's pass, after a small warm-up batch."""
    device = next(iter(models.values())).device
    key = pixels_key(next(iter(models.values())))
    read = (lambda path: memory[path][key]) if memory else None
    first = dict(list(models.items())[:1])
    with full_precision(torch.float32):
        rescore(first, labels.select(np.arange(min(WARM_UP, len(labels)))), read=read)
        with peak_memory(device) as peak:
            done = rescore(
                models, labels, batch=batch, workers=workers, read=read, profile=_is_cpu(device)
            )
        stages = done.stages
        if not _is_cpu(device):
            stages = rescore(models, labels, batch=batch, workers=workers, read=read).stages
    flops = dict.fromkeys(("image", "text", "fuse"), 0.0)
    for model in models.values():
        for stage, count in reference_flops(Sizes.of(model)).items():
            flops[stage] += count * len(labels)
    return Timed(done.scores, done.seconds, stages, flops, peak.mib)


def run_engine(
    models: Models,
    labels: LabelTable,
    *,
    precision: str = "fp32",
    does: Optimisations | None = None,
    memory: Memory | None = None,
    config: EngineConfig | None = None,
) -> Timed:
    """Time the engine's pass, after a warm-up over a few images."""
    does = does or Optimisations()
    config = config or EngineConfig(precision=precision, optimisations=does)
    first = next(iter(models.values()))
    device = first.device
    with from_memory(memory), peak_memory(device) as peak:
        start = time.perf_counter()
        engine = Engine(models, config, profile=False)
        setup = time.perf_counter() - start
        score(engine, first_images(labels, 1 if not does.encode_once else WARM_UP))
        engine.stats = Stats()
        start = time.perf_counter()
        scores = score(engine, labels)
        synchronise(device)
        seconds = time.perf_counter() - start
        stats = engine.stats
        if not _is_cpu(device):
            engine.stats = Stats(waits_for=device)
            score(engine, labels)
            stats, engine.stats = engine.stats, stats
    flops = engine_flops(
        first,
        len(models),
        labels,
        does,
        Counted(stats.images, stats.texts),
        config.images_per_chunk,
    )
    counts = {"images": stats.images, "texts": stats.texts, "text_hits": stats.text_hits}
    return Timed(scores, seconds, stats.seconds, flops, peak.mib, counts, setup)


def score(engine: Engine, labels: LabelTable) -> np.ndarray:
    """Return scores (n, N) in label order, computed shard by shard as when they are stored."""
    plan = Plan(labels)
    scores = np.full((len(engine.names), len(labels)), np.nan, dtype=np.float32)
    for part in engine.stream(plan, plan.shards(SHARD), on_error="raise"):
        scores[:, part.rows] = part.scores
    return scores


Memory = dict[Path, Any]  # file -> result of `load_squares`


def decode_all(models: Models, labels: LabelTable, workers: int) -> tuple[Memory, float]:
    """Decode every image into memory; also return images/s with that many threads."""
    paths = [labels.image_path(name) for name in labels.distinct_images()[0]]
    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        squares = list(pool.map(lambda path: load_squares(path, models.values()), paths))
    rate = len(paths) / (time.perf_counter() - start)
    return dict(zip(paths, squares, strict=True)), rate


def from_memory(memory: Memory | None) -> Any:
    """Give the engine decoded images instead of files."""
    if memory is None:
        return nullcontext()

    def given(path: Path, models: Any) -> Any:
        return memory[path]

    return patch("clipvg.rescoring.engine.load_squares", given)


def _is_cpu(device: torch.device) -> bool:
    return device.type == "cpu"
