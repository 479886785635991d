"""Options of a rescoring pass (batch, precision, optimisations), and its statistics."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch

from clipvg.runtime import gpu
from clipvg.runtime.fields import check_fields
from clipvg.similarity import IOU, find_similarity

Precision = Literal["auto", "fp32", "bf16", "fp16"]

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
# Parts of an answer: the box, normalised to the square; its scores; the image's size in pixels.
ANSWERS = (".cx", ".cy", ".w", ".h", ".score", ".present", ".width", ".height")
STAGES = ("decode", "image", "text", "project", "fuse", "score")


@dataclass(frozen=True)
class Optimisations:
    """What a pass leaves out or shares; each is exact and can be switched off by itself.

    Attributes:
        encode_once: the image tower runs once per image for all measurers that share it, not once
            per label and measurer.
        trim_text: tokens past the last real one are not computed: attention is causal there.
        pack: masked tokens (padding of text and of the letterbox) are not in the sequences.
        fast_cpu: a CPU multiplies float32 matrices of towers and fusion encoders with oneDNN, see
            `clipvg.ops.linear`.
        stack_heads: on a GPU, measurers of one architecture run in one pass with stacked weights,
            which is not measured yet; a CPU is faster with one after the other.
    """

    encode_once: bool = True
    trim_text: bool = True
    pack: bool = True
    fast_cpu: bool = True
    stack_heads: bool = True

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all optimisations."""
        return tuple(field.name for field in dataclasses.fields(cls))

    @classmethod
    def none(cls) -> Optimisations:
        """Return all optimisations switched off."""
        return cls(**dict.fromkeys(cls.names(), False))

    def without(self, name: str) -> Optimisations:
        """Return these optimisations with one switched off."""
        return dataclasses.replace(self, **{name: False})


@dataclass(frozen=True)
class EngineConfig:
    """How a rescoring pass runs.

    Attributes:
        batch_size: labels fused at a time; None chooses by device and number of tokens.
        precision: "fp32" (exact), "bf16", "fp16", or "auto": fp32 on a CPU, on a GPU bf16 (fp16
            where it has no bf16).
        workers: threads that decode images; None is one per core, at most 16.
        images_per_chunk: distinct images decoded and held at a time.
        text_cache_mib: size of the least-recently-used cache of text features, per text tower.
        optimisations: what is left out or shared.
        similarity: name of the similarity that is the reliability, see `clipvg.similarity`; "iou"
            as published.
        answers: give `ANSWERS` instead of reliability.
    """

    batch_size: Annotated[int | None, (1, 10**6)] = None
    precision: Precision = "auto"
    workers: Annotated[int | None, (1, 1024)] = None
    images_per_chunk: Annotated[int, (1, 10**6)] = 32
    text_cache_mib: Annotated[int, (0, 2**24)] = 256
    optimisations: Optimisations = field(default_factory=Optimisations)
    similarity: str = IOU
    answers: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the values of each label: its reliability (""), or the parts of an answer."""
        return ANSWERS if self.answers else ("",)

    def __post_init__(self) -> None:
        check_fields(self, "options of the pass")
        find_similarity(self.similarity)

    def dtype(self, device: torch.device) -> torch.dtype:
        """Return the dtype of towers and fusion on a device."""
        return DTYPES[self.resolved_precision(device)]

    def resolved_precision(self, device: torch.device) -> Precision:
        """Return "fp32", "bf16" or "fp16": what "auto" means on a device."""
        if self.precision != "auto":
            return self.precision
        if device.type != "cuda":
            return "fp32"
        return "bf16" if gpu.has_bf16() else "fp16"


@dataclass
class Stats:
    """Counts and times of an engine's passes."""

    labels: int = 0  # passed, scored or not
    images: int = 0  # encoded, counted once for each image tower
    texts: int = 0  # expressions encoded
    text_hits: int = 0  # expressions found in the cache
    # By stage; "decode" is the time spent waiting for images. A GPU works asynchronously, so its
    # times are true only if the engine was made with ``profile=True``.
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    waits_for: torch.device | None = None  # device to synchronise with at the end of a stage

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            if self.waits_for is not None and self.waits_for.type == "cuda":
                torch.cuda.synchronize(self.waits_for)
            self.seconds[stage] += time.perf_counter() - start
