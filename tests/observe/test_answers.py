"""Questions to text-generating models: their answers, how sure they are, and their boxes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.pretrained import WRITERS, save
from support.writers import stand_in

from clipvg.errors import InputError
from clipvg.observe.frame import Frame, unit_of
from clipvg.observe.loading import load_pretrained
from clipvg.observe.write import Writer

WIDE = Image.new("RGB", (200, 100), "red")


def test_answers_end_where_the_model_ends() -> None:
    writer = Writer(stand_in(lambda question, image: question[::-1]))
    found = writer.answer([WIDE, WIDE], ["abc", ""], max_tokens=5)
    assert [each.text for each in found] == ["cba", ""]
    assert found[0].probability == pytest.approx(1)
    assert np.isnan(found[1].probability)


def test_yes_against_no_of_the_next_token() -> None:
    answers: dict[str, str | float] = {"a": 0.25, "b": "Yes, it does", "c": "well", "d": "no"}
    writer = Writer(stand_in(lambda question, image: answers[question]))
    found = writer.yes([WIDE] * 4, [*answers])
    np.testing.assert_allclose(found, [0.25, 1, np.nan, 0], atol=1e-6)


def test_tokens_that_do_not_tell_yes_from_no() -> None:
    loaded = stand_in(lambda question, image: "x")
    loaded.processor.tokenizer.encode = lambda text, **_: [7]
    with pytest.raises(InputError, match="do not tell yes from no"):
        Writer(loaded).yes([WIDE], ["is it?"])


@pytest.mark.parametrize(
    ("unit", "written"),
    [
        ("thousand", [250, 100, 500, 1000]),
        ("unit", [0.25, 0.1, 0.5, 1]),
        ("pixel", [50, 10, 100, 100]),
    ],
)
def test_boxes_in_the_units_of_models(unit: Any, written: list[float]) -> None:
    frame = Frame.of(WIDE, SimpleNamespace(image_processor=SimpleNamespace()), unit)
    assert frame.to_image(written) == pytest.approx([50, 10, 100, 100])
    assert frame.from_image([50, 10, 100, 100]) == written


def test_pixels_of_the_resized_image() -> None:
    def resize(images: list[Image.Image], **_: object) -> dict[str, np.ndarray]:
        return {"image_grid_thw": np.array([[1, 2, 5]])}

    class Pixels:
        merge_size, patch_size = 2, 14
        __call__ = staticmethod(resize)

    frame = Frame.of(WIDE, SimpleNamespace(image_processor=Pixels()), "pixel")
    assert frame.seen == (70, 28)
    assert frame.to_image([7, 7, 35, 28]) == pytest.approx([20, 25, 100, 100])
    assert frame.from_image([20, 25, 100, 100]) == [7, 7, 35, 28]


def test_an_image_whose_edges_would_be_cut_off_is_padded() -> None:
    pixels = SimpleNamespace(do_center_crop=True, size={"shortest_edge": 32})
    frame = Frame.of(WIDE, SimpleNamespace(image_processor=pixels), "unit")
    assert frame.image.size == (200, 200)
    assert frame.offset == (0, 50)
    assert frame.to_image([0, 0.25, 0.5, 0.75]) == pytest.approx([0, 0, 100, 100])
    assert frame.from_image([0, 0, 100, 100]) == [0, 0.25, 0.5, 0.75]
    squeezed = SimpleNamespace(do_center_crop=True, size={"height": 32, "width": 32})
    assert Frame.of(WIDE, SimpleNamespace(image_processor=squeezed), "unit").image is WIDE


def test_units_that_are_not_known() -> None:
    assert unit_of("qwen2_5_vl", None) == "pixel"
    assert unit_of("qwen2_5_vl", "unit") == "unit"
    with pytest.raises(InputError, match=r"type 'blip' write boxes in a unit .* say unit=pixel"):
        unit_of("blip", None)
    with pytest.raises(InputError, match="unit='inch' is unknown"):
        unit_of("qwen2_5_vl", "inch")


@pytest.mark.transformers
@pytest.mark.parametrize("name", WRITERS)
def test_an_answer_is_the_same_alone_and_beside_others(name: str, tmp_path: Path) -> None:
    writer = Writer(load_pretrained(save(name, tmp_path), "writer"))
    noise = np.random.default_rng(0).integers(0, 255, (60, 100, 3), dtype=np.uint8)
    images = [WIDE, Image.fromarray(noise)]
    questions = ["red dog", "what is on the left of the cat?"]
    together = writer.answer(images, questions, max_tokens=6)
    for image, question, answer in zip(images, questions, together, strict=True):
        (alone,) = writer.answer([image], [question], max_tokens=6)
        assert alone.text == answer.text
        assert alone.probability == pytest.approx(answer.probability, rel=1e-4, nan_ok=True)


@pytest.mark.transformers
@pytest.mark.parametrize("name", ["llava", "qwen2.5-vl"])
def test_yes_is_read_of_the_token_that_follows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipvg.observe.write._LEAST", 0.0)
    loaded = load_pretrained(save(name, tmp_path), "writer")
    question = "does it show a dog?"
    found = Writer(loaded).yes([WIDE], [question])
    inputs = Writer(loaded).prepare([WIDE], [question])
    with torch.inference_mode():
        chances = loaded.model(**inputs).logits[0, -1].softmax(-1)
    words = [["yes", "Yes", "true", "True"], ["no", "No", "false", "False"]]
    yes, no = ({loaded.processor.tokenizer.encode(w, add_special_tokens=False)[0] for w in of}
               for of in words)  # fmt: skip
    expected = chances[[*yes]].sum() / (chances[[*yes]].sum() + chances[[*no]].sum())
    np.testing.assert_allclose(found, [expected], rtol=1e-4)


@pytest.mark.transformers
def test_what_a_frame_says_is_seen_is_what_the_processor_makes(tmp_path: Path) -> None:
    loaded = load_pretrained(save("qwen2.5-vl", tmp_path), "writer")
    frame = Frame.of(WIDE, loaded.processor, unit_of("qwen2_5_vl", None))
    width, height = frame.seen
    assert (width % 28, height % 28) == (0, 0)
    assert width * height <= 8 * 28 * 28
