"""Likelihood of a label, and answers on moved copies of the picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.one_label import pair_iou, predicted, targets
from support.tiny import make_labels, make_model

from clipvg.data import load_square
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.measures import LabelConfidence, PredictionConfidence
from clipvg.model import GroundingModel
from clipvg.model.fusion import Features
from clipvg.model.signs import move_into_corner
from clipvg.reliability import Context, measure
from clipvg.training.losses import box_losses


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    return make_labels(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def model() -> GroundingModel:
    return make_model(2)


def test_likelihood_is_the_exponential_of_the_loss(
    model: GroundingModel, labels: LabelTable
) -> None:
    l1, giou = box_losses(predicted(model, labels), targets(model, labels))
    found = measure(LabelConfidence(model, scale=2.0), labels, Context()).values
    np.testing.assert_allclose(found, torch.exp(-(l1 + giou) / 2), rtol=1e-4)


def test_a_box_where_the_model_looks_is_likelier(model: GroundingModel, labels: LabelTable) -> None:
    own = np.stack(
        [
            model.predict(labels.image_path(name), [text])[0]
            for name, text in zip(labels.image_names, labels.expressions, strict=True)
        ]
    )
    good = measure(LabelConfidence(model), labels.with_column("box", own), Context()).values
    assert (good > measure(LabelConfidence(model), labels, Context()).values).all()


@pytest.mark.parametrize(
    ("corner", "origin"),
    [((0, 0), (0, 0)), ((1, 0), (16, 0)), ((0, 1), (0, 16)), ((1, 1), (16,) * 2)],
)
def test_copies_lie_in_their_corner(corner: tuple[int, int], origin: tuple[int, int]) -> None:
    pixels = torch.arange(3 * 32 * 32.0).reshape(1, 3, 32, 32)
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, 24:] = True
    moved, padding = move_into_corner(pixels * ~mask[:, None], mask, 0.5, corner)
    x, y = origin
    expected = torch.ones(1, 32, 32, dtype=torch.bool)
    expected[:, y : y + 12, x : x + 16] = False
    assert torch.equal(padding, expected)
    # A pixel of the half-sized copy is the mean of four.
    whole = torch.nn.functional.avg_pool2d(pixels, 2)[:, :, :12]
    # Sampling points are rounded by about 2**-18 of a pixel; values of adjacent rows differ by 32.
    torch.testing.assert_close(moved[:, :, y : y + 12, x : x + 16], whole, rtol=0, atol=32 * 2**-17)
    assert moved[:, :, padding[0]].abs().max() == 0


def test_confidence_carries_the_boxes_back(model: GroundingModel, labels: LabelTable) -> None:
    part = labels.select([0, 1, 2])
    found = measure(PredictionConfidence(model, copies=2, zoom=0.75), part, Context()).values
    for row in range(len(part)):
        pixels, mask, _ = load_square(
            part.image_path(part.image_names[row]), model.backbone.image_size, model.preset
        )
        boxes = [predicted(model, part)[row].numpy()]
        for corner in ((0, 0), (1, 1)):
            moved, padding = move_into_corner(pixels[None], mask[None], 0.75, corner)
            ids, text_mask = model.tokenize([part.expressions[row]])
            with torch.no_grad():
                image, ignored = model.encode_images(moved), model.patch_mask(padding)
                given = Features(image, ignored, model.encode_text(ids), text_mask)
                box = model.fuse(given)[0].numpy()
            boxes.append(np.append(box[:2] - 0.25 * np.array(corner), box[2:]) / 0.75)
        pairs = [pair_iou(boxes[i], boxes[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
        assert found[row] == pytest.approx(np.mean(pairs), abs=2e-5)


def test_confidence_against_the_label_falls_for_a_wrong_box(
    model: GroundingModel, labels: LabelTable
) -> None:
    own = np.stack(
        [
            model.predict(labels.image_path(name), [text])[0]
            for name, text in zip(labels.image_names, labels.expressions, strict=True)
        ]
    )
    sure = PredictionConfidence(model, against="label")
    good = measure(sure, labels.with_column("box", own), Context()).values
    away = measure(sure, labels.with_column("box", own + 500), Context()).values
    assert (away == 0).all()
    assert good.mean() > 2 * measure(sure, labels, Context()).values.mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"zoom": 1.0}, "zoom is 1.0"),
        ({"copies": 5}, "copies is 5, expected at most 4"),
        ({"against": "truth"}, "against is 'truth', expected one of 'members', 'label'"),
    ],
)
def test_bad_options(model: GroundingModel, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PredictionConfidence(model, **options)


def test_scale_must_be_positive(model: GroundingModel) -> None:
    with pytest.raises(InputError, match="scale is 0"):
        LabelConfidence(model, scale=0)
