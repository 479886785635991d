"""`clipvg reproduce`: missing files, the table, and resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipvg.reproduce.datasets import BENCHMARKS


@pytest.mark.parametrize("benchmark", [*BENCHMARKS, "ref-l4"])
def test_an_empty_folder_lists_what_is_missing(clipvg: Any, tmp_path: Path, benchmark: str) -> None:
    (tmp_path / "data").mkdir()
    words = ("reproduce", benchmark, "--data", tmp_path / "data", "--out", tmp_path / "out")
    outcome = clipvg(*words, "--quiet")
    assert outcome.code == 2
    assert outcome.out.startswith("missing below --data:\nfor ")
    assert "image_data/" in outcome.out
    missing = json.loads(clipvg(*words, "--quiet", "--json").out)["missing"]
    assert all(each.keys() == {"what", "place", "from"} for row in missing.values() for each in row)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def mini(data_dir: Path, tmp_path: Path) -> Path:
    """RefCOCO's val split in the reference's folder layout."""
    data = tmp_path / "data"
    (data / "full_sup_data").mkdir(parents=True)
    (data / "image_data").symlink_to(data_dir / "official_mini" / "images")
    (data / "full_sup_data" / "unc").symlink_to(data_dir / "official_mini" / "unc")
    return data


def test_the_table_of_the_small_data(
    clipvg: Any, mini: Path, checkpoint: Path, tmp_path: Path
) -> None:
    words = ("reproduce", "refcoco", "--data", mini, "--out", tmp_path / "out", "--quiet")
    words = (*words, "--checkpoint", f"ssa={checkpoint}")
    outcome = clipvg(*words)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].startswith("| method | val | testA | testB |")
    assert any(line.startswith("| CLIP-VG (SSA) | 62.38 | 65.03 | 56.64 |") for line in lines)
    assert any(line.startswith("| CLIP-VG (SSA), ours |") for line in lines)
    assert any("published are 10,834" in line for line in lines)
    assert any("testA labels of unc" in line for line in lines)
    result = json.loads(clipvg(*words, "--json").out)
    assert result["rows"][0]["splits"]["val"]["count"] > 0
    assert clipvg(*words, "--table", "latex").out.startswith(r"\begin{tabular}")


def test_a_row_that_was_asked_for_and_cannot_be_made(
    clipvg: Any, mini: Path, checkpoint: Path, tmp_path: Path
) -> None:
    words = ("reproduce", "refcoco", "--data", mini, "--out", tmp_path / "out", "--quiet")
    outcome = clipvg(*words, "--checkpoint", f"mine={checkpoint}", "--rows", "msa")
    assert outcome.code == 2
    assert "| mine |" in outcome.out
    assert "train_separate" in outcome.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--rows", "msaa"], "no row 'msaa': did you mean 'msa'"),
        (["--checkpoint", "a=.", "--checkpoint", "a=.."], "is called 'a' too"),
        (["--checkpoint", "../x=."], "'../x' cannot name a folder of --out"),
        (["--checkpoint", "none.pth"], "--checkpoint none.pth: no such file"),
        (["--measure", "match"], "--measure is for ref-l4"),
        (["--recipe", "recipe.yaml"], "recipe.yaml: no such file"),
    ],
)
def test_wrong_words(
    clipvg: Any, mini: Path, tmp_path: Path, words: list[str], expected: str
) -> None:
    out = tmp_path / "out"
    assert expected in clipvg("reproduce", "refcoco", "--data", mini, "--out", out, *words).error


def test_a_recipe_without_sections(clipvg: Any, mini: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump([1]))
    words = ("reproduce", "refcoco", "--data", mini, "--out", tmp_path / "out")
    assert "holds no options" in clipvg(*words, "--recipe", recipe).error
