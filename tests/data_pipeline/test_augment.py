import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from clipvg.data import Preset, TrainTransform
from clipvg.data.augment import names_direction

PLAIN = Preset("plain", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def marked(width=160, height=120, box=(60, 40, 90, 80)):
    """Return a dark picture with a white box, and the box."""
    pixels = np.full((height, width, 3), 40, dtype=np.uint8)
    x1, y1, x2, y2 = box
    pixels[y1:y2, x1:x2] = 250
    return Image.fromarray(pixels), np.float32(box)


def one(transform, image, box, expression, *, seed):
    """Return the pixels, mask and box of a single label."""
    pixels, mask, boxes = transform(image, [box], [expression], seed=seed)
    return pixels, mask, boxes[0]


def white_box(pixels):
    """Return the normalised cxcywh box around the bright pixels."""
    rows, columns = torch.nonzero(pixels.mean(0) > 0.45).T
    y1, y2, x1, x2 = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    size = pixels.shape[-1]
    return torch.tensor([x1 + x2, y1 + y2, 2 * (x2 - x1), 2 * (y2 - y1)]) / 2 / size


@pytest.mark.parametrize(
    ("expression", "word", "substring"),
    [
        ("left dog", True, True),
        ("dog on the Left.", True, True),
        ("the laptop", False, True),
        ("stop sign", False, True),
        ("bottom-most cup", True, True),
        ("red dog", False, False),
        ("brightest", False, True),
        ("", False, False),
    ],
)
def test_direction_words(expression, word, substring):
    assert names_direction(expression) is word
    assert names_direction(expression, "substring") is substring


def test_box_travels_with_the_picture():
    """Over many draws the returned box is where the object is, to a pixel."""
    transform = TrainTransform(96, PLAIN, jitter=False)
    image, box = marked()
    for seed in range(60):
        pixels, mask, target = one(transform, image, box, "dog", seed=seed)
        assert pixels.shape == (3, 96, 96)
        assert pixels.dtype == target.dtype == torch.float32
        assert mask.dtype == torch.bool
        assert (pixels[:, mask] == 0).all()
        if not mask.all() and target[2:].min() * 96 >= 4:
            assert (white_box(pixels) - target).abs().max() < 1.6 / 96


def test_scales_are_sevenths_of_the_size():
    assert TrainTransform(224, PLAIN).scales == (224, 192, 160, 128, 96, 64, 32)
    assert TrainTransform(96, PLAIN).scales == (96, 82, 69, 55, 41, 27, 14)
    assert TrainTransform(224, PLAIN, scale=False).scales == (224,)
    transform = TrainTransform(96, PLAIN, crop=False)
    image, box = marked()
    seen = set()
    for seed in range(200):
        _, mask, _ = one(transform, image, box, "dog", seed=seed)
        rows = (~mask).any(1).sum().item()
        seen.add(((~mask).any(0).sum().item(), rows))
    assert {width for width, _ in seen} == set(transform.scales)
    assert all(abs(height - width * 0.75) <= 0.5 for width, height in seen)


def test_no_crop_for_directions_and_half_crops_otherwise():
    transform = TrainTransform(96, PLAIN, scale=False, translate=False, jitter=False)
    image, box = marked(200, 200, (80, 80, 120, 120))
    plain = one(transform, image, box, "left dog", seed=0)[2]
    uncropped = {"left dog": 0, "dog": 0, "laptop": 0}
    for expression in uncropped:
        for seed in range(200):
            target = one(transform, image, box, expression, seed=seed)[2]
            uncropped[expression] += torch.equal(target, plain)
    assert uncropped["left dog"] == 200
    assert 70 < uncropped["dog"] < 135
    assert uncropped["laptop"] < 135
    rule = dataclasses.replace(PLAIN, direction="substring")
    faithful = TrainTransform(96, rule, scale=False, translate=False, jitter=False)
    assert torch.equal(one(faithful, image, box, "laptop", seed=3)[2], plain)


def test_crops_keep_the_centre_and_an_area():
    transform = TrainTransform(96, PLAIN, scale=False, translate=False, jitter=False)
    boxes = [(0, 0, 3, 3), (190, 0, 200, 200), (0, 0, 200, 200), (99, 99, 100, 100)]
    for corner in boxes:
        image, box = marked(200, 200, corner)
        for seed in range(60):
            target = one(transform, image, box, "dog", seed=seed)[2]
            x, y, w, h = target.tolist()
            assert w > 0
            assert h > 0
            assert x - w / 2 >= -1e-6
            assert y + h / 2 <= 1 + 1e-6


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (500, 1), (7, 1000)])
def test_odd_pictures(size):
    transform = TrainTransform(32, PLAIN, blur=True)
    image = Image.new("RGB", size, "red")
    box = np.float32([0, 0, *size])
    for seed in range(30):
        pixels, mask, target = one(transform, image, box, "dog", seed=seed)
        assert pixels.shape == (3, 32, 32)
        assert not mask.all()
        assert torch.isfinite(pixels).all()
        assert target[2:].min() > 0


