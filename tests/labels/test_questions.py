"""Answers in files: the ids in COCO results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.labels.questions import write_answers


def results(path: Path, labels: LabelTable) -> list[dict[str, Any]]:
    """Write COCO results that answer all labels but the first; return them."""
    box = np.tile(np.float32([1, 2, 4, 8]), (len(labels), 1))
    sure = np.full(len(labels), 0.5, np.float32)
    reasons = ["a.jpg: no such file", *[None] * (len(labels) - 1)]
    box[0], sure[0] = np.nan, np.nan
    with pytest.warns(UserWarning, match="left out 1 rows without an answer"):
        write_answers(
            path, labels, {"box": box, "score": sure, "present": sure}, reasons, format="coco"
        )
    return json.loads(path.read_text())


def test_ids_are_those_of_the_file_that_was_evaluated(tmp_path: Path) -> None:
    """The ids of the image and of the annotation are those of the COCO file."""
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "caption": f"dog {n}"} for n in (70, 71)],
        "annotations": [
            {"id": 900 + n, "image_id": n, "category_id": 1, "bbox": [1, 2, 3, 4]} for n in (71, 70)
        ],
        "categories": [{"id": 1, "name": "object"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    (answer,) = results(tmp_path / "results.json", read_labels(tmp_path / "truth.json"))
    assert answer == {
        "image_id": 70, "category_id": 1, "bbox": [1, 2, 3, 6], "score": 0.5, "annotation_id": 970,
    }  # fmt: skip


def test_ids_without_a_column_are_those_that_convert_gives(tmp_path: Path) -> None:
    labels = LabelTable.from_columns(
        image=["a.jpg"] * 3, expression=["a", "b", "c"], box=[[1, 2, 3, 4]] * 3
    )
    labels.write(tmp_path / "truth.json", format="coco")
    entries = json.loads((tmp_path / "truth.json").read_text())["annotations"]
    for answer, entry in zip(results(tmp_path / "r.json", labels), entries[1:], strict=True):
        assert (answer["image_id"], answer["annotation_id"]) == (entry["image_id"], entry["id"])


def test_an_id_that_is_missing_is_said(tmp_path: Path) -> None:
    labels = LabelTable.from_columns(
        image=["a.jpg"] * 2, expression=["a", "b"], box=[[1, 2, 3, 4]] * 2, image_id=[None, 4]
    )
    with pytest.raises(InputError, match="column 'image_id' lacks an id in some rows"):
        results(tmp_path / "r.json", labels)
