"""The default template: expressions as people write them, each for one box."""

from __future__ import annotations

import pytest

from clipvg.pseudo import Detection, Observation, Options
from clipvg.pseudo.template import default
from clipvg.pseudo.template.names import may_mean, with_article


def say(
    *found: Detection,
    attributes: tuple[Detection, ...] = (),
    **options: object,
) -> dict[int, list[str]]:
    """Return the expressions of each detection in an image of 600 × 400 pixels."""
    seen = Observation("a.jpg", 600, 400, found, attributes)
    spoken: dict[int, list[str]] = {}
    for one in default(seen, Options(**options)):
        spoken.setdefault(one.detection, []).append(one.expression)
        assert one.box == found[one.detection].box
    return spoken


def dog(x: float, score: float = 0.9, width: float = 80, height: float = 100) -> Detection:
    return Detection("dog", (x, 300 - height, x + width, 300), score)


def person(x: float, name: str = "person", height: float = 200) -> Detection:
    return Detection(name, (x, 350 - height, x + 80, 350), 0.8)


def test_the_only_one_of_its_class_is_called_by_its_name() -> None:
    assert say(dog(100)) == {0: ["dog"]}


def test_two_are_told_apart_by_side_and_count() -> None:
    spoken = say(dog(50), dog(450))
    assert spoken[0] == ["left dog", "dog on the left", "left one of the two dogs"]
    assert spoken[1] == ["right dog", "dog on the right", "right one of the two dogs"]


def test_a_row_of_three_has_a_middle() -> None:
    spoken = say(dog(20), dog(260), dog(500))
    assert spoken[1] == [
        "middle dog",
        "dog in the middle",
        "middle one of the three dogs",
        "second dog from the left",
        "second dog from the right",
    ]
    assert spoken[0] == ["leftmost dog", "dog on the far left", "leftmost of the three dogs"]


def test_ordinals_count_from_the_nearer_side() -> None:
    spoken = say(*(dog(x) for x in (10, 130, 250, 370, 490)), objects=5)
    assert "second dog from the left" in spoken[1]
    assert "third dog from the left" in spoken[2]
    assert "second dog from the right" in spoken[3]
    assert not [text for text in spoken[0] if "from" in text]


def test_the_third_beside_another_is_not_in_the_middle() -> None:
    spoken = say(dog(20), dog(30, height=95), dog(500))
    assert not [text for texts in spoken.values() for text in texts if "middle" in text]


def test_man_and_person_are_one_group_but_man_and_woman_are_not() -> None:
    both = say(person(20, "man"), person(450, "person"))
    assert "man" not in both[0]
    assert both[0][0] == "left man"
    assert say(person(20, "man"), person(450, "woman")) == {0: ["man"], 1: ["woman"]}


def test_sizes_of_things_need_a_clear_difference() -> None:
    big = Detection("bowl", (20, 100, 220, 300), 0.9)
    small = Detection("bowl", (450, 200, 550, 300), 0.9)
    spoken = say(big, small)
    assert {"bigger bowl", "larger bowl"} <= set(spoken[0])
    assert "smaller bowl" in spoken[1]
    alike = say(big, Detection("bowl", (400, 110, 580, 300), 0.9))
    assert not [text for texts in alike.values() for text in texts if "bigger" in text]


def test_what_the_edge_cuts_off_is_not_called_small() -> None:
    cut = Detection("bowl", (540, 200, 600, 320), 0.9)
    spoken = say(Detection("bowl", (20, 100, 220, 300), 0.9), cut)
    assert "smaller bowl" not in spoken[1]


def test_vertical_words_go_by_height() -> None:
    upper = Detection("clock", (250, 20, 350, 100), 0.9)
    lower = Detection("clock", (250, 300, 350, 380), 0.9)
    spoken = say(upper, lower)
    assert spoken[0] == ["top clock", "clock at the top"]
    assert spoken[1] == ["bottom clock", "clock at the bottom"]


def test_a_near_person_is_in_front() -> None:
    far = Detection("person", (420, 160, 470, 250), 0.8)
    spoken = say(person(50, height=330), far)
    assert "person in front" in spoken[0]
    assert "person in the background" in spoken[1]


def test_suppression_is_greedy() -> None:
    # b overlaps a and c, which do not overlap each other: only b goes.
    a = Detection("dog", (100, 100, 300, 300), 0.9)
    b = Detection("dog", (180, 100, 380, 300), 0.8)
    c = Detection("dog", (260, 100, 460, 300), 0.7)
    assert set(say(a, b, c)) == {0, 2}


def test_a_faint_rival_takes_the_bare_name() -> None:
    spoken = say(dog(50), dog(450, score=0.3), min_score=0.4)
    assert spoken == {0: ["dog on the left"]}
    assert say(dog(50), dog(450, score=0.1), min_score=0.4) == {0: ["dog"]}


