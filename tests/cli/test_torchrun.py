"""Commands of several processes: if one fails, all end, and exactly one says why."""

from __future__ import annotations

import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from cli.test_processes import TINY
from support.processes import as_two, environment


def words(verb: str, labels: Path, pictures: Path, checkpoint: Path, out: Path) -> list[object]:
    """Return a command line whose processes each read their own images."""
    more = {
        "train": [*TINY, "--training.augment", "true", "--training.num_workers", "0",
                  "--training.epochs", "50", "--out", out / "run"],
        "score": ["--measurer", f"a={checkpoint}", "--out", out / "scored.parquet",
                  "--unreadable_images", "raise"],
        "evaluate": ["--checkpoint", checkpoint],
    }  # fmt: skip
    return [verb, labels, "--images", pictures, *more[verb], "--quiet", "--json"]


QUICK = [("train", "broken", 1), ("score", "killed", 0)]
ALL = list(product(["train", "score", "evaluate"], ["broken", "killed", "stopped"], [0, 1]))


@pytest.mark.parametrize(
    ("verb", "fault", "rank"),
    [*QUICK, *(pytest.param(*c, marks=pytest.mark.slow) for c in ALL if c not in QUICK)],
)
def test_where_one_comes_to_harm_all_end(
    verb: str,
    fault: str,
    rank: int,
    labels: Path,
    pictures: Path,
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    typed = [str(word) for word in words(verb, labels, pictures, checkpoint, tmp_path)]
    agent = 1.0 if fault == "stopped" else None
    codes, out, err = as_two("support.two_processes:command", typed, fault, rank, agent=agent)
    said = [line for line in err.splitlines() if line.startswith("clipvg ")]
    assert (out, len(said)) == ("", 1), err
    if fault == "broken":
        assert codes == [2, 2], err
        assert ".png: " in said[0]
    else:
        assert codes[rank] == -9
        assert codes[1 - rank] == 1
        assert f"process {rank} of 2 was killed, or is silent" in said[0]


@pytest.mark.slow
def test_torchrun_itself(labels: Path, pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pictures, tmp_path / "pictures")
    (folder / "3.png").write_bytes(b"broken")
    typed = words("train", labels, folder, checkpoint, tmp_path)
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "clipvg"]
    ran = subprocess.run(
        [sys.executable, *start, *map(str, typed)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = [line for line in ran.stderr.splitlines() if line.startswith("clipvg train: ")]
    assert len(said) == 1, ran.stderr
    assert "3.png" in said[0]
    assert "exitcode  : 2" in ran.stderr


@pytest.mark.slow
def test_a_warning_about_the_table_comes_once(
    pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "questions.csv").write_text("image,expression\n0.png,собака\n1.png,кошка\n")
    typed = ["predict", tmp_path / "questions.csv", "--images", pictures, "--checkpoint",
             checkpoint, "--out", tmp_path / "answers.jsonl", "--quiet"]  # fmt: skip
    codes, _, err = as_two("support.shards:score", [str(word) for word in typed])
    assert codes == [0, 0], err
    assert err.count("2 expressions are not in English") == 1