def test_empty_and_outside_boxes_stay_finite():
    image, _ = marked()
    transform = TrainTransform(64, PLAIN)
    for box in [(10, 10, 10, 10), (-50, -50, -20, -20), (100, 100, 300, 300)]:
        for seed in range(20):
            assert torch.isfinite(one(transform, image, np.float32(box), "dog", seed=seed)[2]).all()


def test_never_a_flip():
    """The bright half stays on its side."""
    pixels = np.zeros((80, 80, 3), dtype=np.uint8)
    pixels[:, :40] = 255
    image = Image.fromarray(pixels)
    transform = TrainTransform(64, PLAIN)
    for seed in range(60):
        out, mask, _ = one(transform, image, np.float32([0, 0, 40, 80]), "dog", seed=seed)
        columns = torch.nonzero((~mask).any(0)).flatten()
        rows = torch.nonzero((~mask).any(1)).flatten()
        picture = out[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean((0, 1))
        assert picture[0] >= picture[-1]


def test_the_seed_decides_everything():
    image, box = marked()
    transform = TrainTransform(64, PLAIN, blur=True)
    first = one(transform, image, box, "dog", seed=5)
    torch.manual_seed(123)
    torch.rand(7)
    again = one(transform, image, box, "dog", seed=5)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    other = one(transform, image, box, "dog", seed=6)
    assert not torch.equal(first[0], other[0])


def test_jitter_changes_colour_four_times_of_five():
    options = {"crop": False, "scale": False, "translate": False}
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    plain = TrainTransform(64, PLAIN, jitter=False, **options)(image, [0, 0, 9, 9], "a", seed=0)
    jitter = TrainTransform(64, PLAIN, **options)
    same = sum(
        torch.equal(jitter(image, [0, 0, 9, 9], "a", seed=seed)[0], plain[0]) for seed in range(200)
    )
    assert 20 < same < 65


def test_one_label_is_transformed_as_ever_and_several_alike():
    transform = TrainTransform(96, PLAIN)
    image, box = marked()
    for seed in range(20):
        pixels, mask, target = one(transform, image, box, "dog", seed=seed)
        shared = transform(image, [box, box], ["dog", "cat"], seed=seed)
        assert torch.equal(pixels, shared[0])
        assert torch.equal(mask, shared[1])
        assert torch.equal(target, shared[2][0])
        assert torch.equal(target, shared[2][1])


def test_a_direction_word_keeps_the_group_from_being_cropped():
    plain = {"scale": False, "translate": False, "jitter": False}
    transform = TrainTransform(96, PLAIN, **plain)
    image, box = marked(200, 200, (80, 80, 120, 120))
    full = TrainTransform(96, PLAIN, crop=False, **plain)(image, box, "dog", seed=0)[0]

    def cropped(expressions):
        pixels = (transform(image, [box] * 2, expressions, seed=s)[0] for s in range(60))
        return sum(not torch.equal(p, full) for p in pixels)

    assert cropped(["dog", "left dog"]) == 0
    assert cropped(["dog", "cat"]) > 10


def test_a_shared_crop_keeps_every_box():
    transform = TrainTransform(96, PLAIN, scale=False, translate=False, jitter=False)
    corners = [(0, 0, 60, 60), (140, 140, 200, 200), (90, 10, 120, 30)]
    image, _ = marked(200, 200, corners[0])
    whole = transform(image, corners, ["left"] * 3, seed=0)[2]
    moved = 0
    for seed in range(100):
        boxes = transform(image, corners, ["a", "b", "c"], seed=seed)[2]
        assert (boxes[:, 2:] > 0).all()
        assert (boxes[:, :2] - boxes[:, 2:] / 2 >= -1e-6).all()
        assert (boxes[:, :2] + boxes[:, 2:] / 2 <= 1 + 1e-6).all()
        moved += not torch.equal(boxes, whole)
    assert moved > 5
