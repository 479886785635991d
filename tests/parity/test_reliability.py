"""Reliability of the reference's labels by the reference's checkpoint, through the engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipvg.labels import LabelTable, read_labels
from clipvg.model import GroundingModel, load
from clipvg.reliability import Distribution, kept, score_labels
from clipvg.rescoring import EngineConfig

IMAGES = {
    "unc": "other/images/mscoco/images/train2014",
    "flickr": "Flickr30k/flickr30k-images",
    "referit": "referit/images",
}


@pytest.fixture(scope="module")
def mini(data_dir: Path) -> Path:
    return data_dir / "official_mini"


@pytest.fixture(scope="module")
def stored(mini: Path) -> dict[str, Any]:
    sets: dict[str, Any] = json.loads((mini / "reliability.json").read_text())["sets"]
    return sets


@pytest.fixture(scope="module")
def checkpoint(mini: Path) -> GroundingModel:
    return load(mini / "best_checkpoint.pth")


def labels_of(mini: Path, name: str) -> LabelTable:
    return read_labels(
        mini / name / f"{name}_train_pseudo.pth", images=mini / "images" / IMAGES[name]
    )


def check_counts(scores: np.ndarray, counts: dict[str, int]) -> None:
    """Check the published filter: r > h in float32 against double, at the last h r == 1."""
    distribution = Distribution(scores)
    for rule, count in counts.items():
        sign, number = rule.split()
        strict = sign == ">"
        assert distribution.count_above(float(number), strict=strict) == count, rule
        assert kept(scores, float(number), strict=strict).sum() == count, rule


@pytest.mark.parametrize("name", IMAGES)
def test_stored_reliabilities_give_the_stored_counts(stored: dict[str, Any], name: str) -> None:
    scores = np.array([label["iou"] for label in stored[name]["labels"]], dtype=np.float32)
    check_counts(scores, stored[name]["kept_at_threshold"])


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("batch_size", [64, 5])
def test_our_reliabilities_are_theirs(
    mini: Path, stored: dict[str, Any], checkpoint: GroundingModel, name: str, batch_size: int
) -> None:
    labels = labels_of(mini, name)
    scores = score_labels(labels, {"m": checkpoint}, engine=EngineConfig(batch_size=batch_size))
    rows = [label["index"] for label in stored[name]["labels"]]
    expected = np.array([label["iou"] for label in stored[name]["labels"]])
    assert rows == list(range(len(labels)))
    np.testing.assert_allclose(scores["m"], expected, atol=1e-4, rtol=0)
    check_counts(scores["m"], stored[name]["kept_at_threshold"])


def test_the_kept_labels_are_those_of_the_published_filter(
    mini: Path, checkpoint: GroundingModel
) -> None:
    labels = labels_of(mini, "unc")
    keep = score_labels(labels, {"m": checkpoint}).keep(0.5, strict=True)
    refined = read_labels(mini / "official_outputs" / "unc_train_pseudo_refine_0_5.pth")
    chosen = labels.select(keep)
    assert chosen.image_names == refined.image_names
    assert [text.lower() for text in chosen.expressions] == refined.expressions
    np.testing.assert_array_equal(chosen.boxes(), refined.boxes())


def test_two_files_of_one_name_are_two_measurers(mini: Path, tmp_path: Path) -> None:
    paths = []
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "best_checkpoint.pth")
        shutil.copy(mini / "best_checkpoint.pth", paths[-1])
    scores = score_labels(labels_of(mini, "referit"), list(map(str, paths)))
    assert scores.names == ("first/best_checkpoint", "second/best_checkpoint")
    np.testing.assert_allclose(*scores.scores, atol=1e-6, rtol=0)
