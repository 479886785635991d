"""Write labels by reliability to the files that the published code writes and trains on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipvg.labels.formats.pth import LAYOUTS, PLACEHOLDER, boxes_as
from clipvg.labels.table import LabelTable
from clipvg.runtime.files import atomic_path

THRESHOLDS = tuple(i / 10 for i in range(11))  # reliability above each of them, equal to the last
_BAD_BELOW = 0.4

Record = list[Any]


def write_refined(
    labels: LabelTable,
    reliability: np.ndarray,
    boxes: Sequence[np.ndarray],
    folder: str | Path,
    *,
    layout: str,
    prompt: str | None = None,
) -> dict[str, int]:
    """Write the fourteen files of the published scorer.

    ``LAYOUT_train_pseudo_refine_0_0.pth`` to ``..._0_9.pth`` hold the labels whose reliability
    exceeds the number in the name, ``..._1_0.pth`` those with reliability 1.
    ``..._bad_label_0_0.pth`` and ``..._0_4.pth`` hold those with reliability 0 and below 0.4, with
    that reliability; ``..._iou_result.pth`` all, with target, prediction and reliability. Records
    are lists, expressions are in lower case, and labels that are not scored are left out. Each
    file is written atomically, ``iou_result`` last.

    Args:
        labels: N labels.
        reliability: (N,) float32, NaN where not scored.
        boxes: target and prediction, (N, 4) float32 cxcywh each, in the letterboxed square.
        folder: where the files go; created if needed.
        layout: layout of the labels, with which the names of the files begin.
        prompt: prompt of the model, with ``{}`` for the expression.

    Returns:
        The number of labels in each file, by its name.
    """
    import torch

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    for name, records in _files(labels, reliability, boxes, layout, prompt):
        path = folder / f"{layout}_train_pseudo_{name}.pth"
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            torch.save(records, stream)
        counts[path.name] = len(records)
    return counts


def _files(
    labels: LabelTable,
    reliability: np.ndarray,
    boxes: Sequence[np.ndarray],
    layout: str,
    prompt: str | None,
) -> Iterator[tuple[str, list[Record]]]:
    import torch

    shape = LAYOUTS[layout]
    rows = np.flatnonzero(~np.isnan(reliability))
    scores = reliability[rows].astype(np.float64).tolist()  # compared in double, as published
    labels = labels.select(rows)
    phrases = [(prompt or "{}").replace("{}", text).lower() for text in labels.expressions]
    written = boxes_as(labels.table, shape.box_format)
    three = [list(r) for r in zip(labels.image_names, written, phrases, strict=True)]
    full = [[image, PLACEHOLDER, box, phrase] for image, box, phrase in three]
    kept = three if "segment" not in shape.fields else [[*record, PLACEHOLDER] for record in full]

    def above(threshold: float) -> list[Record]:
        passing = (r == 1 if threshold == 1 else r > threshold for r in scores)
        return [record for record, passes in zip(kept, passing, strict=True) if passes]

    for name, is_bad in (("0_0", lambda r: r == 0), ("0_4", lambda r: r < _BAD_BELOW)):
        pairs = zip(full, scores, strict=True)
        yield f"bad_label_{name}", [[*record, PLACEHOLDER, r] for record, r in pairs if is_bad(r)]
    for threshold in THRESHOLDS:
        yield f"refine_{str(threshold).replace('.', '_')}", above(threshold)
    target, predicted = (list(torch.from_numpy(part[rows].copy())) for part in boxes)
    results = zip(full, target, predicted, scores, strict=True)
    yield "iou_result", [[*record, t.clone(), p.clone(), r] for record, t, p, r in results]
