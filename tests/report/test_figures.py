import sys

import numpy as np
import pytest

from clipvg.errors import InputError
from clipvg.reliability import ScoreMatrix
from clipvg.report.canvas import save_figure
from clipvg.report.figures import reliability_histogram, score_matrix_figure, training_curves
from clipvg.report.selection import Curve, performance_figure
from clipvg.report.style import BLUE


def texts(figure):
    """Return everything that is written on a figure."""
    found = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        found += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        found += [text.get_text() for text in axes.texts]
        if axes.get_legend() is not None:
            found += [text.get_text() for text in axes.get_legend().get_texts()]
    return " | ".join(found)


def test_histogram_counts_correct_and_wrong_labels():
    reliability = np.array([0.9, 0.8, 0.1, 0.5, np.nan], np.float32)
    correct = np.array([True, True, False, False, False])

    figure = reliability_histogram(reliability, correct=correct, threshold=0.5, bins=10)

    written = texts(figure)
    assert "correct (2)" in written
    assert "wrong (2)" in written
    assert "not scored (1)" in written
    assert "h = 0.5, keeps 75 %" in written
    heights = [patch.get_height() for patch in figure.axes[0].patches]
    assert sum(heights) == 4


def test_histogram_without_truth_is_one_set_of_bars():
    figure = reliability_histogram(np.linspace(0, 1, 11), bins=10)
    assert len(figure.axes[0].patches) == 10
    assert "labels (11)" in texts(figure)


def test_labels_without_overlap_are_written_not_drawn():
    values = np.r_[np.zeros(300), np.random.default_rng(0).beta(5, 2, 100)]
    figure = score_matrix_figure(ScoreMatrix(("a", "b"), np.stack([values, np.zeros(400)])))
    written = texts(figure)
    assert "N = 400\nr ≥ 0.5: 23 %\nr = 0: 75 %, not drawn" in written
    assert "r = 0: 100 %" in written
    x, density = figure.axes[0].lines[0].get_data()
    assert np.trapezoid(density, x) == pytest.approx(1, abs=0.02)
    assert x[np.argmax(density)] > 0.5
    assert not figure.axes[1].patches


def test_score_matrix_has_a_cell_for_each_pair_and_densities_of_mass_one():
    draw = np.random.default_rng(0)
    scores = np.full((2, 700), np.nan)
    scores[0] = [*draw.beta(5, 2, 400), *draw.beta(2, 5, 300)]
    scores[1, 400:450] = 0.5

    figure = score_matrix_figure(ScoreMatrix(("a", "b$"), scores, ["a"] * 400 + ["c"] * 300))

    assert len(figure.axes) == 4
    written = texts(figure)
    assert "N = 400" in written
    assert "not scored" in written
    for axes in (figure.axes[0], figure.axes[1], figure.axes[3]):
        x, density = axes.lines[0].get_data()
        assert np.trapezoid(density, x) == pytest.approx(1, abs=0.02)


def test_score_matrix_without_labels_is_refused():
    with pytest.raises(InputError, match="at least one"):
        score_matrix_figure(ScoreMatrix(("a",), np.zeros((1, 0))))


def test_the_chosen_cell_of_the_score_matrix_is_marked():
    scores = ScoreMatrix(("a", "b"), np.full((2, 6), 0.5), ["s"] * 3 + ["t"] * 3, [["s"], ["t"]])

    figure = score_matrix_figure(scores, sources=["t", "s"], chosen={"t": ("a", 0.4)})

    assert [axes.get_title() for axes in figure.axes[:2]] == ["labels: t", "labels: s"]
    marked = [[line.get_linestyle() for line in axes.lines].count("--") for axes in figure.axes]
    assert marked == [1, 0, 0, 0]
    assert figure.axes[1].lines[0].get_color() == figure.axes[2].lines[0].get_color() == BLUE


def test_curve_is_ordered_by_threshold_and_marks_the_choice():
    curve = Curve("c", [0.5, 0.4, 0.6], [0.3, 0.2, float("nan")], 0.5, [20, 30, 10], 0.1)
    figure = performance_figure([curve], metric="Acc@0.5", baseline="all labels")

    line, *others = figure.axes[0].lines
    assert list(line.get_xdata()) == [0.4, 0.5, 0.6]
    star = next(other for other in others if other.get_marker() == "*")
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (0.5, 0.3)
    written = texts(figure)
    assert "c: h = 0.5" in written
    assert "chosen" in written
    assert "all labels" in written
    assert "30" in written
    assert "10" not in written.replace("h = ", "")  # nothing was trained there


def test_training_curves_draw_what_was_recorded():
    rows = [{"epoch": e, "loss": 1 / (e + 1), "val_acc_0.5": None, "lr": 1e-4} for e in range(3)]
    rows[2].update({"val_acc_0.5": 0.4, "loss_giou": 0.9})

    loss, validation = training_curves(rows).axes

    assert [line.get_label() for line in loss.lines] == ["loss", "GIoU"]
    assert [line.get_label() for line in validation.lines] == ["Acc@0.5"]
    assert list(validation.lines[0].get_ydata()) == [0.4]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_saving_twice_gives_the_same_bytes(tmp_path, suffix):
    figure = reliability_histogram(np.linspace(0, 1, 50))
    first, second = (save_figure(figure, tmp_path / f"{name}{suffix}") for name in "ab")
    content = first.read_bytes()
    assert len(content) > 1000
    if suffix != ".svg":  # ids in an SVG are random
        assert content == second.read_bytes()


def test_an_unknown_ending_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.png, \.svg or \.pdf"):
        save_figure(reliability_histogram(np.zeros(2)), tmp_path / "figure.gif")


def test_drawing_leaves_pyplot_alone():
    reliability_histogram(np.zeros(3))
    assert "matplotlib.pyplot" not in sys.modules
