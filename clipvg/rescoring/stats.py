"""What a rescoring pass has done and how long each stage took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

STAGES = ("decode", "image", "text", "project", "fuse", "score")


@dataclass
class Stats:
    """Counts and times of an engine's passes.

    Attributes:
        labels: number of labels passed, scored or not.
        images: number of images encoded, counted once for each image tower.
        texts: number of expressions encoded.
        text_hits: number of expressions found in the cache.
        seconds: by stage of `STAGES`; "decode" is the time spent waiting for images. A GPU works
            behind the clock unless the engine was made with ``profile=True``.
        waits_for: device to wait for at the end of a stage.
    """

    labels: int = 0
    images: int = 0
    texts: int = 0
    text_hits: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    waits_for: torch.device | None = None

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
