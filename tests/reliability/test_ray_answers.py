"""`clipvg predict TABLE --ray 2` answers as one process does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.tiny import make_labels, make_model

from clipvg.cli import main
from clipvg.rescoring import plan


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_a_table_is_answered_as_by_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "IMAGES_PER_SHARD", 2)
    labels = make_labels(tmp_path / "images", images=9)
    (tmp_path / "images" / "3.png").write_bytes(b"not an image")
    labels.write(tmp_path / "questions.csv")
    make_model(1).save_pretrained(tmp_path / "model")
    words = ["predict", tmp_path / "questions.csv", "--images", tmp_path / "images"]
    words += ["--checkpoint", tmp_path / "model", "--quiet", "--out"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as an actor has
    try:
        for name, more in (("one", []), ("two", ["--ray", 2])):
            typed = [*words, tmp_path / f"{name}.parquet", *more]
            assert main(list(map(str, typed))) == 0
    finally:
        torch.set_num_threads(threads)
    assert len(list((tmp_path / "two.answers").glob("*/*.parquet"))) == 5
    assert (tmp_path / "two.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
