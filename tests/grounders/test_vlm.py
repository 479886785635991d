"""Vision-language models that write boxes as text, used as grounders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.pretrained import WRITERS, save
from support.writers import stand_in

from clipvg.errors import InputError
from clipvg.grounders.vlm import VisionLanguageModel
from clipvg.observe.write import Answer

WIDE = Image.new("RGB", (200, 100))
TALL = Image.new("RGB", (100, 400))


Asker = Callable[..., VisionLanguageModel]


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Asker:
    """Return a function that makes a grounder of a model with scripted answers."""

    def make(says: Any, **options: Any) -> VisionLanguageModel:
        made = stand_in(says)
        monkeypatch.setattr("clipvg.grounders.pretrained.load_pretrained", lambda *_, **__: made)
        return VisionLanguageModel("stand-in", **{"unit": "thousand", **options})

    return make


@pytest.mark.parametrize(
    "answer",
    [
        "[250, 100, 500, 1000]",
        "It is at (250,100),(500,1000).",
        "<ref>dog</ref><box>[[250, 100, 500, 1000]]</box>",
        '```json\n[{"bbox_2d": [250, 100, 500, 1000], "label": "dog"}]\n```',
        "<|box_start|>(250,100),(500,1000)<|box_end|>",
        "[250, 100, 500, 1000] or else [0, 0, 10, 10]",
    ],
)
def test_boxes_are_read_however_they_are_written(answer: str, asking: Asker) -> None:
    (found,) = asking(lambda *_: answer).locate([WIDE], [["dog"]])
    np.testing.assert_allclose(found.boxes, [[50, 10, 100, 100]])
    assert found.scores == pytest.approx([1])
    assert found.reasons == [None]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("I cannot see a dog.", "has no box: 'I cannot see a dog.'"),
        ("", "has no box: ''"),
        ("[1, 2, 3]", "has no box"),
        ("[500, 100, 250, 1000]", "no corners of a box"),
        ("[2000, 100, 2500, 300]", "outside the image"),
        ("[1e400, 1, 2, 3]", "no number"),
    ],
)
def test_nonsense_is_no_box_but_a_reason(answer: str, why: str, asking: Asker) -> None:
    (found,) = asking(lambda *_: answer).locate([WIDE], [["dog"]])
    assert np.isnan(found.boxes).all()
    assert np.isnan(found.scores).all()
    assert found.reasons[0] is not None
    assert why in found.reasons[0]


def test_each_image_has_its_own_expressions(asking: Asker) -> None:
    sides = {"a": "[0, 0, 500, 500]", "b": "[500, 500, 1000, 1000]", "c": "nowhere"}
    asker = asking(lambda question, _: sides[question], prompt="{expression}", batch_size=2)
    found = asker.locate([WIDE, TALL, WIDE], [["a", "b"], ["b", "c"], []])
    np.testing.assert_allclose(found[0].boxes, [[0, 0, 100, 50], [100, 50, 200, 100]])
    np.testing.assert_allclose(found[1].boxes[0], [50, 200, 100, 400])
    assert found[1].reasons[1] is not None
    assert found[2].boxes.shape == (0, 4)


def test_the_question_says_the_unit_and_takes_braces(asking: Asker) -> None:
    asked: list[str] = []
    asking(lambda question, _: asked.append(question) or "").locate([WIDE], [["{a} {unit}"]])
    assert "describes: {a} {unit}. Answer" in asked[0]
    assert "in thousandths of the image" in asked[0]


def test_a_prompt_without_a_place_for_the_expression(asking: Asker) -> None:
    with pytest.raises(InputError, match=r"has no '\{expression\}'"):
        asking(lambda *_: "", prompt="where?")


@pytest.mark.transformers
@pytest.mark.parametrize("name", WRITERS)
def test_true_classes_with_random_weights_give_reasons(name: str, tmp_path: Path) -> None:
    asker = VisionLanguageModel(save(name, tmp_path), device="cpu", max_tokens=5)
    found = asker.locate([WIDE, TALL], [["red dog", "cat"], ["cat"]])
    for each in found:
        assert np.isnan(each.boxes).all(1).tolist() == [why is not None for why in each.reasons]


# Answers in model cards and documentation, and the boxes given for them as shares of the image.
@pytest.mark.transformers
@pytest.mark.parametrize(
    ("name", "said", "share"),
    [
        (
            "florence-2",
            "<s>red dog<loc_250><loc_100><loc_499><loc_999>",
            [0.2505, 0.1005, 0.4995, 0.9995],
        ),
        ("paligemma", "<loc0256><loc0128><loc0768><loc0512> cat", [0.125, 0.25, 0.5, 0.75]),
        (
            "paligemma",
            "<loc0256><loc0128><loc0768><loc0512><seg015><seg022> cat ; <loc0000><loc0001>",
            [0.125, 0.25, 0.5, 0.75],
        ),
        (
            "kosmos-2",
            "<object><patch_index_0044><patch_index_0863></object>",
            [0.390625, 0.046875, 0.984375, 0.828125],
        ),
        (
            "kosmos-2",
            "<object> <patch_index_0044> <patch_index_0863> </object> is warming himself by"
            "<phrase> the fire</phrase><object><patch_index_0006><patch_index_0878></object>",
            [0.390625, 0.046875, 0.984375, 0.828125],
        ),
    ],
)
def test_marks_of_places_are_read_as_models_write_them(
    name: str, said: str, share: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = VisionLanguageModel(save(name, tmp_path), device="cpu")
    monkeypatch.setattr(asker._writer, "answer", lambda *_, **__: [Answer(said, 0.5)])
    for image in (WIDE, TALL):
        (found,) = asker.locate([image], [["red dog"]])
        expected = np.array([share]) * [*image.size, *image.size]
        np.testing.assert_allclose(found.boxes, expected, rtol=1e-5)
        assert found.scores == pytest.approx([0.5])


@pytest.mark.transformers
@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("florence-2", 'Locate the phrases in the caption: a cat; "dog"'),
        ("paligemma", '<image><s>detect a cat  "dog"\n'),
        ("kosmos-2", '</image><grounding><phrase> a cat; "dog"</phrase>'),
    ],
)
def test_models_with_marks_are_asked_as_they_were_trained(
    name: str, asked: str, tmp_path: Path
) -> None:
    asker = VisionLanguageModel(save(name, tmp_path), device="cpu")
    inputs = asker._writer.prepare([WIDE], [asker._question('a cat; "dog"')])
    text = asker.loaded.processor.tokenizer.decode(inputs["input_ids"][0])
    assert text.removesuffix("</s>").endswith(asked)
    with pytest.raises(InputError, match=r"unit='pixel'.* mark places in their own way"):
        VisionLanguageModel(str(tmp_path), device="cpu", unit="pixel")
