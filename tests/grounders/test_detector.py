"""Open-vocabulary detectors as grounders."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.pretrained import save

from clipvg.grounders.detector import Detector, encoded_once
from clipvg.grounders.located import OUTSIDE, UNSURE, Located

NAMES = ("grounding-dino", "owlv2", "omdet-turbo")


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_boxes_are_cut_to_the_image() -> None:
    found = Located.nothing(4)
    boxes = [[-5, 2, 50, 300], [120, 0, 130, 9], [0, 0, np.nan, 1], [1, 1, 2, 2]]
    found.put([3, 1, 0, 2], np.array(boxes), np.array([0.5, 0.5, 0.5, np.inf]), (100, 80))
    np.testing.assert_array_equal(found.boxes[3], [0, 2, 50, 80])
    assert found.reasons == [UNSURE, OUTSIDE, UNSURE, None]
    assert np.isnan(found.scores[:3]).all()


def test_a_tower_sees_a_repeated_image_once() -> None:
    class Tower(torch.nn.Module):
        def forward(self, pixels: torch.Tensor, mask: torch.Tensor) -> Any:
            seen.append(len(pixels))
            return [(pixels * 2, mask)], [pixels]

    seen: list[int] = []
    tower = Tower()
    pixels, mask = torch.ones(1, 3).expand(4, 3), torch.zeros(4, 1)
    with encoded_once(tower):
        found = tower(pixels, mask)
    assert seen == [1]
    assert found[0][0][0].shape == (4, 3)
    assert torch.equal(found[1][0], pixels)
    tower(pixels, mask)
    assert seen == [1, 4]


@pytest.fixture(scope="module", params=NAMES)
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector(save(request.param, tmp_path_factory.mktemp(request.param)), device="cpu")


@pytest.mark.transformers
def test_an_answer_depends_on_its_own_image_and_expression_alone(detector: Detector) -> None:
    images, asked = [noise(100, 60), noise(50, 90, 1)], [["red dog", "cat", "a. b"], ["cat"]]
    together = detector.locate(images, asked)
    for image, texts, found in zip(images, asked, together, strict=True):
        assert found.reasons == [None] * len(texts)
        assert (found.boxes >= 0).all()
        assert (found.boxes <= [*image.size, *image.size]).all()
        for place, text in enumerate(texts):
            ((alone),) = detector.locate([image], [[text]])
            np.testing.assert_allclose(alone.boxes[0], found.boxes[place], atol=1e-3)
            np.testing.assert_allclose(alone.scores[0], found.scores[place], rtol=1e-4)


@pytest.mark.transformers
def test_an_expression_longer_than_the_model_reads(detector: Detector) -> None:
    long = "the small red dog on the left " * 12
    (found,) = detector.locate([noise(100, 60)], [[long, "cat"]])
    assert found.reasons[0] is not None
    assert "tokens, more than" in found.reasons[0]
    assert np.isnan(found.boxes[0]).all()
    assert found.reasons[1] is None


@pytest.fixture
def told(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> Detector:
    """A detector whose model always predicts the same two boxes, the second with a high score."""
    is_owl = detector.loaded.model.config.model_type == "owlv2"

    def outputs(**inputs: Any) -> Any:
        number = len(inputs.get("tasks_input_ids", inputs["pixel_values"]))
        boxes = torch.tensor([[0.9, 0.9, 0.1, 0.1], [0.25, 0.25, 0.5, 0.3]]).expand(number, 2, 4)
        width = len(inputs["input_ids"]) if is_owl else 32  # a logit per name, or per token
        logits = torch.tensor([-3.0, 2.0]).view(1, 2, 1).expand(number, 2, width)
        return SimpleNamespace(
            logits=logits, pred_boxes=boxes, decoder_class_logits=logits,
            decoder_coord_logits=boxes, input_ids=inputs.get("input_ids"),
        )  # fmt: skip

    monkeypatch.setattr(detector.loaded.model, "forward", outputs)
    return detector


@pytest.mark.transformers
@pytest.mark.parametrize("size", [(200, 100), (100, 400)])
def test_boxes_of_known_outputs(told: Detector, size: tuple[int, int]) -> None:
    (found,) = told.locate([noise(*size)], [["cat", "dog"]])
    is_padded = told.loaded.model.config.model_type == "owlv2"  # to a square
    width, height = (max(size), max(size)) if is_padded else size
    corners = np.array([0, 0.1, 0.5, 0.4]) * [width, height, width, height]
    expected = np.minimum(corners, [*size, *size])
    np.testing.assert_allclose(found.boxes, [expected, expected], rtol=1e-5)
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-2)), rtol=1e-5)


@pytest.mark.transformers
def test_half_precision_scores_nearly_the_same(detector: Detector) -> None:
    half = Detector(detector.model, device="cpu", precision="bf16")
    images, asked = [noise(100, 60)], [["red dog", "cat"]]
    (found,), (exact,) = (each.locate(images, asked) for each in (half, detector))
    assert found.boxes.dtype == found.scores.dtype == np.float32
    np.testing.assert_allclose(found.scores, exact.scores, atol=0.05)
