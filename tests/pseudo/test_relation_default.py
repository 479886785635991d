"""Relations as people write them, from scene graphs and from boxes, by hand."""

from __future__ import annotations

from clipvg.pseudo.observation import Box, Detection, Observation, Relation
from clipvg.pseudo.relation import default
from clipvg.pseudo.relation.wording import add_article, say_predicate
from clipvg.pseudo.sources import Options
from clipvg.pseudo.words import make_plural, make_singular

MAN, HAT, FAR = (10, 10, 60, 90), (20, 5, 50, 30), (70, 10, 99, 90)


def graph(*relations: Relation) -> Observation:
    return Observation("a.jpg", 100, 100, relations=relations)


def relate(
    subject: str, predicate: str, object_: str, box: Box = MAN, other: Box = HAT, score: float = 0.9
) -> Relation:
    return Relation(subject, predicate, object_, box, other, (score, score, score))


def words(observation: Observation, **options: object) -> list[str]:
    return [each.expression for each in default(observation, Options(**options))]


def boxes(*detections: tuple) -> Observation:
    return Observation(
        "a.jpg", 100, 100, tuple(Detection(name, box, *rest) for name, box, *rest in detections)
    )


class TestGraph:
    def test_wears_is_wearing_and_doubles_are_one(self) -> None:
        pair = relate("man", "wears", "hat"), relate("man", "wearing", "hat")
        assert words(graph(*pair)) == ["man wearing a hat"]

    def test_fillers_are_no_words(self) -> None:
        assert (
            words(graph(relate("N/A", "on", "hat"), relate("man", "__background__", "hat"))) == []
        )

    def test_nothing_relates_to_itself(self) -> None:
        assert words(graph(relate("man", "behind", "man", MAN, (11, 10, 60, 90)))) == []

    def test_another_of_the_same_name(self) -> None:
        assert words(graph(relate("man", "behind", "man", MAN, FAR))) == [
            "man behind the other man"
        ]

    def test_the_other_of_three_is_nobody(self) -> None:
        third = relate("man", "wearing", "hat", (80, 60, 99, 99), HAT)
        assert words(graph(relate("man", "behind", "man", MAN, FAR), third)) == [
            "man wearing a hat"
        ]

    def test_words_for_two_boxes_fit_neither(self) -> None:
        unsure = relate("man", "wearing", "hat", FAR, score=0.15)
        sure = relate("man", "wearing", "hat")
        assert words(graph(sure, unsure)) == []
        assert words(graph(sure, unsure), ambiguous="keep") == ["man wearing a hat"]

    def test_boxes_are_clipped(self) -> None:
        outside = relate("man", "on", "bench", (-5, 10, 120, 90))
        assert default(graph(outside), Options())[0].box == (0, 10, 100, 90)

    def test_articles(self) -> None:
        found = [
            words(graph(relate("man", predicate, thing)))[0]
            for predicate, thing in (
                ("riding", "elephant"), ("in", "street"), ("in", "jacket"), ("has", "hair"),
                ("wearing", "jean"), ("on back of", "horse"),
            )
        ]  # fmt: skip
        assert found == [
            "man riding an elephant",
            "man in the street",
            "man in a jacket",
            "man with hair",
            "man wearing jeans",
            "man on the back of the horse",
        ]

    def test_predicates_of_annotators_lose_what_is_doubled(self) -> None:
        assert say_predicate("is sitting ON a") == "sitting on"
        assert say_predicate("and") is None

    def test_the_least_score_counts_for_things(self) -> None:
        assert words(graph(relate("man", "on", "bench", score=0.5)), min_score=0.6) == []


