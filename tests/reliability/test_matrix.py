"""ScoreMatrix: cells, counts, columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.reliability import ScoreMatrix

SOURCES = ["template", "relation", "template", "relation"]
SCORES = np.array([[0.9, 0.1, np.nan, 0.5], [0.2, 0.8, 0.4, 1.0]], dtype=np.float32)


@pytest.fixture
def matrix() -> ScoreMatrix:
    return ScoreMatrix(
        ("t", "r"), SCORES, SOURCES, (("template",), ("relation",)), {2: "a.jpg: no such file"}
    )


@pytest.fixture
def labels() -> LabelTable:
    return LabelTable.from_columns(
        image=["a.jpg"] * 4, expression=list("wxyz"), box=[[0, 0, 2, 2]] * 4, source=SOURCES
    )


def test_cells(matrix: ScoreMatrix) -> None:
    assert matrix.sources == ("template", "relation")
    assert matrix.is_specific.tolist() == [[True, False], [False, True]]
    np.testing.assert_array_equal(matrix.cell("r", "relation"), np.float32([0.8, 1.0]))
    np.testing.assert_array_equal(matrix.specific("t"), np.float32([0.9, np.nan, np.nan, np.nan]))
    np.testing.assert_array_equal(matrix.cross("t"), np.float32([np.nan, 0.1, np.nan, 0.5]))


def test_counts_by_cell(matrix: ScoreMatrix) -> None:
    assert matrix.count_above(0.5).tolist() == [[1, 1], [0, 2]]
    assert matrix.count_above(0.5, strict=True).tolist() == [[1, 0], [0, 2]]
    assert matrix.quantiles([0.5]).shape == (2, 2, 1)
    assert matrix.keep(0.5, "t").tolist() == [True, False, False, True]


def test_keep_wants_one_measurer(matrix: ScoreMatrix) -> None:
    with pytest.raises(InputError, match="Name one"):
        matrix.keep(0.5)


def test_unknown_sources_are_cross_everywhere() -> None:
    matrix = ScoreMatrix(("m",), SCORES[:1])
    assert matrix.sources == ("",)
    assert not matrix.is_specific.any()


def test_columns_there_and_back(matrix: ScoreMatrix, labels: LabelTable, tmp_path: Path) -> None:
    path = tmp_path / "scored.parquet"
    matrix.attach(labels).write(path)
    again = ScoreMatrix.from_labels(read_labels(path))
    np.testing.assert_array_equal(again.scores, matrix.scores)
    assert again.names == matrix.names
    assert again.trained_on == matrix.trained_on
    assert again.reasons == matrix.reasons
    assert again.label_sources.to_pylist() == SOURCES


def test_adding_a_measurer_keeps_the_others(matrix: ScoreMatrix, labels: LabelTable) -> None:
    scored = matrix.attach(labels)
    more = ScoreMatrix(("c",), SCORES[1:], SOURCES, (("caption",),)).attach(scored)
    again = ScoreMatrix.from_labels(more)
    assert again.names == ("t", "r", "c")
    assert again.trained_on == (("template",), ("relation",), ("caption",))
    assert again.reasons == matrix.reasons  # "t" still lacks that label


def test_a_reason_goes_when_the_score_comes(matrix: ScoreMatrix, labels: LabelTable) -> None:
    scored = matrix.attach(labels)
    complete = ScoreMatrix(("t",), SCORES[1:], SOURCES).attach(scored)
    assert "unscored" not in complete.table.column_names


def test_file_of_scores_alone(matrix: ScoreMatrix, tmp_path: Path) -> None:
    matrix.write(tmp_path / "s.parquet")
    again = ScoreMatrix.read(tmp_path / "s.parquet")
    np.testing.assert_array_equal(again.scores, matrix.scores)
    assert (again.names, again.trained_on, again.reasons) == (
        matrix.names,
        matrix.trained_on,
        matrix.reasons,
    )


def test_wrong_sizes_are_refused(matrix: ScoreMatrix, labels: LabelTable) -> None:
    with pytest.raises(InputError, match="one row per measurer"):
        ScoreMatrix(("a", "b"), SCORES[:1])
    with pytest.raises(InputError, match="4 scores for 2 labels"):
        matrix.attach(labels.select([0, 1]))
    with pytest.raises(InputError, match="two measurers"):
        ScoreMatrix(("a", "a"), SCORES)


def test_no_labels() -> None:
    matrix = ScoreMatrix(("m",), np.zeros((1, 0), np.float32))
    assert len(matrix) == 0
    assert matrix.count_above(0.5).size == 0


def test_concat_puts_measurers_together(matrix: ScoreMatrix) -> None:
    other = ScoreMatrix(("o",), SCORES[:1], SOURCES, reasons={1: "new", 2: "stays"})
    both = ScoreMatrix.concat([matrix, other])
    assert both.names == ("t", "r", "o")
    np.testing.assert_array_equal(both.scores, [*SCORES, SCORES[0]])
    assert both.trained_on == (("template",), ("relation",), ())
    assert both.sources == matrix.sources
    assert both.reasons == {1: "new", 2: "stays"}


def test_select_takes_measurers_in_any_order(matrix: ScoreMatrix) -> None:
    turned = matrix.select(["r", "t"])
    assert turned.names == ("r", "t")
    np.testing.assert_array_equal(turned.scores, SCORES[::-1])
    assert turned.trained_on == (("relation",), ("template",))
    assert turned.reasons == matrix.reasons
    with pytest.raises(InputError, match="no measurer 'x'"):
        matrix.select(["x"])


@pytest.mark.parametrize("rows", [[3, 2], np.array([3, 2])])
def test_take_takes_labels(matrix: ScoreMatrix, rows: list[int]) -> None:
    part = matrix.take(rows)
    np.testing.assert_array_equal(part.scores, SCORES[:, [3, 2]])
    assert part.sources == ("relation", "template")
    assert part.label_sources.to_pylist() == ["relation", "template"]
    assert part.reasons == {1: "a.jpg: no such file"}
    assert part.trained_on == matrix.trained_on


def test_take_by_a_mask(matrix: ScoreMatrix) -> None:
    part = matrix.take(np.array([True, False, False, False]))
    assert part.sources == ("template",)
    assert part.reasons == {}
    assert len(matrix.take([])) == 0


def test_plot_writes_a_picture(matrix: ScoreMatrix, tmp_path: Path) -> None:
    matrix.plot(tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 1000


def test_plot_colours_the_cells_that_are_specific() -> None:
    matrix = ScoreMatrix(
        ("relation", "r"), SCORES, SOURCES, (("template",), ("template", "relation"))
    )
    figure = matrix.plot()
    colours = [axes.patches[0].get_facecolor() for axes in figure.axes]
    blue = colours[0]
    assert [colour == blue for colour in colours] == matrix.is_specific.flatten().tolist()
