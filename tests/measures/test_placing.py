"""Expressions are placed on the observed boxes that they match, by words and by appearance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tiny import make_model

from clipvg.cli import main
from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.measures import RegionTextMatch
from clipvg.measures.match.placing import place_expressions
from clipvg.pseudo import Detection, Observation, ObservationTable
from clipvg.reliability import Scores
from clipvg.reliability.batch import Batch
from clipvg.training.matching import MatcherInputs

LOOKS = {
    "dog": (230, 20, 20),
    "cat": (20, 200, 20),
    "cow": (20, 20, 230),
    "car": (250, 250, 250),
    "boat": (5, 5, 5),
}
PLACES = ((2, 2, 30, 30), (34, 2, 62, 30), (2, 34, 30, 62))
QUICK = {"folds": 2, "rounds": 2, "epochs": 150, "width": 32}


def write(folder: Path, images: int) -> tuple[LabelTable, ObservationTable]:
    """Write images of three things that look different, and labels that name two of them.

    In every third image the detections name each object just a thing.
    """
    folder.mkdir()
    draw = np.random.default_rng(0)
    rows, seen = [], []
    for number in range(images):
        pixels = draw.integers(90, 160, (64, 64, 3), dtype=np.uint8)
        names = draw.permutation([*LOOKS])[:3]
        for name, place in zip(names, PLACES, strict=True):
            x1, y1, x2, y2 = place
            pixels[y1:y2, x1:x2] = LOOKS[name]
            if place != PLACES[2]:
                rows.append((f"{number}.png", str(name), place))
        Image.fromarray(pixels).save(folder / f"{number}.png")
        found = [
            Detection(str(name) if number % 3 else "thing", place, 0.9)
            for name, place in zip(names, PLACES, strict=True)
        ]
        seen.append(Observation(f"{number}.png", 64, 64, tuple(found)))
    image, expression, box = zip(*rows, strict=True)
    labels = LabelTable.from_columns(
        images=folder, image=image, expression=[f"the {name}" for name in expression], box=box
    )
    return labels, ObservationTable.from_observations(seen)


class Sighted(RegionTextMatch):
    """A matcher that tells a box's content by its middle pixel, in features as towers give."""

    def observe(self, batch: Batch) -> np.ndarray:
        draw, found = np.random.default_rng(batch.rows), []
        looks = np.random.default_rng(0).normal(size=(len(LOOKS), 20))
        pixels = np.stack([np.asarray(image[True]) for image in batch.chunk.images])
        for row, image in zip(batch.rows, batch.image, strict=True):
            x1, y1, x2, y2 = batch.labels.boxes(rows=np.array([row]))[0]
            colour = pixels[image][int(y1 + y2) // 2, int(x1 + x2) // 2]
            apart = [np.abs(colour.astype(int) - each).sum() for each in LOOKS.values()]
            regions = draw.normal(size=(3, 9, 20)) * 0.3
            regions[0] += looks[np.argmin(apart)]
            box = np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]) / 64
            found.append(np.concatenate([np.tile(box, 3), regions.ravel()]))
        return np.stack(found)


def test_words_place_expressions_and_what_they_teach_places_others(tmp_path: Path) -> None:
    labels, seen = write(tmp_path / "images", 48)
    nowhere = labels.with_column("box", [[0, 0, 1, 1]] * len(labels))
    found = place_expressions(nowhere, seen, Sighted(make_model(), **QUICK))
    assert found.expressions == labels.expressions
    assert found.image_names == labels.image_names
    unnamed = np.array([int(name[:-4]) % 3 == 0 for name in found.image_names])
    right = (found.boxes() == labels.boxes()).all(axis=1)
    assert right[~unnamed].mean() > 0.9
    assert right[unnamed].mean() > 0.5
    assert set(found.sources()) == {"matched"}
    score = found.reliability("matched")
    assert ((score >= 0) & (score <= 1)).all()
    assert score[right].mean() > score[~right].mean() or right.all()


