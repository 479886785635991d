"""The published template generator, against what the published program gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipvg import LabelTable
from clipvg.errors import InputError
from clipvg.pseudo import Detection, Observation, ObservationTable, Options
from clipvg.pseudo.generate import generate
from clipvg.pseudo.observation import observation_from_dict
from clipvg.pseudo.template import published
from clipvg.runtime.unpickle import read_pickle

GOLDEN = Path(__file__).parents[1] / "data" / "pseudo"
PUBLISHED = Options("published")


def load(name: str) -> list[dict[str, Any]]:
    return json.loads((GOLDEN / name).read_text())


def observe(case: dict[str, Any]) -> Observation:
    keys = ("width", "height", "detections", "attribute_detections")
    return observation_from_dict({"image": case["file"], **{key: case[key] for key in keys}})


def table_of(name: str) -> ObservationTable:
    return ObservationTable.from_observations(map(observe, load(name)))


@pytest.mark.parametrize(("name", "images"), [("synthetic.json", 126), ("photos.json", 24)])
def test_candidates_equal_the_published_ones_in_order(name: str, images: int) -> None:
    cases = load(name)
    assert len(cases) == images
    labels = generate(table_of(name), options=PUBLISHED, candidates=True)
    expected = [
        (case["file"], chosen["object"], text)
        for case in cases
        for chosen in case["out"]["candidates"]
        for text in chosen["expressions"]
    ]
    columns = [labels.table[key].to_pylist() for key in ("image", "pseudo.detection", "expression")]
    assert list(zip(*columns, strict=True)) == expected


@pytest.mark.parametrize("name", ["synthetic.json", "photos.json"])
def test_the_draw_equals_the_published_one_in_order(name: str) -> None:
    cases = load(name)
    labels = generate(table_of(name), options=PUBLISHED)
    rows = labels.table.to_pylist()
    drawn = [(row["image"], row["pseudo.detection"], row["expression"]) for row in rows]
    expected = [
        (case["file"], index, text) for case in cases for _, index, text in case["out"]["sampled"]
    ]
    assert drawn == expected
    for row, case_box in zip(rows, _boxes(cases), strict=True):
        assert row["box"] == case_box


def _boxes(cases: list[dict[str, Any]]) -> list[list[float]]:
    boxes = []
    for case in cases:
        for _, index, _ in case["out"]["sampled"]:
            changed = case["out"]["boxes"].get(str(index))
            boxes.append([float(v) for v in changed or case["detections"][index]["box"]])
    return boxes


def test_failures_are_refused_by_name_and_the_rest_runs() -> None:
    for case in load("failures.json"):
        seen = observe(case)
        if case["error"]:
            with pytest.raises(InputError, match=rf"{case['file']}: detection 1 .* no area"):
                published(seen, PUBLISHED)
        else:
            made = [[one.expression, list(one.box)] for one in published(seen, PUBLISHED)]
            assert made == case["labels"], case["rule"]


def test_records_of_every_data_set_equal_the_published_ones(tmp_path: Path) -> None:
    golden = json.loads((GOLDEN / "records.json").read_text())
    made = golden["generated"]
    labels = LabelTable.from_columns(
        image=[record[0] for record in made],
        expression=[record[3] for record in made],
        box=[record[2] for record in made],
    )
    for case in golden["after_post_processing"]:
        path = tmp_path / f"{case['dataset']}_train_pseudo.pth"
        labels.write(path)
        records = [list(record) for record in read_pickle(path, "labels")]
        assert records == case["records"], case["dataset"]


def test_a_man_with_a_hat_beside_another() -> None:
    seen = Observation(
        "a.jpg",
        400,
        400,
        (
            Detection("man", (10, 100, 110, 390), 0.9),
            Detection("man", (250, 100, 350, 390), 0.8),
            Detection("hat", (40, 100, 80, 130), 0.7),
        ),
    )
    first = [one.expression for one in published(seen, PUBLISHED) if one.detection == 0]
    assert first[:6] == [
        "man", "man left", "man on the left", "left man", "man hat", "hat man",
    ]  # fmt: skip
    assert first[6:] == [
        "man hat left", "man left hat", "hat man left", "hat left man", "left man hat",
        "left hat man", "man hat on the left", "man on the left hat", "hat man on the left",
    ]  # fmt: skip
