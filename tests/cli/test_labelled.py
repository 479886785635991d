"""`clipvg adapt --labelled --unlabelled`: semi-supervised adaptation, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from clipvg.labels import read_labels

pytestmark = pytest.mark.usefixtures("undrawn")

QUICK = """
--backbone clipvg-tiny --model.pretrained null --model.width 16 --model.layers 1 --model.heads 2
--model.feedforward 16 --training.epochs 1 --training.batch_size 4 --training.augment false --quiet
--search.low 0 --search.start 0.1 --search.min_kept 1
""".split()


@pytest.fixture
def sides(labels: Path, pictures: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two files: four annotated labels, and twelve pseudo-labels on the same images."""
    table = read_labels(labels, images=pictures)
    paths = tmp_path / "annotated.parquet", tmp_path / "pseudo.parquet"
    table.select(range(4)).write(paths[0])
    table.select(range(4, 16)).write(paths[1])
    return paths


@pytest.fixture
def words(labels: Path, pictures: Path, tmp_path: Path) -> list[Any]:
    """The command line without the label files."""
    validation = tmp_path / "val.parquet"
    shutil.copy(labels, validation)
    given = ["--images", pictures, "--validation", validation, "--out", tmp_path / "run", *QUICK]
    return ["adapt", *given]


def test_both_sides(clipvg: Any, words: list[Any], sides: tuple[Path, Path]) -> None:
    words += ["--labelled", sides[0], "--unlabelled", sides[1], "--beyond.soft", "true"]
    outcome = clipvg(*words)
    assert outcome.code == 0, outcome.err
    assert "the annotated labels" in outcome.out
    again = clipvg(*words, "--json").json
    assert again["labels"]["labelled"] == 4
    assert again["no_curriculum"]["kept"] == 4
    assert "annotated labels" in Path(again["report"]).read_text()


def test_what_is_refused(clipvg: Any, words: list[Any], sides: tuple[Path, Path]) -> None:
    annotated, pseudo = sides
    assert "missing LABELS" in clipvg(*words).error
    alone = clipvg(*words, "--labelled", annotated).error
    assert "--labelled without --unlabelled" in alone
    assert "--unlabelled without" in clipvg(*words, "--unlabelled", pseudo).error
    given = ["--labelled", annotated, "--unlabelled", pseudo]
    assert "name pseudo-labels as --unlabelled" in clipvg("adapt", pseudo, *words[1:], *given).error
    same = clipvg(*words, "--labelled", annotated, "--unlabelled", annotated, pseudo).error
    assert "annotated.parquet is given as --labelled and as --unlabelled" in same
    assert "are for SSA, not for method 'msa'" in clipvg(*words, *given, "--method", "msa").error
    place = words.index("--validation")
    undecided = clipvg(*words[:place], *words[place + 2 :], *given).error
    assert "keep some apart and pass them as validation" in undecided
    table = read_labels(annotated)
    table.with_column("box", table.boxes() + 200).write(pseudo)
    clash = clipvg(*words, *given).error
    assert "4 of 4 pseudo-labels have another box" in clash
    assert "--on_error drop" in clash
