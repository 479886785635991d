"""`clipvg score --measure`: measures by name beside measurers, and by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipvg.labels import read_labels
from clipvg.reliability import ScoreMatrix


def score(clipvg: Any, labels: Path, pictures: Path, out: Path, *words: str) -> Any:
    return clipvg("score", labels, "--images", pictures, "--out", out, "--json", *words)


def test_methods_beside_measurers(
    clipvg: Any, labels: Path, pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scored.parquet"
    outcome = score(
        clipvg, labels, pictures, out, "--measurer", f"a={checkpoint}",
        "--measure", "attention_mass,adjust=true", "--measure", "near=knn,k=2",
        "--measure", "rank_mean,of=a+attention_mass+near", "--measure", "hygiene",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    names = ("a", "attention_mass", "near", "rank_mean", "hygiene")
    assert tuple(outcome.json["measurers"]) == names
    matrix = ScoreMatrix.from_labels(read_labels(out))
    assert matrix.names == names
    assert not np.isnan(matrix["rank_mean"]).any()
    alone = tmp_path / "alone.parquet"
    score(clipvg, labels, pictures, alone, "--measurer", f"a={checkpoint}")
    np.testing.assert_array_equal(ScoreMatrix.from_labels(read_labels(alone))["a"], matrix["a"])


def test_methods_need_no_measurer(
    clipvg: Any, labels: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scored.parquet"
    outcome = score(
        clipvg, labels, pictures, out, "--measure", "ambiguity", "--measure", "consistency"
    )
    assert outcome.code == 0, outcome.err
    assert ScoreMatrix.from_labels(read_labels(out)).names[0] == "ambiguity"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to score with; pass --measurer CKPT, or --measure NAME"),
        (["--measure", "ambiguty"], "no measure 'ambiguty': did you mean 'ambiguity'"),
        (["--measure", "likelihood"], "there is none; name a measurer"),
        (["--measure", "vote"], "requires scores"),
    ],
)
def test_errors(
    clipvg: Any, labels: Path, pictures: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    assert message in score(clipvg, labels, pictures, tmp_path / "o.parquet", *words).error
