"""Reliability other than IoU: in a pointing task, a label is right if its centre is.

The annotators pointed accurately, but drew boxes of any size. By IoU, most labels look wrong; by
PCK of the centres, the task's own score, only those that point elsewhere do.
The "model" predicts a box from the words of an expression.
"""

import pickle
import tempfile
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from clipvg.curriculum import BoxMeasurer, Fitted, Learner, Run, ssa
from clipvg.labels import LabelTable


class Pointer(Learner):
    def __init__(self, similarity):
        self.similarity = similarity  # "iou", "giou", "dice", "pck", or a function of two (N, 4)

    def fit(self, labels, *, weights=None, init=None, seed=0, out=None):
        model = make_pipeline(CountVectorizer(), Ridge(1e-3))
        factors = None if weights is None else weights.astype(float)
        model.fit(labels.expressions, labels.boxes(), ridge__sample_weight=factors)
        return Fitted(model)

    def measurer(self, model):
        return BoxMeasurer(
            lambda labels: model.predict(labels.expressions), similarity=self.similarity
        )

    def save(self, model, folder, *, trained_on):
        (folder / "model.pkl").write_bytes(pickle.dumps(model))

    def load(self, folder):
        return pickle.loads((folder / "model.pkl").read_bytes())


def make_labels(count, wrong, seed):
    """Make boxes of any size around the place that two words name; a share `wrong` is shifted."""
    rng = np.random.default_rng(seed)
    column, row = rng.integers(0, 4, (2, count))
    centre = np.stack([20.0 * column, 15.0 * row], axis=1) + 40
    centre[rng.random(count) < wrong] += 30
    half = rng.uniform(4, 30, (count, 2))
    return LabelTable.from_columns(
        image=[f"{i}.jpg" for i in range(count)],
        expression=[f"column{c} row{r}" for c, r in zip(column, row, strict=True)],
        box=np.concatenate([centre - half, centre + half], axis=1),
    )


def centres(boxes):
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def main(out):
    labels, validation = make_labels(400, wrong=0.3, seed=0), make_labels(100, wrong=0, seed=1)
    missed = {}
    for similarity in ("iou", "pck"):
        with Run(out / similarity, config={}, labels=labels, validation=validation) as run:
            summary = ssa(Pointer(similarity), run).summary
        model = Pointer(similarity).load(out / similarity / "model")
        middles = [centres(model.predict(validation.expressions)), centres(validation.boxes())]
        missed[similarity] = np.linalg.norm(middles[0] - middles[1], axis=1).mean()
        print(f"{similarity}: {summary.kept} labels kept, {missed[similarity]:.1f} pixels missed")
    return missed


if __name__ == "__main__":
    main(Path(tempfile.mkdtemp()))
