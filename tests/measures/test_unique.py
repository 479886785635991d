"""The measure `Unique`: expressions against detections, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.one_label import written

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.measures import Unique
from clipvg.measures.match.features import BESIDE, with_observed
from clipvg.measures.specs import build_measures
from clipvg.pseudo import Detection, Observation, ObservationTable, Relation
from clipvg.reliability import Context, measure

LEFT, RIGHT, FAR = (0, 20, 20, 40), (60, 20, 80, 40), (180, 0, 200, 10)


def dog(box: tuple[float, ...], score: float = 1.0, **words: float) -> Detection:
    return Detection("dog", box, score, words)


def seen(*detections: Detection, **more: tuple) -> ObservationTable:
    return ObservationTable.from_observations([Observation("0.jpg", 200, 100, detections, **more)])


def labelled(expressions: list[str], box: tuple[float, ...] = LEFT) -> LabelTable:
    count = len(expressions)
    return written(expressions, [list(box)] * count, ["0.jpg"] * count)


def score(observations: ObservationTable, *expressions: str, box: tuple = LEFT) -> list[float]:
    return measure(Unique(observations), labelled([*expressions], box), Context()).values.tolist()


def test_a_word_that_fits_one_and_a_word_that_fits_two() -> None:
    alone, both = seen(dog(LEFT)), seen(dog(LEFT), dog(RIGHT, 0.5))
    # a model that is sure is wrong one time in ten: 0.9 for the name, 0.9 for the box
    assert score(alone, "dog", "the dog") == pytest.approx([0.81, 0.81])
    # half sure: the rival exists with 0.5, and is then a dog with 0.75, as the odds are 9 ** 0.5
    assert score(both, "dog") == pytest.approx([0.81 * (1 - 0.5 * 0.75)])


def test_place_size_and_order_single_one_out() -> None:
    big = (60, 0, 120, 60)
    two = seen(dog(LEFT), dog(big))
    found = score(two, "left dog", "dog on the right", "smaller dog", "the bigger of the two dogs")
    assert found == pytest.approx([0.81, 0.81 * 0.1, 0.81, 0.81 * 0.1])
    farther, nearer, fourth = score(two, "farther dog", "nearer dog", "4th dog from the left")
    assert (farther, nearer, fourth) == pytest.approx((0.81, 0.81 * 0.1, 0))  # there are only two
    # 6 of 200 pixels are half of a clear lead (0.06), so the rival may be ahead: 1/4
    near = seen(dog(LEFT), dog((6, 60, 26, 80)))
    assert score(near, "left dog") == pytest.approx([0.81 * (1 - 0.25 * 0.9)])
    three = seen(dog(LEFT), dog(RIGHT), dog((160, 20, 180, 40)))
    second, middle = score(three, "second dog from the left", "middle dog", box=RIGHT)
    assert second == pytest.approx(0.81 * 0.9)  # one dog comes before it, with 0.9
    assert middle == pytest.approx(0.81)


def test_attributes_that_the_own_box_contradicts_and_another_has() -> None:
    red, blue = dog(LEFT, red=0.9), dog(RIGHT, blue=0.9)
    found = score(seen(red, blue), "red dog", "blue dog")
    assert found == pytest.approx([0.81 * 0.9 * (1 - 0.9 * 0.1), 0.81 * 0.1 * (1 - 0.9 * 0.9)])
    # a dog of unknown colour may have either
    silent = seen(red, dog(RIGHT))
    assert score(silent, "red dog") == pytest.approx([0.81 * 0.9 * (1 - 0.9 * 0.5)])


def test_models_vote_and_an_object_is_seen_once_by_each() -> None:
    other = Detection("cat", (1, 20, 21, 40), 1.0)
    table = seen(dog(LEFT), attribute_detections=(other,))
    # one model calls it a dog, the other does not, and both see an object here: odds 9 · 9
    assert score(table, "dog") == pytest.approx([0.5 * 81 / 82])
    loose = seen(dog(LEFT), attribute_detections=(dog((0, 20, 20, 65)),))  # IoU 0.44
    assert score(loose, "dog") == pytest.approx([81 / 82 * 0.5])
    doubled = seen(dog(LEFT), dog((1, 20, 21, 40), 0.9))
    assert score(doubled, "dog") == pytest.approx([0.81])


def test_relations_of_geometry_and_of_a_graph() -> None:
    cat = Detection("cat", RIGHT)
    table = seen(dog(LEFT), cat, dog(FAR))
    left, right = score(table, "dog to the left of the cat", "dog right of the cat")
    # Own dog: left of the cat (0.9), or of the far dog if that is a cat (0.1), perhaps (0.75).
    # Far dog: left of the cat (0.9), or of the first dog if that is a cat (0.1); doubtful (0.1).
    # Cat, if it is a dog (0.1): doubtful for the first dog, perhaps left of the far one.
    own, far = 0.9 * (1 - 0.1 * (1 - 0.075)), 0.9 * (1 - 0.91 * 0.99)
    cat_too = 0.1 * (1 - 0.99 * 0.925)
    assert left == pytest.approx(own * 0.9 * (1 - far) * (1 - cat_too))
    assert right < 0.1
    edge = Relation("dog", "chases", "cat", LEFT, RIGHT)
    graph = seen(dog(LEFT), cat, dog(FAR), relations=(edge,))
    chasing, sees = score(graph, "dog chases the cat", "dog sees the cat")
    assert chasing > 0.5
    assert np.isnan(sees)


def test_what_nobody_saw_in_the_box_is_open() -> None:
    assert score(seen(dog(RIGHT)), "dog") == pytest.approx([0.5 * 0.5 * (1 - 0.9)])


def test_what_cannot_be_judged_says_why() -> None:
    two = seen(dog(LEFT), dog(RIGHT))
    texts = ["dogs", "frisbee", "dog with a frisbee", "two dogs"]
    found = measure(Unique(two), labelled(texts), Context())
    assert np.isnan(found.values).all()
    assert [found.reasons[row] for row in range(4)] == [
        "unique: its expression means several",
        "unique: no observation has a word for 'frisbee'",
        "unique: 'frisbee' may tell apart what the observations do not",
        "unique: its expression means several",
    ]
    # with one dog the frisbee changes nothing
    assert score(seen(dog(LEFT)), "dog with a frisbee") == pytest.approx([0.81])


def test_people_synonyms_and_words_of_place_alone() -> None:
    people = seen(Detection("person", LEFT), Detection("person", RIGHT))
    guy, alone = score(people, "guy on the left", "left")
    assert guy == pytest.approx(0.81)
    assert alone == pytest.approx(0.9)  # no noun: only the box counts


def test_observed_objects_that_no_label_shows_are_rivals_of_a_match() -> None:
    near, other = dog((1, 20, 21, 40)), Detection("cat", RIGHT, 0.6)
    labels = written(["dog", "cat"], [list(LEFT), list(LEFT)], ["0.jpg", "1.jpg"])
    found = with_observed(labels, seen(near, other))
    assert found.expressions == ["dog", "cat", "cat"]
    assert found.image_names == ["0.jpg", "1.jpg", "0.jpg"]
    np.testing.assert_allclose(found.boxes()[2], RIGHT)
    assert found.table.column(BESIDE).to_pylist() == [False, False, True]


def test_files_and_other_images(tmp_path: Path) -> None:
    path = tmp_path / "seen.parquet"
    seen(dog(LEFT)).write(path)
    (made,) = build_measures([f"unique,observations={path}"]).values()
    labels = written(["dog", "dog"], [list(LEFT)] * 2, ["0.jpg", "1.jpg"])
    found = measure(made, labels, Context())
    np.testing.assert_allclose(found.values, [0.81, np.nan], rtol=1e-6)
    assert found.reasons == {1: "unique: its image was not observed"}
    with pytest.raises(InputError, match=r"of 1 other images than these 1; .*'2.jpg'"):
        measure(made, written(["dog"], [list(LEFT)], ["2.jpg"]), Context())
    with pytest.raises(InputError, match=r"none\.parquet"):
        build_measures([f"unique,observations={tmp_path / 'none.parquet'}"])
