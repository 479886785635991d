"""The CLIP that ships with the package knows its scenes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipvg.data.letterbox import load_square
from clipvg.data.preset import get_preset
from clipvg.data.scenes import render_scene, sample_scene
from clipvg.data.scenes.language import caption
from clipvg.model.backbone import Backbone
from clipvg.model.config import GroundingConfig
from clipvg.model.tokenizer import Tokenizer
from clipvg.model.towers import tiny_files


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.create(GroundingConfig(backbone="clipvg-tiny", pretrained="scenes-v1"))


def test_weights_are_small_enough_to_ship() -> None:
    assert tiny_files()[1].stat().st_size <= 16_000_000


def test_captions_find_their_scenes(backbone: Backbone) -> None:
    """Zero-shot retrieval among 64 scenes; chance is 1.6 %."""
    rng = np.random.default_rng(11)
    scenes = [sample_scene(rng) for _ in range(64)]
    texts = [caption(scene, rng, max_objects=2) for scene in scenes]
    preset = get_preset("default", backbone.mean, backbone.std)
    pixels = torch.stack(
        [load_square(render_scene(scene), backbone.image_size, preset).pixels for scene in scenes]
    )
    tokens, _ = Tokenizer(preset, backbone.context_length)(texts)
    with torch.no_grad():
        images = backbone.clip.encode_image(pixels, normalize=True)
        captions = backbone.clip.encode_text(tokens, normalize=True)
    found = (captions @ images.T).argmax(dim=1)
    assert (found == torch.arange(64)).float().mean() > 0.5
