"""Detectors of transformers with random weights: the real classes, from folder to detections."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from support.pretrained import save

from clipvg.observe.detect import Detector, OpenDetector
from clipvg.observe.loading import load_pretrained

pytestmark = pytest.mark.transformers
IMAGES = [Image.new("RGB", (120, 80), "red"), Image.new("RGB", (60, 100), "blue")]
NAMES = ["dog", "traffic light", *(f"thing {number}" for number in range(8))]


def check(found) -> None:
    assert len(found) == len(IMAGES)
    assert any(found)
    for image, seen in zip(IMAGES, found, strict=True):
        assert [one.score for one in seen] == sorted((one.score for one in seen), reverse=True)
        for one in seen:
            x1, y1, x2, y2 = one.box
            assert 0 <= x1 < x2 <= image.width
            assert 0 <= y1 < y2 <= image.height
            assert 0 <= one.score <= 1


@pytest.mark.parametrize("name", ["detr", "rt-detr", "d-fine"])
def test_detector(name: str, tmp_path) -> None:
    detector = Detector(load_pretrained(save(name, tmp_path), "detector"))
    found = detector.detect(IMAGES, 0.0)
    check(found)
    assert {one.name for seen in found for one in seen} <= {"dog", "cat", "person"}  # no N/A
    assert detector.detect(IMAGES, 0.9) == [(), ()]
    assert detector.detect(IMAGES, 0.0) == found


@pytest.mark.parametrize("name", ["grounding-dino", "owlv2", "omdet-turbo"])
def test_open_detector(name: str, tmp_path) -> None:
    detector = OpenDetector(load_pretrained(save(name, tmp_path), "open_detector"))
    found = detector.detect(IMAGES, NAMES, 0.0)
    check(found)
    assert {one.name for seen in found for one in seen} <= set(NAMES)
    (alone,) = detector.detect(IMAGES[:1], ["dog"], 0.0)
    assert {one.name for one in alone} == {"dog"}


def test_a_token_of_grounding_dino_names_the_class_it_is_part_of(tmp_path) -> None:
    """The likeliest token of "dog. traffic light." names a box, wherever in its class it stands."""
    loaded = load_pretrained(save("grounding-dino", tmp_path), "open_detector")
    tokens = loaded.processor.tokenizer("dog. traffic light. ")["input_ids"]
    dot = loaded.processor.tokenizer.convert_tokens_to_ids(".")
    first, second = (place for place, token in enumerate(tokens) if token == dot)

    class Outputs:
        logits = torch.full((1, 3, 32), -5.0)
        pred_boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5]] * 3])

    Outputs.logits[0, 0, 1] = 2.0  # dog
    Outputs.logits[0, 1, second - 1] = 1.0  # the last token of light
    Outputs.logits[0, 1, first] = 9.0  # a dot belongs to no class
    Outputs.logits[0, 2, first + 1] = 0.5
    detector = OpenDetector(loaded)
    found = detector._of_tokens(
        Outputs(), torch.tensor([tokens]), IMAGES[:1], ["dog", "traffic light"], 0.25
    )
    assert [one.name for one in found[0]] == ["dog", "traffic light", "traffic light"]


def test_weights_that_are_not_there_are_said(tmp_path) -> None:
    from transformers import AutoConfig, AutoImageProcessor, DetrModel

    save("detr", tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    pixels = AutoImageProcessor.from_pretrained(tmp_path)
    for part in (DetrModel(config), pixels):
        part.save_pretrained(tmp_path / "headless")
    with pytest.warns(UserWarning, match="holds no weights for .* drawn at random"):
        load_pretrained(str(tmp_path / "headless"), "detector")
