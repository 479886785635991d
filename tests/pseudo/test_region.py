"""Descriptions of single boxes as labels, and images that could not be observed."""

from __future__ import annotations

import json

import pytest

from clipvg import generate, read_observations
from clipvg.pseudo import Candidate, Detection, Observation, ObservationTable, Options
from clipvg.pseudo.region import as_expression

BOXES = [(20 + 110 * i, 200, 110 + 110 * i, 300) for i in range(3)]
SAID = ["The brown dog lying down.", "a dog with a ball", "A dog with a ball."]


def seen(scores=(0.9, 0.8, 0.7), said=SAID) -> ObservationTable:
    found = tuple(Detection("dog", box, p) for box, p in zip(BOXES, scores, strict=True))
    made = tuple(
        Candidate(text, box, "described", i)
        for i, (text, box) in enumerate(zip(said, BOXES, strict=True))
    )
    one = Observation("a.jpg", 600, 400, found, candidates={"region": made})
    return ObservationTable.from_observations([one])


def test_what_is_said_of_one_box_becomes_its_label() -> None:
    labels = generate(seen(), ["region"])
    assert labels.expressions == ["brown dog lying down"]  # the others cannot be told apart
    assert labels.table["pseudo.detection"].to_pylist() == [0]
    assert labels.table["pseudo.rule"].to_pylist() == ["described"]
    both = generate(seen(), ["region"], options=Options(ambiguous="keep"))
    assert len(both) == 3


def test_faint_boxes_are_not_described_and_numbers_stay() -> None:
    labels = generate(seen((0.9, 0.3, 0.7)), ["region"], options=Options(min_score=0.5))
    assert labels.table["pseudo.detection"].to_pylist() == [0, 2]


@pytest.mark.parametrize(
    ("description", "expression"),
    [
        ("This image shows a man in a red shirt. He smiles.", "man in a red shirt"),
        ("  a close-up of the cat ", "cat"),
        ('"Two dogs, both brown"', "Two dogs, both brown"),
        ("There is a photo of an old car!", "old car"),
        ("the", "the"),
        ("", ""),
        ("a dog " * 15, ""),
        ("the 3.5 cm screw", "3.5 cm screw"),
    ],
)
def test_descriptions_are_shortened_to_what_people_say(description: str, expression: str) -> None:
    assert as_expression(description) == expression


def test_images_that_could_not_be_looked_at_are_left_out_and_told(tmp_path) -> None:
    path = tmp_path / "seen.jsonl"
    seen().write(path)
    with path.open("a") as file:
        file.write(json.dumps({"image": "b.jpg", "unobserved": "b.jpg: damaged"}) + "\n")
    found = read_observations(path)
    assert [one.image for one in found] == ["a.jpg"]
    assert found.dropped == (f"{path}: line 2: b.jpg: damaged",)


def test_candidates_of_several_files_keep_their_detections(tmp_path) -> None:
    first, second = tmp_path / "detections.jsonl", tmp_path / "regions.jsonl"
    box = [5, 5, 90, 90]
    line = {"image": "a.jpg", "width": 600, "height": 400}
    first.write_text(json.dumps({**line, "detections": [{"class": "cat", "box": box}] * 2}) + "\n")
    seen().write(second)
    (joined,) = read_observations([first, second])
    about = [joined.detections[one.detection].box for one in joined.candidates["region"]]
    assert about == [one.box for one in joined.candidates["region"]]


def test_a_description_of_nothing_that_is_there_counts() -> None:
    one = Observation(
        "a.jpg", 600, 400, candidates={"region": (Candidate("red kite", BOXES[0], "x", 7),)}
    )
    labels = generate(
        ObservationTable.from_observations([one]), ["region"], options=Options(min_score=0.9)
    )
    assert labels.expressions == ["red kite"]
