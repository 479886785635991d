"""Text-generating models with random weights: the real classes, from folder to text."""

from __future__ import annotations

import pytest
from PIL import Image
from support.pretrained import WRITERS, save

from clipvg.observe.loading import load_pretrained
from clipvg.observe.write import CAPTION, REGION, Writer, around

pytestmark = pytest.mark.transformers
IMAGES = [Image.new("RGB", (120, 80), "red"), Image.new("RGB", (60, 100), "blue")]
BOX = (10.0, 20.0, 60.0, 79.5)


def open_writer(name: str, folder) -> Writer:
    return Writer(load_pretrained(save(name, folder), "writer"))


@pytest.mark.parametrize("name", ["blip", "git", *WRITERS])
def test_captions_and_descriptions(name: str, tmp_path) -> None:
    writer = open_writer(name, tmp_path)
    captions = writer.caption(IMAGES, max_new_tokens=6)
    assert len(captions) == 2
    assert all(captions)
    assert writer.caption(IMAGES, max_new_tokens=6) == captions  # no sampling
    assert all(caption == " ".join(caption.split()) for caption in captions)
    assert not any(word in "".join(captions) for word in ("image>", CAPTION, "[CLS]", "</s>"))
    described = writer.describe(IMAGES[0], [BOX, (0.0, 0.0, 9.0, 9.0)], max_new_tokens=6)
    assert len(described) == 2
    assert REGION not in "".join(described)
    assert writer.write([], [], 6) == []


def test_a_tokenizer_that_has_nothing_to_pad_with_pads_with_its_end(tmp_path) -> None:
    loaded = load_pretrained(save("llava", tmp_path), "writer")
    alike = Writer(loaded).write(IMAGES, ["a", "a longer question"], 4)
    loaded.processor.tokenizer.pad_token = None
    assert Writer(loaded).write(IMAGES, ["a", "a longer question"], 4) == alike


@pytest.mark.parametrize("name", ["blip", "git"])
def test_a_captioner_goes_on_from_its_prompt(name: str, tmp_path) -> None:
    captions = open_writer(name, tmp_path).caption(IMAGES, "a photo of", 4)
    assert all(caption.startswith("a photo of") for caption in captions)


def test_florence_2_is_told_of_a_task_and_a_place(tmp_path, monkeypatch) -> None:
    asked = []
    writer = open_writer("florence-2", tmp_path)
    monkeypatch.setattr(writer, "write", lambda images, prompts, most: asked.append(prompts))
    writer.caption(IMAGES)
    writer.describe(IMAGES[0], [BOX])
    assert asked[0] == ["<CAPTION>"] * 2
    assert asked[1] == ["<REGION_TO_DESCRIPTION><loc_83><loc_250><loc_500><loc_993>"]


@pytest.mark.parametrize("name", ["paligemma", "kosmos-2"])
def test_a_prompt_is_no_part_of_what_is_written(name: str, tmp_path) -> None:
    writer = open_writer(name, tmp_path)
    (asked,) = set(writer.caption(IMAGES[:1] * 2, "a photo of", 4))
    assert not asked.startswith("a photo of")
    assert "image>" not in asked


def test_the_mark_of_the_image_is_not_doubled(tmp_path) -> None:
    writer = open_writer("paligemma", tmp_path)
    mark = writer.loaded.processor.image_token
    with_mark, without = (
        writer.prepare(IMAGES[:1], [prompt])["input_ids"] for prompt in (f"{mark}a dog", "a dog")
    )
    assert with_mark.tolist() == without.tolist()


def test_a_vision_language_model_is_asked_in_its_chat(tmp_path) -> None:
    writer = open_writer("llava", tmp_path)
    prepared = writer.prepare(IMAGES, [CAPTION, "a longer question " * 3])
    texts = writer.loaded.processor.batch_decode(prepared["input_ids"])
    assert all(text.removesuffix("</s>").endswith("assistant: ") for text in texts)  # not padded
    assert CAPTION in texts[0]
    assert texts[0].count("<image>") == 16


def test_a_region_is_cut_out_with_its_surroundings() -> None:
    assert around(BOX, (120, 80)) == (5, 14, 66, 80)
    assert around((0, 0, 0.2, 0.2), (120, 80)) == (0, 0, 1, 1)
    assert around((119.9, 79.9, 120, 80), (120, 80)) == (119, 79, 120, 80)
