"""Self-paced adapting of a scikit-learn model: no picture, no torch, a dozen lines of glue.

The "model" predicts a box from the words of an expression; a third of its labels is wrong.
"""

import pickle
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from clipvg.boxes import iou
from clipvg.curriculum import Run, ssa
from clipvg.labels import LabelTable


def overlap(model, labels):
    return iou(model.predict(labels.expressions), labels.boxes()).clip(0, 1)


class Learner:
    def fit(self, labels, *, weights=None, init=None, seed=0):
        model = make_pipeline(CountVectorizer(), Ridge(1e-3))
        model.fit(labels.expressions, labels.boxes(), ridge__sample_weight=weights)
        return SimpleNamespace(model=model)

    def fit_many(self, labels, keep, *, init=None, seed=0):
        return [self.fit(labels, weights=row.astype(float), seed=seed) for row in keep]

    def evaluate(self, model, labels):
        return float(np.average(overlap(model, labels), weights=labels.weights()))


class Store:
    def save(self, model, folder, *, trained_on):
        (folder / "model.pkl").write_bytes(pickle.dumps(model))

    def load(self, folder):
        return pickle.loads((folder / "model.pkl").read_bytes())


class Overlap:
    name, requires = "overlap", frozenset()

    def __init__(self, model):
        self.model = model

    def measure(self, labels, context):
        return overlap(self.model, labels)


def make_labels(count, wrong, seed):
    """Boxes that two words decide, the first by column and the second by row."""
    rng = np.random.default_rng(seed)
    column, row = rng.integers(0, 4, (2, count))
    corner = np.stack([20.0 * column, 15.0 * row], axis=1)
    corner[rng.random(count) < wrong] += 12
    return LabelTable.from_columns(
        image=[f"{i}.jpg" for i in range(count)],
        expression=[f"column{c} row{r}" for c, r in zip(column, row, strict=True)],
        box=np.concatenate([corner, corner + 20], axis=1),
    )


def main(out):
    labels, validation = make_labels(400, wrong=0.33, seed=0), make_labels(100, wrong=0, seed=1)
    with Run(out, config={}, labels=labels, validation=validation) as run:
        result = ssa(Learner(), labels, validation, run=run, store=Store(), as_measurer=Overlap)
    before = result.summary["no_curriculum"]["score"]
    print(f"h* = {result.threshold:g}: mean IoU {before:.2f} -> {result.summary['score']:.2f}")
    return result


if __name__ == "__main__":
    main(Path(tempfile.mkdtemp()) / "run")
