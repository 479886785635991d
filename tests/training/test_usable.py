"""Labels that would stop a training are reported, or left out, before its first step."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from PIL import Image
from support.tiny import make_labels

import clipvg
from clipvg.data.preset import get_preset
from clipvg.errors import InputError
from clipvg.labels import LabelTable, check_labels
from clipvg.model import ModelOptions
from clipvg.model.tokenizer import Tokenizer
from clipvg.runtime.images import look_at_image
from clipvg.training.usable import usable_labels

DEFAULT, PUBLISHED = (Tokenizer(get_preset(name)) for name in ("default", "published"))
LONG = "a very long expression " * 40


@pytest.fixture
def labels(tmp_path: Path) -> LabelTable:
    """Eight labels on four images, one of them missing and one truncated."""
    table = make_labels(tmp_path, images=4, per_image=2)
    names, _ = table.distinct_images()
    (tmp_path / names[1]).unlink()
    file = tmp_path / names[2]
    file.write_bytes(file.read_bytes()[:-200])
    return table


def rows_on(labels: LabelTable, *images: int) -> list[int]:
    _, image_of = labels.distinct_images()
    return [row for row, image in enumerate(image_of) if image in images]


def test_all_that_cannot_be_read_is_named_at_once(labels: LabelTable) -> None:
    first = rows_on(labels, 1, 2)[0]
    with pytest.raises(InputError, match=rf"4 of 8 labels cannot be used \(row {first}: .*drop"):
        usable_labels(labels, DEFAULT)


def test_the_others_are_kept_in_order(labels: LabelTable) -> None:
    with pytest.warns(UserWarning, match="left out: 4 of 8 labels cannot be used"):
        kept = usable_labels(labels, DEFAULT, on_error="drop")
    assert list(kept) == list(labels.select(rows_on(labels, 0, 3)))


def test_expressions_too_long_stop_the_published_preset_alone(labels: LabelTable) -> None:
    good = labels.select(rows_on(labels, 0, 3))
    long = good.with_column("expression", ["dog", LONG, "cat", "sky"])
    assert usable_labels(long, DEFAULT) is long
    with pytest.raises(InputError, match=r"row 1: 'a very long .* has 162 tokens, more than 77"):
        usable_labels(long, PUBLISHED)
    with pytest.warns(UserWarning, match="left out: 1 of 4"):
        assert len(usable_labels(long, PUBLISHED, on_error="drop")) == 3


def test_nothing_left_and_unknown_words(labels: LabelTable) -> None:
    with pytest.raises(InputError, match="None is left"):
        usable_labels(labels.select(rows_on(labels, 1)), DEFAULT, on_error="drop")
    with pytest.raises(InputError, match="choose from 'raise', 'drop'"):
        usable_labels(labels, DEFAULT, on_error="ignore")


@pytest.fixture
def turned(tmp_path: Path) -> LabelTable:
    """A label on a photograph that is stored on its side, 60 x 40, and seen as 40 x 60."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40), "gray").save(tmp_path / "a.jpg", exif=exif)
    return LabelTable.from_columns(
        image=["a.jpg"], expression=["dog"], box=[[5, 45, 35, 60]], images=tmp_path
    )


def test_a_turned_photograph_is_checked_as_the_preset_sees_it(turned: LabelTable) -> None:
    assert look_at_image(turned.image_path("a.jpg")) == ((60, 40), True)
    upright = turned.with_column("width", [40]).with_column("height", [60])
    for table in (turned, upright):
        assert [found.kind for found in check_labels(table).findings] == ["exif"]
        found = {each.kind: each for each in check_labels(table, exif=False).findings}
        assert "(5, 45, 35, 60) of a 60x40 image" in found["outside"].message
        assert usable_labels(table, DEFAULT) is table
        with pytest.warns(UserWarning, match=r"EXIF rotates, the first on a\.jpg \(row 0\)"):
            usable_labels(table, PUBLISHED)
    stored = turned.with_column("width", [60]).with_column("height", [40])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        usable_labels(stored, PUBLISHED)  # the labels' sizes say which orientation they mean


def test_no_run_begins_on_labels_that_would_stop_it(labels: LabelTable, tmp_path: Path) -> None:
    small = ModelOptions(pretrained=None, width=16, layers=1, heads=2)
    options = {"backbone": "clipvg-tiny", "model": small, "out": tmp_path / "run"}
    for call in (clipvg.train, clipvg.adapt):
        with pytest.raises(InputError, match="4 of 8 labels cannot be used"):
            call(labels, **options)
    good = labels.select(rows_on(labels, 0, 3))
    with pytest.raises(InputError, match="4 of 8 labels cannot be used"):
        clipvg.train(good, validation=labels, **options)
    assert not (tmp_path / "run").exists()