def test_a_part_inside_its_like_is_not_described() -> None:
    part = Detection("person", (120, 120, 180, 250), 0.7)
    spoken = say(Detection("person", (100, 50, 300, 380), 0.9), part)
    assert 1 not in spoken
    assert "person" not in spoken.get(0, [])


def test_attributes_stand_where_people_put_them_and_never_twice() -> None:
    red = Detection("car", (10, 200, 160, 300), 0.9, {"red": 0.9})
    assert say(red)[0] == ["car", "red car"]
    standing = Detection("dog", (10, 200, 160, 300), 0.9, {"standing": 0.9})
    assert say(standing)[0] == ["dog", "dog standing"]
    orange = Detection("orange", (10, 200, 160, 300), 0.9, {"orange": 0.9, "up": 0.5})
    assert say(orange)[0] == ["orange"]


def test_the_best_attribute_of_the_best_match_counts() -> None:
    car = Detection("car", (10, 200, 160, 300), 0.9)
    close = Detection("car", (10, 200, 160, 299), 0.5, {"blue": 0.6, "white": 0.5})
    loose = Detection("car", (10, 200, 130, 300), 0.9, {"green": 0.9})
    assert say(car, attributes=(close, loose))[0] == ["car", "blue car"]


def test_an_attribute_tells_apart_only_what_has_another() -> None:
    red = Detection("car", (10, 200, 160, 300), 0.9, {"red": 0.9})
    blue = Detection("car", (400, 200, 550, 300), 0.9, {"blue": 0.9})
    unknown = Detection("car", (400, 200, 550, 300), 0.9)
    assert "red car" in say(red, blue)[0]
    assert "red car" not in say(red, unknown)[0]
    assert "red car on the left" in say(red, unknown)[0]


def test_clothes_and_bags() -> None:
    man = Detection("man", (50, 50, 200, 390), 0.9)
    other = Detection("man", (400, 50, 550, 390), 0.9)
    shirt = Detection("shirt", (70, 120, 180, 220), 0.6, {"white": 0.8})
    hat = Detection("hat", (100, 50, 150, 80), 0.6)
    spoken = say(man, other, shirt, hat)
    assert {"man in a white shirt", "man with a hat"} <= set(spoken[0])
    assert "man in a shirt" not in spoken[0]  # it tells nobody apart
    assert not [text for text in spoken[1] if "shirt" in text or "hat" in text]


def test_a_garment_of_two_people_belongs_to_neither() -> None:
    one = Detection("man", (50, 50, 300, 390), 0.9)
    other = Detection("woman", (180, 60, 480, 390), 0.8)
    vest = Detection("vest", (200, 150, 280, 220), 0.6)
    assert not [t for texts in say(one, other, vest).values() for t in texts if " in a" in t]
    assert "man in a vest" in say(one, Detection("vest", (100, 150, 150, 220), 0.6))[0]


def test_several_people_are_not_dressed_alike() -> None:
    vest = Detection("vest", (100, 150, 150, 220), 0.6)
    assert say(Detection("people", (50, 50, 300, 390), 0.9), vest)[0] == ["people"]


def test_the_background_is_no_object() -> None:
    assert say(Detection("__background__", (50, 50, 300, 390), 0.9)) == {}


def test_empty_garments_are_no_crash() -> None:
    say(person(50, "man"), Detection("hat", (60, 160, 60, 180), 0.6))


def test_a_landmark_is_unique_level_and_near() -> None:
    bench = Detection("bench", (200, 220, 330, 310), 0.9)
    near, far = dog(110), dog(480)
    spoken = say(near, far, bench)
    assert "dog next to the bench" in spoken[0]
    assert "dog next to the bench" not in spoken[1]


def test_small_objects_are_rivals_without_being_described() -> None:
    tiny = Detection("dog", (500, 200, 530, 230), 0.9)
    spoken = say(dog(50), tiny)
    assert set(spoken) == {0}
    assert "dog" not in spoken[0]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_no_expression_is_said_of_two_boxes(count: int) -> None:
    spoken = say(*(dog(20 + 110 * i, width=90) for i in range(count)), objects=count)
    texts = [text for texts in spoken.values() for text in texts]
    assert len(texts) == len(set(texts))


def test_ambiguous_expressions_are_kept_on_request() -> None:
    spoken = say(dog(50), dog(450), ambiguous="keep")
    assert spoken[0][0] == spoken[1][0] == "dog"


def test_words() -> None:
    assert with_article("orange shirt") == "an orange shirt"
    assert with_article("uniform") == "a uniform"
    assert with_article("blue jeans") == "blue jeans"
    assert may_mean("glass", "wine glass")
    assert not may_mean("dog", "hot dog stand")