class Trusting(Sighted):
    """A matcher that rates all pairs equally, without learning."""

    def judge(self, pairs: MatcherInputs, *args: object, **more: object) -> Scores:
        return Scores(np.ones(len(pairs.box_of), dtype=np.float32))


def test_boxes_end_with_the_image_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    labels, _ = write(tmp_path / "images", 3)
    (tmp_path / "images" / "1.png").write_bytes(b"no image")
    dogs = [Detection("dog", (-2.5, 2, 30, 70), 0.9), Detection("dog", (70, 2, 90, 30), 0.9)]
    seen = [Observation(f"{number}.png", 64, 64, tuple(dogs)) for number in range(2)]
    with pytest.warns(UserWarning, match=r"^4 of 6 expressions are left out.*such as '1.png'"):
        found = place_expressions(
            labels, ObservationTable.from_observations(seen), Trusting(make_model())
        )
    assert found.image_names == ["0.png", "0.png"]
    assert found.boxes().tolist() == [[0, 2, 30, 64]] * 2
    with pytest.raises(InputError, match=r"none of the images with objects can be read: .*1.png"):
        place_expressions(
            labels, ObservationTable.from_observations(seen[1:]), Trusting(make_model())
        )
    with pytest.raises(InputError, match="none of the 2 observed images"):
        place_expressions(
            labels.select([]), ObservationTable.from_observations(seen), Trusting(make_model())
        )


def test_observations_of_other_images_and_too_few(tmp_path: Path) -> None:
    labels, seen = write(tmp_path / "images", 4)
    others = ObservationTable.from_observations([Observation("other.png", 64, 64)])
    with pytest.raises(InputError, match=r"none of the 1 observed images.*check the images' names"):
        place_expressions(labels, others, RegionTextMatch(make_model()))
    with pytest.raises(InputError, match=r"too few to learn from; pass more images"):
        place_expressions(labels.select(range(3)), seen, RegionTextMatch(make_model()))


@pytest.mark.slow
def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    labels, seen = write(tmp_path / "images", 30)
    table, observed = tmp_path / "questions.csv", tmp_path / "seen.parquet"
    table.write_text(
        "image,expression\n"
        + "".join(f"{i},{e}\n" for i, e in zip(labels.image_names, labels.expressions, strict=True))
    )
    seen.write(observed)
    words = ["generate", "--observations", str(observed), "--out", str(tmp_path / "out.parquet")]
    words += ["--expressions", str(table)]
    given = [*words, "--images", str(tmp_path / "images"), "--backbone", "clipvg-tiny", "--quiet"]
    assert main([*given, "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["labels"] == {"matched": 60}
    assert len(read_labels(tmp_path / "out.parquet", images=tmp_path / "images")) == 60


def test_what_the_command_refuses(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, seen = write(tmp_path / "images", 2)
    table, observed = tmp_path / "questions.csv", tmp_path / "seen.parquet"
    table.write_text("image,sentence\n0.png,red thing\n")
    seen.write(observed)
    words = ["generate", "--observations", str(observed), "--out", str(tmp_path / "out.parquet")]
    words += ["--expressions", str(table)]
    for more, said in (
        ([], "--expressions without --images"),
        (["--images", str(tmp_path / "images"), "--candidates"], "--candidates is for making"),
        (["--images", str(tmp_path / "images"), "--sources", "caption"], "--sources is for making"),
        (["--images", str(tmp_path / "images"), "--preset", "published"], "--preset is for making"),
        (["--images", str(tmp_path / "images"), "--per_image", "9"], "--per_image is for making"),
        (["--images", str(tmp_path / "images"), "--ambiguous", "keep"], "--ambiguous is for mak"),
    ):
        assert main([*words, *more]) == 2
        assert said in capfd.readouterr().err
    assert main([*words, "--images", str(tmp_path / "images")]) == 2
    assert "no column 'expression'" in capfd.readouterr().err
