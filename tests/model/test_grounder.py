"""The whole model: what learns, what stays frozen, and that its parts agree."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from clipvg.data.dataset import Batch
from clipvg.errors import InputError
from clipvg.features import image_key
from clipvg.model import GroundingConfig, GroundingModel, create_model, load
from clipvg.model.fusion import Features

Make = Callable[..., GroundingModel]
MakeBatch = Callable[[GroundingModel], Batch]


def step(model: GroundingModel, batch: Batch) -> float:
    """Train one step; return the loss before it."""
    model.train()
    loss = (model(batch) - batch.target).abs().mean()
    loss.backward()
    torch.optim.AdamW(model.trainable_parameters(), lr=1e-3).step()
    return loss.item()


@pytest.mark.parametrize("visual", ["levels", "last"])
def test_training_changes_the_head_and_not_the_towers(
    make_model: Make, make_batch: MakeBatch, visual: str
) -> None:
    model = make_model(visual=visual)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert math.isfinite(step(model, make_batch(model)))
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert changed == learning
    assert not any(name.startswith("backbone") for name in learning)


def test_trained_visual_positions(make_model: Make, make_batch: MakeBatch) -> None:
    model = make_model(train_visual_positions=True)
    before = image_key(model)
    step(model, make_batch(model))
    assert model.backbone.clip.visual.positional_embedding.grad.abs().sum() > 0
    assert image_key(model) != before
    assert (model.frozen_images, model.frozen_text) == (False, True)


def test_learned_prefix(make_model: Make, make_batch: MakeBatch) -> None:
    """It starts as the published one, and learns through the frozen text tower."""
    model, fixed = make_model(prefix="learned"), make_model(prefix="published")
    batch = make_batch(model)
    assert_close(model(batch), fixed(batch))
    step(model, batch)
    assert model.prefix is not None
    assert model.prefix.grad is not None
    assert (model.prefix.grad.abs().sum(dim=1) > 0).all()
    assert (model.frozen_images, model.frozen_text) == (True, False)
    assert all(p.grad is None for p in model.backbone.parameters())


def test_features_and_pixels_give_the_same_boxes(make_model: Make, make_batch: MakeBatch) -> None:
    model = make_model()
    batch = make_batch(model)
    images, ignored = model.encode_images(batch.images), model.patch_mask(batch.pixel_mask)
    text = model.encode_text(batch.tokens)
    index = batch.image_index
    fused = model.fuse(Features(images[index], ignored[index], text, batch.text_mask))
    assert_close(fused, model(batch))
    shared = model.fuse(Features(images, ignored, text, batch.text_mask, index))
    assert_close(shared, model(batch))


def test_trimming_keeps_positions(make_model: Make, make_batch: MakeBatch) -> None:
    """A row gives the same box whatever else is in the batch."""
    model = make_model()
    batch = make_batch(model)
    together = model(batch)
    images, ignored = model.encode_images(batch.images), model.patch_mask(batch.pixel_mask)
    for i, image in enumerate(batch.image_index.tolist()):
        given = Features(
            images[image : image + 1],
            ignored[image : image + 1],
            model.encode_text(batch.tokens[i : i + 1]),
            batch.text_mask[i : i + 1],
        )
        assert_close(model.fuse(given), together[i : i + 1])


def test_boxes_are_float32_under_autocast(make_model: Make, make_batch: MakeBatch) -> None:
    model = make_model()
    batch = make_batch(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        boxes = model(batch)
    assert boxes.dtype == torch.float32
    assert_close(boxes, model(batch), rtol=0.0, atol=0.05)


def test_an_empty_batch_gives_no_boxes(make_model: Make, make_batch: MakeBatch) -> None:
    model = make_model()
    batch = make_batch(model)
    batch.tokens, batch.text_mask = batch.tokens[:0], batch.text_mask[:0]
    batch.image_index = batch.image_index[:0]
    assert model(batch).shape == (0, 4)


def test_initial_tables(make_model: Make) -> None:
    model = make_model(width=64)
    assert model.position.weight.shape == (2 + 77 + 16, 64)
    assert model.position.weight.std().item() == pytest.approx(1.0, rel=0.05)
    small = make_model(width=64, position_std=0.02)
    assert small.position.weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"widht": 64}, "did you mean 'width'"),
        ({"width": 65}, "multiple of the heads"),
        ({"layers": 0}, "at least 1"),
        ({"dropout": 1.0}, r"expected below 1"),
        ({"visual": "first"}, "'levels', 'last'"),
        ({"prefix": "fixed"}, "'published', 'learned'"),
        ({"prompt": "the thing"}, "where the expression goes"),
        ({"preset": "publisht"}, "published"),
    ],
)
def test_wrong_options_are_explained(options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match) as error:
        create_model("clipvg-tiny", None, **options)
    assert "\n" not in str(error.value)


def test_config_survives_a_dictionary() -> None:
    config = GroundingConfig(levels=[1, 2], prefix=[1, 2], trained_on=["template"])
    assert GroundingConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("name", "width", "published", "never_used"),
    [
        ("ViT-B-16", 512, 21_832_964, 151_296 + 262_656),
        ("ViT-L-14", 768, 38_920_452, 263_168 + 393_984),
    ],
)
def test_parameters_are_counted_as_published(
    name: str, width: int, published: int, never_used: int
) -> None:
    """The reference also trains its visual positions and a layer that it never uses."""
    with torch.device("meta"):
        model = create_model(name, None, width=width)
    counts = model.num_parameters()
    assert counts["trainable"] == published - never_used
    assert counts["share"] == counts["trainable"] / counts["total"]
    if name == "ViT-B-16":
        assert counts["clip"] == 149_620_737
        assert counts["total"] == 171_302_405 - 262_656
        assert counts["share"] == pytest.approx(0.1252, abs=1e-4)


@pytest.mark.slow
def test_full_size_model_needs_no_download(make_batch: MakeBatch, tmp_path: Path) -> None:
    """ViT-B-16 with random weights builds, trains a step, predicts, saves and loads."""
    torch.manual_seed(0)
    model = create_model("ViT-B-16", None)
    assert model.backbone.levels == (0, 3, 7, 11)
    assert math.isfinite(step(model, make_batch(model)))
    image = Image.new("RGB", (300, 200), "red")
    boxes = model.predict(image, ["a dog", "a cup"])
    model.save_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(
        load(tmp_path / "model").predict(image, ["a dog", "a cup"]), boxes
    )
    shutil.rmtree(tmp_path / "model")  # 684 MB that pytest would keep


def test_width_follows_the_text_features_unless_given() -> None:
    """As published: 512 for ViT-B, 768 for ViT-L/14, which are the towers' joint widths."""
    free = create_model("clipvg-tiny", None, layers=1, feedforward=8)
    assert free.config.width == free.backbone.embed_dim == free.position.embedding_dim
    assert create_model("clipvg-tiny", None, width=32, layers=1, feedforward=8).config.width == 32


def test_gradients_repeat_bit_for_bit_on_several_threads() -> None:
    model = create_model("clipvg-tiny", None, width=64, layers=1, feedforward=8, dropout=0.0)
    torch.manual_seed(0)
    images = torch.randn(16, 1 + model.backbone.grid**2, model.backbone.feature_width)
    ignored = torch.zeros(16, model.backbone.grid**2, dtype=torch.bool)
    text, mask = torch.randn(128, 6, model.backbone.embed_dim), torch.ones(128, 6).bool()
    index, threads = torch.arange(128) % 16, torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gradients = []
        for _ in range(5):
            model.zero_grad()
            model.fuse(Features(images, ignored, text, mask, index)).sum().backward()
            gradients.append(model.visual_projection.weight.grad.clone())
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradients[0], other) for other in gradients[1:])
