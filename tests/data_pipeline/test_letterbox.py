import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from safetensors.torch import load_file

from clipvg.data import (
    Letterbox,
    Preset,
    get_preset,
    load_square,
    patch_mask,
    square_boxes,
)
from clipvg.errors import InputError
from clipvg.labels import read_labels

PATCH = 16


@pytest.fixture(scope="module")
def cases(data_dir):
    return json.loads((data_dir / "official_mini" / "geometry.json").read_text())


def test_every_stored_case(cases):
    whole = [case for case in cases if "error" not in case]
    assert len(whole) > 80
    for case in whole:
        box = Letterbox(case["w"], case["h"], case["size"])
        assert list(box.resized) == case["resized"]
        assert list(box.offset) == case["left_top"]
        square = box.to_square(case["box_in_xyxy"])
        assert_allclose(square, case["box_out_cxcywh"], rtol=0, atol=1e-6)
        ignored = patch_mask(box.pixel_mask(), PATCH, "centre")
        assert int(ignored.sum()) == case["masked_patches"]
        grid = ignored.unflatten(0, (case["size"] // PATCH, -1))
        assert torch.nonzero(grid.all(1)).flatten().tolist() == case["masked_patch_rows"]
        assert torch.nonzero(grid.all(0)).flatten().tolist() == case["masked_patch_cols"]


def test_one_pixel_high_pictures_keep_a_row(cases):
    lost = [case for case in cases if "error" in case]
    assert lost  # the reference fails on these
    for case in lost:
        box = Letterbox(case["w"], case["h"], case["size"])
        assert box.resized == (case["size"], 1)
        assert int((~box.pixel_mask()).sum()) == case["size"]
        assert not patch_mask(box.pixel_mask(), PATCH, "image").all()
        image = Image.new("RGB", (case["w"], case["h"]), "white")
        pixels, _, _ = load_square(image, case["size"], Preset("plain", (0, 0, 0), (1, 1, 1)))
        assert int(pixels.sum()) == 3 * case["size"]


def test_pixels_masks_and_targets_of_the_reference(data_dir):
    mini = data_dir / "official_mini"
    golden = load_file(mini / "model_io.safetensors")
    rows = json.loads((mini / "losses.json").read_text())["indices_in_unc_train_pseudo"]
    images = mini / "images/other/images/mscoco/images/train2014"
    labels = read_labels(mini / "unc" / "unc_train_pseudo.pth", images=images).select(rows)
    preset = get_preset("published")
    boxes = labels.boxes(integer=preset.integer_boxes)
    found = 0
    for i, name in enumerate(labels.image_names):
        pixels, mask, box = load_square(labels.image_path(name), 96, preset)
        target = torch.from_numpy(box.to_square(boxes[i]))
        match = [j for j, t in enumerate(golden["target"]) if torch.allclose(t, target, atol=1e-6)]
        for j in match:
            found += 1
            torch.testing.assert_close(pixels, golden["image"][j], rtol=0, atol=1e-6)
            assert torch.equal(mask, golden["image_mask"][j].bool())
            ignored = patch_mask(mask, PATCH, preset.patch_mask)
            assert torch.equal(ignored, golden["visual_patch_mask"][j].bool())
    assert found == len(golden["target"])


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([32, 96, 224, 336]), st.data())
def test_boxes_there_and_back(width, height, size, data):
    box = Letterbox(width, height, size)
    (x, y), (w, h) = box.offset, box.resized
    assert 0 <= x <= size - w
    assert 0 <= y <= size - h
    assert max(w, h) == size
    x1, x2 = sorted(data.draw(st.tuples(*[st.floats(0, width)] * 2)))
    y1, y2 = sorted(data.draw(st.tuples(*[st.floats(0, height)] * 2)))
    square = box.to_square([x1, y1, x2, y2])
    assert square.dtype == np.float32
    assert_array_equal(square, square_boxes([[x1, y1, x2, y2]], [[width, height]], size)[0])
    back = box.to_image(square)
    assert_allclose(back, [x1, y1, x2, y2], atol=1e-6 * max(width, height) + 1e-4)


def test_to_image_clips_and_to_square_does_not():
    box = Letterbox(200, 100, 100)
    assert box.to_image([0.5, 0.5, 2, 2]).tolist() == [0, 0, 200, 100]
    assert box.to_square([-20, 0, 0, 100])[0] < 0
    assert box.to_image(np.full((3, 4), 0.5)).shape == (3, 4)


def test_patch_mask_rules():
    mask = torch.ones(4, 8, dtype=torch.bool)
    mask[0, 0] = False  # one picture pixel in the corner of the first patch
    assert patch_mask(mask, 4, "image").tolist() == [False, True]
    assert patch_mask(mask, 4, "centre").tolist() == [True, True]
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[0, 1:3, 1] = True  # half of the centre pixels: kept
    mask[1, 1:3, 1:3] = torch.tensor([[True, True], [True, False]])
    assert patch_mask(mask, 4, "centre").tolist() == [[False], [True]]
    odd = torch.zeros(6, 3, dtype=torch.bool)
    odd[1, 1] = True
    assert patch_mask(odd, 3, "centre").tolist() == [True, False]
    with pytest.raises(InputError, match="choose from image, centre"):
        patch_mask(mask, 4, "nearest")


def test_patch_mask_centre_is_the_unaliased_resize(cases):
    for case in cases[::7]:
        mask = Letterbox(case["w"], case["h"], case["size"]).pixel_mask()
        grid = case["size"] // PATCH
        small = torch.nn.functional.interpolate(
            mask[None, None].float(), size=(grid, grid), mode="bilinear", antialias=False
        )
        assert torch.equal(small.round().bool().flatten(), patch_mask(mask, PATCH, "centre"))


def test_padding_is_zero_after_normalisation():
    preset = Preset("halves", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    pixels, mask, _ = load_square(Image.new("RGB", (10, 5)), 8, preset)
    assert pixels.dtype == torch.float32
    assert (pixels[:, mask] == 0).all()
    assert (pixels[:, ~mask] == -2).all()
    assert mask.tolist() == [[y < 2 or y >= 6] * 8 for y in range(8)]


def test_unknown_preset():
    with pytest.raises(InputError, match="unknown preset 'publised': did you mean 'published'"):
        get_preset("publised")
