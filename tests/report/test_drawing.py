import numpy as np
import pytest
from PIL import Image

from clipvg.errors import InputError
from clipvg.report.drawing import Mark, draw_boxes, label_marks, save_image
from clipvg.report.heat import draw_heat
from clipvg.report.lettering import Lettering, readable
from clipvg.report.style import CYCLE, ROLES

BOX = (100, 50, 300, 250)


def colors_of(image):
    return {"#{:02X}{:02X}{:02X}".format(*color) for _, color in image.getcolors(1 << 20)}


def test_large_pictures_keep_their_pixels_and_the_box_is_where_it_should_be():
    image = Image.new("RGB", (400, 300), "black")
    drawn = draw_boxes(image, [Mark((100, 50, 300, 250))])
    assert drawn.size == (400, 300)
    row = np.asarray(drawn)[150].any(axis=1)
    assert row[100]
    assert row[300]
    assert not row[110:290].any()
    assert image.getcolors() == [(400 * 300, (0, 0, 0))]  # the given picture is left as it was


def test_roles_and_expressions_have_their_colours():
    image = Image.new("RGB", (400, 300), "black")
    marks = [Mark((20 + 120 * i, 60, 100 + 120 * i, 200), role=r) for i, r in enumerate(ROLES)]
    assert set(ROLES.values()) <= colors_of(draw_boxes(image, marks))
    boxes = [(20, 60, 100, 200), (140, 60, 220, 200)]
    assert set(CYCLE[:2]) <= colors_of(draw_boxes(image, label_marks(boxes, ["a", "b"])))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "CMYK", "P", "I;16"])
def test_every_mode_is_drawn(mode):
    drawn = draw_boxes(Image.new(mode, (50, 40)), [Mark((1, 1, 30, 30), "<a> & “b”")])
    assert drawn.mode == "RGB"
    assert drawn.size == (350, 280)  # enlarged by a whole factor


def test_a_picture_one_pixel_high_gets_room_for_its_label():
    drawn = draw_boxes(Image.new("RGB", (400, 1)), [Mark((0, 0, 100, 1), "thin")])
    assert drawn.width == 400
    assert drawn.height > 15


@pytest.mark.parametrize("size", [(10, 7), (40, 4000), (8000, 40), (3000, 2000)])
def test_long_expressions_stand_whole_below_an_image_of_any_shape(size):
    words = "the dog on the left of the two people who sit below the tall tree " * 3
    marks = label_marks([(1, 1, size[0] / 2, 6)] * 2, [words, "cat"], [0.93, 0.5])
    large = size[0] * max(1, -(-320 // max(size)))
    drawn = draw_boxes(Image.new("RGB", size), marks)
    strip = np.asarray(drawn)[-(drawn.height - size[1] * large // size[0]) :]
    assert drawn.width >= large
    assert drawn.height > size[1] * large // size[0]
    assert (strip < 50).all(axis=2).any()  # black letters


def test_a_word_as_long_as_a_book_is_cut():
    marks = label_marks([(1, 1, 90, 60)], ["w" * 200_000])
    assert draw_boxes(Image.new("RGB", (400, 300)), marks).height < 2000
    assert {len(line) for line in Lettering(16).wrap("w" * 5000, 300)[:-1]} == {
        max(n for n in range(99) if Lettering(16).width("w" * n) <= 300)
    }


def test_frames_of_equal_boxes_lie_around_each_other():
    image = Image.new("RGB", (400, 300), "black")
    drawn = np.asarray(draw_boxes(image, label_marks([(100, 100, 300, 250)] * 3, [""] * 3)))
    row = ["#{:02X}{:02X}{:02X}".format(*pixel) for pixel in drawn[175, :150]]
    assert [color for color in dict.fromkeys(row) if color in CYCLE] == [*CYCLE[2::-1]]


def test_a_tiny_box_has_a_ring():
    image = Image.new("RGB", (1000, 800), "black")
    drawn = np.asarray(draw_boxes(image, [Mark((500, 400, 503, 403))]))
    found = np.argwhere(drawn.any(axis=2))
    assert (np.ptp(found, axis=0) > 30).all()
    assert np.abs(found.mean(axis=0) - (401.5, 501.5)).max() < 3


def test_letters_of_any_script_are_drawn_and_emoji_named():
    letters = Lettering(16)
    assert readable("a 😀👍🏽 dog") == "a (grinning face)(thumbs up sign) dog"
    assert letters.width("собака") > letters.width("соба") > 0
    assert letters.wrap("one two three", letters.width("one two")) == ["one two", "three"]
    assert "".join(letters.wrap("x" * 90, 100)) == "x" * 90
    assert letters.wrap("", 100) == []


def test_scores_are_percentages():
    assert Mark((0, 0, 1, 1), "dog", score=0.931).text == "dog 93 %"
    assert Mark((0, 0, 1, 1), "dog", score=float("nan")).text == "dog"
    assert Mark((0, 0, 1, 1), score=0.5).text == "50 %"


def test_labels_of_equal_boxes_do_not_cover_each_other():
    image = Image.new("RGB", (400, 300), "black")
    box = (50, 60, 300, 250)
    drawn = np.asarray(draw_boxes(image, label_marks([box] * 4, ["first", "b", "c", "d"])))
    for color in CYCLE[:3]:  # their frames are covered, so the colour left is the label's
        value = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
        assert (drawn == value).all(axis=2).sum() > 100


def test_boxes_that_are_not_finite_are_left_out_and_outside_ones_do_no_harm():
    image = Image.new("RGB", (400, 300), "black")
    nothing = draw_boxes(image, [Mark((np.nan,) * 4, "x")])
    assert nothing.getcolors() == [(400 * 300, (0, 0, 0))]
    draw_boxes(image, [Mark((-50, -50, 900, 900), "x" * 500), Mark((10, 10, 10, 10), "empty")])


def test_saving_by_ending(tmp_path):
    image = Image.new("RGB", (20, 10))
    for name in ("a.png", "b.jpg", "c.webp"):
        with Image.open(save_image(image, tmp_path / "new" / name)) as written:
            assert written.size == (20, 10)
    with pytest.raises(InputError, match="change the ending"):
        save_image(image, tmp_path / "a.txt")


def test_heat_lies_where_it_is_high_and_each_expression_has_a_panel():
    image = Image.new("RGB", (400, 300), "black")
    maps = np.zeros((2, 3, 4))
    maps[0, :, 3], maps[1, 0, :] = 0.5, 0.1
    drawn = np.asarray(draw_heat(image, maps, label_marks([BOX, BOX], ["left", "top"]), gap=10))
    assert drawn.shape == (2 * 300 + 10, 400, 3)
    first, second = drawn[:300].max(2), drawn[310:].max(2)
    assert first[280, 390] > 150 > first[280, 10]
    assert second[10, 390] > 150 > second[280, 390]
    np.testing.assert_array_equal(drawn[302, 5], [255, 255, 255])
