"""Fixtures: tiny towers, grounding models and batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from clipvg.data.dataset import Batch
from clipvg.model import Backbone, GroundingConfig, GroundingModel, ModelOptions
from clipvg.model.towers import build_towers

Make = Callable[..., GroundingModel]
MakeBackbone = Callable[..., Backbone]


def small_clip(**vision: Any) -> dict[str, Any]:
    """Return an open_clip configuration of small towers: four image blocks, a real vocabulary."""
    return {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 32,
            "patch_size": 8,
            "width": 64,
            "layers": 4,
            "mlp_ratio": 4.0,
            **vision,
        },
        "text_cfg": {"width": 64, "heads": 1, "layers": 2},
    }


@pytest.fixture
def clip_config() -> dict[str, Any]:
    """Configuration of the small towers, which a test may change."""
    return small_clip()


@pytest.fixture
def make_backbone() -> MakeBackbone:
    """A factory of small random towers; keywords are fields of ModelOptions."""

    def make(seed: int = 0, **options: Any) -> Backbone:
        torch.manual_seed(seed)
        return Backbone(build_towers(small_clip()), ModelOptions(**options))

    return make


@pytest.fixture
def make_model() -> Make:
    """A factory of small random grounding models; keywords are fields of GroundingConfig."""

    def make(
        *, clip: dict[str, Any] | None = None, seed: int = 0, **options: Any
    ) -> GroundingModel:
        torch.manual_seed(seed)
        small = {"width": 32, "layers": 2, "heads": 4, "feedforward": 48, "pretrained": None}
        config = GroundingConfig(backbone="small", **{**small, **options})
        return GroundingModel(config, Backbone(build_towers(clip or small_clip()), config)).eval()

    return make


@pytest.fixture
def make_batch() -> Callable[[GroundingModel], Batch]:
    """A factory of batches: three expressions on two random images, one of them with padding."""

    def make(model: GroundingModel) -> Batch:
        generator = torch.Generator().manual_seed(1)
        size = model.backbone.image_size
        tokens, text_mask = model.tokenize(["the left dog", "a red cup on the table", "tree"])
        pixel_mask = torch.zeros(2, size, size, dtype=torch.bool)
        pixel_mask[1, size // 2 :] = True
        return Batch(
            images=torch.randn(2, 3, size, size, generator=generator),
            pixel_mask=pixel_mask,
            image_index=torch.tensor([0, 1, 1]),
            tokens=tokens,
            text_mask=text_mask,
            target=torch.rand(3, 4, generator=generator),
            row=torch.arange(3),
        )

    return make


@pytest.fixture
def mini_file(data_dir: Path) -> Path:
    """The reference's small checkpoint."""
    return data_dir / "official_mini" / "best_checkpoint.pth"
