"""The stream of decoded images: its order, its errors, and how far it decodes ahead."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.tiny import make_model

from clipvg.data import load_square
from clipvg.data.image import decode
from clipvg.errors import InputError
from clipvg.features.images import load_images, load_squares
from clipvg.features.keys import pixels_key


def name(path: Path) -> str:
    if path.name == "bad":
        raise InputError("cannot be read")
    return path.name


@pytest.mark.parametrize("workers", [0, 1, 3, None])
def test_chunks_come_in_order_and_errors_in_their_place(workers: int | None) -> None:
    chunks = [(1, [Path("a"), Path("bad"), Path("b")]), (2, []), (3, [Path("c")])]
    found = list(decode(chunks, name, workers=workers))
    assert [chunk for chunk, _ in found] == [1, 2, 3]
    shown = [[str(image) for image in images] for _, images in found]
    assert shown == [["a", "cannot be read", "b"], [], ["c"]]
    assert isinstance(found[0][1][1], InputError)


def test_one_chunk_is_decoded_ahead() -> None:
    asked: list[int] = []

    def chunks():
        for number in range(5):
            asked.append(number)
            yield number, [Path("a")]

    with closing(decode(chunks(), name, workers=2)) as stream:
        next(stream)
        assert asked == [0, 1]
        next(stream)
        assert asked == [0, 1, 2]


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        list(decode([(0, [Path("a")])], lambda path: 1 // 0, workers=1))


def test_a_square_for_each_kind_of_model(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (40, 20), "red").save(path, exif=exif)
    models = [make_model(), make_model(1), make_model(preset="published")]
    squares = load_squares(path, models)
    assert list(squares) == [pixels_key(models[0]), pixels_key(models[2])]
    for model in models:
        alone = load_square(path, model.backbone.image_size, model.preset)
        square = squares[pixels_key(model)]
        assert torch.equal(square.pixels, alone.pixels)
        assert square.box == alone.box
    sizes = {rule: image.size for rule, image in load_images(path, [False, True]).items()}
    assert sizes == {False: (40, 20), True: (20, 40)}
