"""A learner without torch: the model is a mean box per expression."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from clipvg.boxes import iou
from clipvg.curriculum import Adapted, Beyond, Fitted, Learner, Run, SSAConfig, Workers, ssa
from clipvg.curriculum.threshold import SearchStrategy, find_threshold
from clipvg.labels import LabelTable
from clipvg.reliability import Context, Measurer, Scores

Model = dict[str, list[float]]


def make_labels(count: int = 120, seed: int = 0, wrong: float = 0.3) -> LabelTable:
    """Return labels of eight expressions with one true box each; a share `wrong` has another."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 8, count)
    corner = np.stack([words * 10.0, words * 5.0], axis=1)
    truth = np.concatenate([corner, corner + 20], axis=1)
    box = truth + rng.normal(0, 1, (count, 4)).clip(-2, 2)
    bad = rng.random(count) < wrong
    box[bad] += rng.uniform(8, 30, (int(bad.sum()), 1))
    return LabelTable.from_columns(
        image=[f"{i // 4:03}.jpg" for i in range(count)],
        expression=[f"thing {w}" for w in words],
        box=box,
        truth=truth,
        source="template",
    )


class ToyLearner(Learner[Model]):
    """Fits the weighted mean box of each expression and keeps it as JSON; counts trainings."""

    def __init__(self) -> None:
        self.trained: list[int] = []

    def fit(
        self,
        labels: LabelTable,
        *,
        weights: Any = None,
        init: Any = None,
        seed: int = 0,
        out: Path | None = None,
    ) -> Fitted[Model]:
        weights = np.ones(len(labels)) if weights is None else np.asarray(weights, float)
        self.trained.append(int(weights.sum()))
        rng = np.random.default_rng(seed)
        boxes, words = labels.boxes().astype(np.float64), np.array(labels.expressions)
        model = {} if init is None else dict(init)
        for word in sorted(set(words)):
            mine = (words == word) * weights
            if mine.sum():
                model[word] = (mine @ boxes / mine.sum() + rng.normal(0, 0.01, 4)).tolist()
        return Fitted(model)

    def evaluate(self, model: Model, labels: LabelTable) -> float:
        return float(np.average(overlaps(model, labels), weights=labels.weights()))

    def measurer(self, model: Model) -> Measurer:
        return ToyMeasurer(model)

    def save(self, model: Model, folder: Path, *, trained_on: Sequence[str]) -> None:
        (folder / "model.json").write_text(json.dumps(model))
        (folder / "trained_on.json").write_text(json.dumps(trained_on))

    def load(self, folder: Path) -> Model:
        model: Model = json.loads((folder / "model.json").read_text())
        return model


class ToyMeasurer:
    """IoU of the model's box with the label's."""

    requires: frozenset[str] = frozenset()

    def __init__(self, model: Model) -> None:
        self.model, self.name = model, "toy"

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        return Scores(overlaps(self.model, labels))

    def predict(self, labels: LabelTable, context: Context) -> np.ndarray:
        boxes = [self.model.get(e, [np.nan] * 4) for e in labels.expressions]
        return np.array(boxes, np.float32).reshape(-1, 4)


def overlaps(model: Model, labels: LabelTable) -> np.ndarray:
    boxes = np.array([model.get(e, [0, 0, 0, 0]) for e in labels.expressions])
    return iou(boxes.reshape(-1, 4), labels.boxes()).astype(np.float32)


def adapt(
    out: Path,
    *,
    labels: LabelTable | None = None,
    validation: LabelTable | None = None,
    learner: ToyLearner | None = None,
    workers: Workers | None = None,
    strategy: SearchStrategy = find_threshold,
    beyond: Beyond | None = None,
    **options: Any,
) -> Adapted:
    """Run SSA of the toy learner in a run directory."""
    labels = make_labels() if labels is None else labels
    config = SSAConfig(**options)
    identity = {"config": {"ssa": options}, "labels": labels, "validation": validation}
    further = None if beyond is None else asdict(beyond)
    with Run(out, **identity, workers=workers, further=further) as run:
        return ssa(
            learner or ToyLearner(),
            run,
            config=config,
            strategy=strategy,
            beyond=beyond,
        )


def adapt_to_clean(out: str) -> None:
    """Adapt with a search that starts at 0.5, judged on correct labels."""
    adapt(Path(out), validation=make_labels(40, seed=1, wrong=0.0), start=0.5)
