"""Predicted boxes in pixels, on pictures of all kinds."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipvg.boxes import convert
from clipvg.errors import InputError
from clipvg.model import GroundingModel

Make = Callable[..., GroundingModel]
EXPRESSIONS = ["the left dog", "a red cup"]


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: shown 40 wide and 60 high
    picture(60, 40).save(path, exif=exif)


def sixteen_bit(path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (40, 60), dtype=np.uint16)
    Image.fromarray(values).save(path)


PICTURES: dict[str, tuple[Callable[[Path], object], tuple[int, int]]] = {
    "photo.jpg": (lambda p: picture(60, 40).save(p), (60, 40)),
    "alpha.png": (lambda p: picture(60, 40, "RGBA").save(p), (60, 40)),
    "palette.png": (lambda p: picture(60, 40, "P").save(p), (60, 40)),
    "grey.jpg": (lambda p: picture(60, 40, "L").save(p), (60, 40)),
    "cmyk.jpg": (lambda p: picture(60, 40, "CMYK").save(p), (60, 40)),
    "deep.png": (sixteen_bit, (60, 40)),
    "turned.jpg": (rotated, (40, 60)),
    "line.png": (lambda p: picture(60, 1).save(p), (60, 1)),
    "column.png": (lambda p: picture(1, 60).save(p), (1, 60)),
    "pixel.png": (lambda p: picture(1, 1).save(p), (1, 1)),
}


@pytest.mark.parametrize("name", list(PICTURES))
def test_boxes_lie_in_the_picture(make_model: Make, tmp_path: Path, name: str) -> None:
    save, (width, height) = PICTURES[name]
    save(tmp_path / name)
    boxes = make_model().predict(tmp_path / name, EXPRESSIONS)
    assert boxes.shape == (2, 4)
    assert boxes.dtype == np.float32
    assert np.isfinite(boxes).all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    assert (boxes[:, 2:] <= [width, height]).all()


def test_published_preset_does_not_turn_pictures(make_model: Make, tmp_path: Path) -> None:
    """The model always predicts the lower right quarter, which shows how the picture is turned."""
    rotated(tmp_path / "turned.jpg")
    for preset, (width, height) in {"default": (40, 60), "published": (60, 40)}.items():
        model = make_model(preset=preset)
        last = model.head.layers[2]
        last.weight.data.zero_()
        last.bias.data = torch.logit(torch.tensor([0.75, 0.75, 0.5, 0.5]))
        box = model.predict(tmp_path / "turned.jpg", "x")[0]
        np.testing.assert_allclose(box, [width / 2, height / 2, width, height], atol=1.0)


def test_padding_is_ignored(make_model: Make) -> None:
    """Boxes of a wide picture do not depend on its padded patches."""
    model = make_model()
    image = picture(64, 32)
    boxes = model.predict(image, EXPRESSIONS)
    table = model.position.weight.data
    table[2 + 77 : 2 + 77 + 4] += 10.0  # positions of the first row, which is padding
    np.testing.assert_allclose(model.predict(image, EXPRESSIONS), boxes, atol=1e-4)
    table[2 + 77 + 4 : 2 + 77 + 8] += 10.0  # the second row is part of the picture
    assert np.abs(model.predict(image, EXPRESSIONS) - boxes).max() > 1e-3


@pytest.mark.parametrize("box_format", ["xyxy", "xywh", "cxcywh"])
def test_formats(make_model: Make, box_format: str) -> None:
    model, image = make_model(), picture(60, 40)
    boxes = model.predict(image, EXPRESSIONS, box_format=box_format)
    corners = model.predict(image, EXPRESSIONS)
    np.testing.assert_allclose(boxes, convert(corners, "xyxy", box_format), atol=1e-4)


def test_batches_and_single_expressions_agree(make_model: Make) -> None:
    model, image = make_model(), picture(60, 40)
    expressions = ["dog", "a much longer expression of the cat", "the cup", "x", "y"]
    together = model.predict(image, expressions)
    np.testing.assert_allclose(model.predict(image, expressions, batch_size=2), together, atol=1e-3)
    alone = np.concatenate([model.predict(image, text) for text in expressions])
    np.testing.assert_allclose(alone, together, atol=1e-3)


def test_no_expressions_give_no_boxes(make_model: Make) -> None:
    assert make_model().predict(picture(6, 4), []).shape == (0, 4)


def test_prediction_leaves_the_mode_and_no_graph(make_model: Make) -> None:
    model = make_model().train()
    first = model.predict(picture(60, 40), "dog")
    assert model.training
    np.testing.assert_array_equal(model.predict(picture(60, 40), "dog"), first)
    assert all(p.grad is None for p in model.parameters())


def test_what_is_no_picture_gets_one_line(make_model: Make, tmp_path: Path) -> None:
    model = make_model()
    whole = io.BytesIO()
    picture(60, 40).save(whole, "JPEG")
    cases = {
        "empty.jpg": b"",
        "cut.jpg": whole.getvalue()[:400],
        "text.png": b"hello",
        "noise.jpg": bytes(range(256)) * 8,
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
    for name in [*cases, "missing.jpg"]:
        with pytest.raises(InputError, match=name) as error:
            model.predict(tmp_path / name, "dog")
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="'xyyx' is unknown: did you mean 'xyxy'"):
        model.predict(picture(6, 4), "dog", box_format="xyyx")