class TestBoxes:
    def test_left_and_right_of_a_landmark(self) -> None:
        image = boxes(("dog", (5, 50, 25, 90)), ("bench", (50, 40, 95, 90)))
        assert words(image) == ["dog to the left of the bench", "bench to the right of the dog"]

    def test_what_a_second_dog_may_be_is_said_of_neither(self) -> None:
        dogs = ("dog", (2, 50, 20, 90)), ("dog", (28, 10, 40, 20), 0.35)
        image = boxes(*dogs, ("bench", (50, 40, 95, 90)))
        assert "dog to the left of the bench" not in words(image, min_score=0.4)
        assert "dog to the left of the bench" in words(image, min_score=0.6)

    def test_two_benches_are_no_landmark(self) -> None:
        benches = ("bench", (40, 40, 60, 90)), ("bench", (70, 40, 95, 90))
        assert not any("the bench" in text for text in words(boxes(("dog", MAN), *benches)))

    def test_on_and_in(self) -> None:
        table = boxes(("cup", (40, 30, 50, 50)), ("dining table", (10, 40, 90, 95)))
        assert words(table) == ["cup on the table"]
        bowl = boxes(("orange", (40, 40, 55, 55)), ("bowl", (30, 35, 70, 70)))
        assert words(bowl) == ["orange in the bowl"]

    def test_behind_is_farther_on_the_ground(self) -> None:
        image = boxes(("person", (40, 20, 60, 90)), ("car", (10, 30, 90, 70)))
        assert words(image) == ["person in front of the car", "car behind the person"]

    def test_who_has_what(self) -> None:
        image = boxes(("person", (40, 20, 60, 90)), ("umbrella", (35, 10, 65, 30)))
        assert words(image) == ["person with an umbrella"]

    def test_two_of_a_kind_by_size(self) -> None:
        image = boxes(("zebra", (5, 20, 45, 90)), ("zebra", (60, 60, 80, 90)))
        assert words(image) == [
            "zebra to the left of the other zebra",
            "zebra to the right of the other zebra",
            "the bigger of the two zebras",
            "the smaller of the two zebras",
        ]

    def test_three_of_a_kind(self) -> None:
        image = boxes(*[("person", (x, 20, x + 15, 80)) for x in (5, 40, 75)])
        assert words(image) == [
            "person between the other two people",
            "person to the left of the other people",
            "person to the right of the other people",
        ]

    def test_the_closest_of_several(self) -> None:
        dogs = [("dog", (x, 60, x + 10, 80)) for x in (30, 60, 85)]
        assert "dog closest to the bench" in words(boxes(("bench", (2, 50, 25, 90)), *dogs))
        near = [("dog", (x, 60, x + 10, 80)) for x in (35, 47, 85)]
        assert "dog closest to the bench" not in words(boxes(("bench", (2, 50, 25, 90)), *near))

    def test_next_to(self) -> None:
        dogs = ("dog", (30, 50, 48, 90)), ("dog", (88, 50, 99, 90))
        bench = ("bench", (2, 50, 25, 90))
        assert "dog next to the bench" in words(boxes(bench, *dogs))

    def test_people_of_all_names_are_rivals(self) -> None:
        image = boxes(
            ("man", (5, 50, 15, 90)), ("woman", (20, 50, 30, 90)), ("bench", (60, 50, 95, 90))
        )
        assert not any("left of the bench" in text for text in words(image))

    def test_the_detection_is_named(self) -> None:
        image = boxes(("bench", (50, 40, 95, 90)), ("dog", (5, 50, 25, 90)))
        assert {
            (each.expression, each.detection, each.rule) for each in default(image, Options())
        } == {
            ("bench to the right of the dog", 0, "right"),
            ("dog to the left of the bench", 1, "left"),
        }

    def test_a_graph_comes_first(self) -> None:
        detections = (Detection("dog", (5, 50, 25, 90)), Detection("bench", (50, 40, 95, 90)))
        image = Observation("a.jpg", 100, 100, detections, relations=(relate("man", "on", "bus"),))
        assert words(image) == ["man on the bus"]

    def test_nothing_to_say(self) -> None:
        assert words(boxes()) == []
        assert words(boxes(("dog", (5, 50, 25, 90)))) == []


def test_plurals_and_articles() -> None:
    names = ["dog", "bus", "berry", "wine glass", "sheep", "person", "knife"]
    assert [make_plural(name) for name in names] == [
        "dogs", "buses", "berries", "wine glasses", "sheep", "people", "knives",
    ]  # fmt: skip
    assert [add_article(name) for name in ("orange", "TV", "scissors", "uniform")] == [
        "an orange", "a TV", "scissors", "a uniform",
    ]  # fmt: skip
    assert [make_singular(word) for word in ("scarves", "wives")] == ["scarf", "wife"]
