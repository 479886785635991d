"""The tests' small data in the reference's folder layout."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.tiny import make_model

from clipvg.labels import LabelTable, ReadOptions, read_labels


@pytest.fixture
def root(data_dir: Path, tmp_path: Path) -> Path:
    """A data folder: images, RefCOCO label files with two sources, and a clipvg checkpoint."""
    mini, data = data_dir / "official_mini", tmp_path / "data"
    data.mkdir()
    (data / "image_data").symlink_to(mini / "images")
    human = data / "full_sup_data" / "unc"
    human.mkdir(parents=True)
    for split in ("train", "val", "testA", "testB"):
        shutil.copy(mini / "unc" / "unc_val.pth", human / f"unc_{split}.pth")
    pseudo = data / "unsup_single_source" / "unc" / "unc_train_pseudo.pth"
    pseudo.parent.mkdir(parents=True)
    shutil.copy(mini / "unc" / "unc_train_pseudo.pth", pseudo)
    labels = read_labels(pseudo, options=ReadOptions(layout="unc"))
    parts = data / "unsup_multi_source" / "unc" / "train_separate"
    _write(labels.select(range(0, len(labels), 2)), parts / "1_unc_train_pseudo_template.pth")
    _write(labels.select(range(1, len(labels), 2)), parts / "2_unc_train_pseudo_relation.pth")
    make_model().save_pretrained(data / "checkpoints" / "unsup_single_source" / "unc")
    return data


def _write(labels: LabelTable, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels.write(path, layout="unc")
