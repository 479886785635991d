"""Inputs and answers of `predict`: any kind of image, scores, several images at once."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

import clipvg
from clipvg.errors import InputError
from clipvg.model import GroundingModel, signs
from clipvg.model.predictions import Predictions

Make = Callable[..., GroundingModel]
EXPRESSIONS = ["the left dog", "a red cup"]
# few enough colours for a palette
PIXELS = 85 * np.random.default_rng(0).integers(0, 4, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    Image.fromarray(PIXELS).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def frame(image: object) -> pandas.DataFrame:
    return pandas.DataFrame({"image": [image], "expression": ["dog"]})


def with_alpha(image: Image.Image) -> Image.Image:
    image.putalpha(Image.new("L", image.size, 9))
    return image


INPUTS: dict[str, Callable[[Path], Any]] = {
    "path": lambda file: file,
    "name": str,
    "bytes": lambda file: file.read_bytes(),
    "bytearray": lambda file: bytearray(file.read_bytes()),
    "stream": lambda file: io.BytesIO(file.read_bytes()),
    "mapped bytes": lambda file: memoryview(file.read_bytes()),
    "dictionary": lambda file: {"bytes": file.read_bytes(), "path": None},
    "row of a data frame": lambda file: frame(file)["image"][0],
    "row of Hugging Face's": lambda file: frame({"bytes": None, "path": str(file)})["image"][0],
    "pil": Image.open,
    "pil with alpha": lambda file: with_alpha(Image.open(file)),
    "pil with a palette": lambda file: Image.open(file).quantize(256, dither=Image.Dither.NONE),
    "array": lambda file: PIXELS,
    "array with alpha": lambda file: np.dstack([PIXELS, np.full((40, 60), 9, np.uint8)]),
    "floating array": lambda file: PIXELS.astype(np.float32) / 255,
    "double array": lambda file: PIXELS / 255,
    "strided array": lambda file: np.asfortranarray(PIXELS),
    "tensor": lambda file: torch.from_numpy(PIXELS).permute(2, 0, 1),
    "floating tensor": lambda file: torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
}


@pytest.mark.parametrize("kind", list(INPUTS))
def test_kinds_of_input_give_equal_answers(make_model: Make, file: Path, kind: str) -> None:
    assert len(INPUTS) >= 10
    model = make_model()
    expected = model.predict(file, EXPRESSIONS)
    found = model.predict(INPUTS[kind](file), EXPRESSIONS)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.present, expected.present)


def test_an_open_file_and_grey_images(make_model: Make, file: Path) -> None:
    model, grey = make_model(), PIXELS[..., 0]
    with file.open("rb") as stream:
        np.testing.assert_array_equal(model.predict(stream, "x"), model.predict(file, "x"))
    expected = model.predict(Image.fromarray(grey), "x")
    assert Image.fromarray(grey).mode == "L"
    np.testing.assert_array_equal(model.predict(np.dstack([grey] * 3), "x"), expected)
    for image in (grey, grey[..., None], torch.from_numpy(grey)[None], torch.from_numpy(grey)):
        np.testing.assert_array_equal(model.predict(image, "x"), expected)


REFUSED: dict[str, tuple[Any, str]] = {
    "address": ("https://host/street.jpg", "not fetched; download"),
    "bucket": ("s3://bucket/street.jpg", "not fetched; download"),
    "number": (3, "an image is a int; pass a path"),
    "nothing": (None, "an image is a NoneType"),
    "no bytes": (b"", "no bytes"),
    "text bytes": (b"hello", "the bytes given: not an image"),
    "text stream": (io.StringIO("x"), "'rb'"),
    "batch": (np.zeros((2, 4, 4, 3), np.uint8), r"several images; pass list\(array\)"),
    "batch of tensors": (torch.zeros(2, 3, 4, 4), r"several images; pass list\(tensor\)"),
    "array CHW": (np.zeros((3, 40, 60), np.uint8), r"transpose\(1, 2, 0\)"),
    "tensor HWC": (torch.zeros(40, 60, 3), r"permute\(2, 0, 1\)"),
    "0 to 255": (np.full((4, 4, 3), 200.0), "divide by 255"),
    "standardised": (np.full((4, 4, 3), -1.0), "from -1 to -1"),
    "NaN": (np.full((4, 4, 3), np.nan), "NaN"),
    "sixteen bits": (np.zeros((4, 4, 3), np.uint16), "uint16"),
    "empty": (np.zeros((0, 4, 3), np.uint8), "is not an image"),
    "vector": (np.zeros(4, np.uint8), "is not an image"),
    "no width": (Image.new("RGB", (0, 5)), "the image has 0 x 5 pixels"),
    "column": (pandas.Series(["a.jpg"]), r"a Series; .* list\(images\)"),
    "empty dictionary": ({"bytes": None, "path": None}, "no bytes"),
}


@pytest.mark.parametrize("kind", list(REFUSED))
def test_what_is_no_image_is_refused_with_the_remedy(make_model: Make, kind: str) -> None:
    image, message = REFUSED[kind]
    with pytest.raises(InputError, match=message) as error:
        make_model().predict(image, "dog")
    assert "\n" not in str(error.value)


def test_a_list_of_images_each_with_its_expressions(make_model: Make, file: Path) -> None:
    model = make_model()
    images = [file, PIXELS[:, :30], PIXELS[:20]]
    asked: list[Any] = [["dog", "cup"], "the left dog", []]
    found = model.predict(images, asked)
    assert [len(each) for each in found] == [2, 1, 0]
    for image, texts, each in zip(images, asked, found, strict=True):
        alone = model.predict(image, texts)
        np.testing.assert_allclose(each, alone, atol=1e-3)
        np.testing.assert_allclose(each.scores, alone.scores, atol=1e-4)
        np.testing.assert_allclose(each.present, alone.present, atol=1e-4)
    assert found[1].expressions == ("the left dog",)
    assert found[1].size == (30, 40)
    for_all = model.predict(images, "dog")
    np.testing.assert_allclose(for_all[0], found[0][:1], atol=1e-3)
    assert model.predict([], []) == []
    with pytest.raises(InputError, match="3 images, but 2 entries"):
        model.predict(images, ["dog", "cup"])


def test_more_images_than_are_held_at_once(make_model: Make) -> None:
    model = make_model()
    images = [PIXELS[: 8 + i] for i in range(35)]
    together = model.predict(images, "dog")
    for image, each in list(zip(images, together, strict=True))[::17]:
        np.testing.assert_allclose(each, model.predict(image, "dog"), atol=1e-3)


def test_an_image_is_encoded_once_and_a_text_once(
    make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    seen = {"images": 0}

    def count(pixels: torch.Tensor) -> torch.Tensor:
        seen["images"] += len(pixels)
        return encode(pixels)

    encode = model.encode_images
    monkeypatch.setattr(model, "encode_images", count)
    model.predict([PIXELS, PIXELS[:20]], [EXPRESSIONS * 10, EXPRESSIONS * 10], scores=False)
    assert seen["images"] == 2
    model.predict(PIXELS, EXPRESSIONS)
    assert seen["images"] == 2 + 3  # the image, and two copies for the scores


def test_scores_are_probabilities_and_say_by_what(make_model: Make) -> None:
    model = make_model()
    found = model.predict(PIXELS, EXPRESSIONS)
    for values in (found.scores, found.present):
        assert values.shape == (2,)
        assert values.dtype == np.float32
        assert ((values >= 0) & (values <= 1)).all()
    assert found.scored_by == {"scores": "confidence", "present": "image_text"}
    without = model.predict(PIXELS, EXPRESSIONS, scores=False)
    np.testing.assert_array_equal(without, found)
    assert np.isnan(without.scores).all()
    assert np.isnan(without.present).all()
    assert without.scored_by == {}


def test_predictions_act_as_their_boxes() -> None:
    boxes = np.array([[1.25, 2, 3, 4], [5, 6, 7, 8]], np.float32)
    nothing = np.zeros(2, np.float32)
    found = Predictions(boxes, nothing, nothing, ("a", "b"), (9, 9), {})
    assert len(found) == 2
    assert found.shape == (2, 4)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(found), boxes)
    np.testing.assert_array_equal(np.asarray(found, np.float64), boxes)
    np.testing.assert_array_equal(found[1], boxes[1])
    np.testing.assert_array_equal(found[:, :2], boxes[:, :2])
    np.testing.assert_array_equal(found.round(1), boxes.round(1))
    np.testing.assert_array_equal([*found], boxes)
    np.testing.assert_array_equal(found - boxes, np.zeros((2, 4)))
    np.testing.assert_array_equal(np.concatenate([found, found]), np.concatenate([boxes, boxes]))
    assert (found >= 1).all()
    moved = found
    moved += 1  # in place on the boxes; `moved` is then an array
    np.testing.assert_array_equal(moved, [[2.25, 3, 4, 5], [6, 7, 8, 9]])


def test_blank_and_foreign_and_long_expressions(make_model: Make) -> None:
    model = make_model()
    with pytest.raises(InputError, match="expressions are a NoneType; pass a text"):
        model.predict(PIXELS, None)  # type: ignore[call-overload]
    for text in ("", "  \t"):
        with pytest.raises(InputError, match="expression 1 is blank"):
            model.predict(PIXELS, ["dog", text])
    with pytest.raises(InputError, match="expression 0 is 3, a int"):
        model.predict(PIXELS, [3])  # type: ignore[list-item]
    with pytest.warns(UserWarning, match="1 expressions are not in English, such as 'собака'"):
        model.predict(PIXELS, ["собака", "dog"])
    with pytest.warns(UserWarning, match="2 expressions are not in English") as told:
        model.predict([PIXELS, PIXELS], [["собака"], ["кошка"]])
    assert len(told) == 1  # one warning, not one for each image
    with pytest.warns(UserWarning, match="not in English") as told:
        model.rank(PIXELS, "собака", [[0, 0, 9, 9]])
    assert len(told) == 1
    with pytest.warns(UserWarning, match="more than 77 tokens"):
        model.predict(PIXELS, "dog " * 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(PIXELS, ["café crème", "the naïve one", "dog 犬", "42"])
        model.attention(PIXELS, ["собака"])  # no warning: the call for boxes has given it


def test_rank_orders_given_boxes(make_model: Make) -> None:
    model = make_model()
    own = model.predict(PIXELS, "dog").boxes[0]
    boxes = np.stack([[0, 0, 3, 3], own, own + np.array([0, 0, 2, 2])])
    chance = model.rank(PIXELS, "dog", boxes)
    assert chance.shape == (3,)
    assert ((chance >= 0) & (chance <= 1)).all()
    assert chance.argmax() == 1
    assert chance.argmin() == 0
    assert model.rank(PIXELS, "dog", np.zeros((0, 4))).shape == (0,)
    assert model.rank(PIXELS, "dog", []).shape == (0,)
    both = model.rank(PIXELS, ["left cat", "dog"], boxes)
    np.testing.assert_allclose(both[1], chance, atol=1e-5)
    assert model.rank(PIXELS, [], boxes).shape == (0, 3)
    with pytest.raises(InputError, match="box 1 ends before it begins"):
        model.rank(PIXELS, "dog", [[0, 0, 3, 3], [9, 9, 5, 5]])
    sides = boxes.copy()
    sides[:, 2:] -= sides[:, :2]
    np.testing.assert_allclose(
        model.rank(PIXELS, "dog", sides, box_format="xywh"), chance, atol=1e-5
    )
    with pytest.raises(InputError, match="finite"):
        model.rank(PIXELS, "dog", [[0, 0, np.nan, 1]])


# As shares of the image's longer side, 60 pixels, as docs/predict.md states.
TOLERANCES = {"fp32": 0.0, "bf16": 0.03, "fp16": 0.004}


@pytest.mark.parametrize("precision", list(TOLERANCES))
def test_precisions_keep_the_boxes(make_model: Make, tmp_path: Path, precision: Any) -> None:
    model = make_model()
    expected = model.predict(PIXELS, EXPRESSIONS)
    model.save_pretrained(tmp_path / "model")
    reduced = clipvg.load(tmp_path / "model", device="cpu", precision=precision)
    found = reduced.predict(PIXELS, EXPRESSIONS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=60 * TOLERANCES[precision])
    own = {"fp32": model.float, "bf16": model.bfloat16, "fp16": model.half}[precision]()
    np.testing.assert_array_equal(own.predict(PIXELS, EXPRESSIONS), found)


def test_an_unknown_precision(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="precision='fp8' is unknown"):
        clipvg.load(tmp_path, precision="fp8")  # type: ignore[arg-type]


def parts_compiled(model: GroundingModel, backend: str) -> GroundingModel:
    for part in (model.fusion, model.head, model.visual_projection):
        part.compile(backend=backend)
    return model


def in_place(model: GroundingModel, backend: str) -> GroundingModel:
    model.compile(backend=backend)
    return model


COMPILED: dict[str, Callable[[GroundingModel, str], Any]] = {
    "whole": lambda model, backend: torch.compile(model, backend=backend),
    "in place": in_place,
    "parts": parts_compiled,
}


@pytest.mark.parametrize("way", list(COMPILED))
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_models_give_the_same_boxes(make_model: Make, way: str, backend: str) -> None:
    """Within a thousandth of a pixel, as docs/predict.md states."""
    model = make_model()
    expected = model.predict(PIXELS, EXPRESSIONS)
    found = COMPILED[way](model, backend).predict(PIXELS, EXPRESSIONS)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.present, expected.present, atol=1e-4)


def test_the_number_of_threads_leaves_the_boxes(make_model: Make) -> None:
    """Within a thousandth of a pixel, as docs/predict.md states."""
    model, before, found = make_model(), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(model.predict([PIXELS] * 5, [EXPRESSIONS] * 5))
    finally:
        torch.set_num_threads(before)
    for some in found[1:]:
        np.testing.assert_allclose(np.stack(some), np.stack(found[0]), atol=1e-3)


def test_threads_get_equal_answers(make_model: Make) -> None:
    model = make_model()
    expected = model.predict(PIXELS, EXPRESSIONS)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(model.predict, PIXELS, EXPRESSIONS) for _ in range(12)]
    for each in asked:
        np.testing.assert_array_equal(each.result(), expected)


def test_a_model_in_half_precision_leaves_others_as_they_are(make_model: Make) -> None:
    signs._kept.clear()
    expected = make_model().predict(PIXELS, EXPRESSIONS).present
    signs._kept.clear()
    make_model().half().predict(PIXELS, EXPRESSIONS)
    np.testing.assert_array_equal(make_model().predict(PIXELS, EXPRESSIONS).present, expected)


def test_another_model_in_another_thread_takes_no_embeddings_away(
    make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cached embeddings of one text tower may vanish while another thread uses a second one."""
    model = make_model()
    expected = model.predict(PIXELS, EXPRESSIONS).present

    class Dropped(dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            pass

    monkeypatch.setattr(signs, "_kept", Dropped())
    np.testing.assert_array_equal(model.predict(PIXELS, EXPRESSIONS).present, expected)


def test_answers_as_others_give_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other libraries get corners (xyxy), whatever the format of the predictions."""
    sides = np.array([[1, 2, 3.4, 4], [5, 6, 7, 8]], np.float32)
    sure = np.array([0.25, 0.75], np.float32)
    found = Predictions(sides, sure, sure, ("a", "b"), (20, 20), {}, "xywh")
    assert found.to_hf() == [
        {"score": 0.75, "label": "b", "box": {"xmin": 5, "ymin": 6, "xmax": 12, "ymax": 14}},
        {"score": 0.25, "label": "a", "box": {"xmin": 1, "ymin": 2, "xmax": 4, "ymax": 6}},
    ]
    fake = SimpleNamespace(Detections=lambda **given: given)
    monkeypatch.setitem(sys.modules, "supervision", fake)
    given = found.to_supervision()
    np.testing.assert_allclose(given["xyxy"], [[1, 2, 4.4, 6], [5, 6, 12, 14]])
    assert given["data"]["class_name"].tolist() == ["a", "b"]
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match="pip install supervision"):
        found.to_supervision()
