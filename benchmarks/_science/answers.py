"""Evaluate the confidences `scores` and `present` on test scenes that nothing was fitted on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipvg.boxes import iou
from clipvg.data.scenes.labels import label_scenes
from clipvg.data.scenes.reader import read
from clipvg.reliability.histogram import auroc
from clipvg.training import fit_quality

if TYPE_CHECKING:
    from _science.experiments import Bench

_BINS = 15
NUMBERS = ("scores_auroc", "scores_ece", "present_auroc", "present_ece")
_FOREIGN = 4  # expressions of other scenes asked of each scene, which fit nothing in it


def measure_answers(bench: Bench) -> dict[str, Any]:
    """Return AUROC and calibration of both confidences with the quality head, and without it."""
    world, labels = bench.world, bench.world.training()
    model = bench.lab.fit(labels, seed=world.seed).model
    record: dict[str, Any] = {"test": bench.lab.accuracy(model, world.test)}
    record["measures"] = _measured(bench, model)
    record["has_head"] = fit_quality(model, labels, world.validation, seed=world.seed)
    record["head"] = _measured(bench, model)
    record["test_with_head"] = bench.lab.accuracy(model, world.test)
    return record


def _measured(bench: Bench, model: Any) -> dict[str, Any]:
    """Evaluate both confidences on test scenes' own expressions and on foreign ones."""
    world, test = bench.world, bench.world.test
    made = label_scenes(world.scale.test, seed=100 * world.seed + 2)
    scenes = [scene for scene, _ in made]
    names, image_of = test.distinct_images()
    texts, draw = np.array(test.expressions, dtype=object), np.random.default_rng(world.seed)
    rows = [np.flatnonzero(image_of == image) for image in range(len(names))]
    absent = []
    for image, name in enumerate(names):
        scene, drawn = scenes[int(Path(name).stem)], draw.integers(0, len(texts), 3 * _FOREIGN)
        foreign = texts[drawn[image_of[drawn] != image]]
        absent.append([text for text in foreign if not read(text, scene)][:_FOREIGN])
    files = [test.image_path(name) for name in names]
    own = model.predict(files, [texts[some].tolist() for some in rows])
    other = model.predict(files, absent)
    boxes = np.concatenate([each.boxes for each in own]).astype(np.float64)
    truth = test.truth()[np.concatenate(rows)].astype(np.float64)
    right = iou(boxes, truth) >= 0.5
    scores = np.concatenate([each.scores for each in own])
    there, gone = (np.concatenate([each.present for each in some]) for some in (own, other))
    count = min(len(there), len(gone))  # as many present as absent
    even = np.concatenate([there[:count], gone[:count]])
    is_there = np.arange(2 * count) < count
    found: dict[str, Any] = {"diagram": {}}
    for name, chance, outcome in (("scores", scores, right), ("present", even, is_there)):
        diagram = reliability_diagram(chance, outcome)
        found["diagram"][name] = diagram.tolist()
        found |= {f"{name}_auroc": auroc(chance, outcome), f"{name}_ece": _error(diagram)}
    return found


def reliability_diagram(chance: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    """Return (15, 3): mean probability, share that came true and count of bins of equal mass."""
    parts = np.array_split(np.argsort(chance, kind="stable"), _BINS)
    return np.array([(chance[part].mean(), outcome[part].mean(), len(part)) for part in parts])


def _error(diagram: np.ndarray) -> float:
    """Return the expected calibration error."""
    chance, share, count = diagram.T
    return float((abs(chance - share) * count).sum() / count.sum())
