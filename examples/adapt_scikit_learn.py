"""Self-paced adapting of a scikit-learn model: no images, no torch, a dozen lines of glue.

The "model" predicts a box from the words of an expression; a third of the labels are wrong.
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
from clipvg.reliability import Context


class Words(Learner):
    def fit(self, labels, *, weights=None, init=None, seed=0, out=None):
        model = make_pipeline(CountVectorizer(), Ridge(1e-3))
        factors = None if weights is None else weights.astype(float)
        model.fit(labels.expressions, labels.boxes(), ridge__sample_weight=factors)
        return Fitted(model)

    def measurer(self, model):
        return BoxMeasurer(lambda labels: model.predict(labels.expressions))

    def evaluate(self, model, labels):  # mean IoU instead of Acc@0.5
        found = self.measurer(model).measure(labels, Context()).values
        return float(np.average(found, weights=labels.weights()))

    def save(self, model, folder, *, trained_on):
        (folder / "model.pkl").write_bytes(pickle.dumps(model))

    def load(self, folder):
        return pickle.loads((folder / "model.pkl").read_bytes())


def make_labels(count, wrong, seed):
    """Make labels whose two words give the box's column and row; a share `wrong` is shifted."""
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
        result = ssa(Words(), run)
    before, after = result.summary.score_before, result.summary.score
    print(f"h* = {result.threshold:g}: mean IoU {before:.2f} -> {after:.2f}")
    return result


if __name__ == "__main__":
    main(Path(tempfile.mkdtemp()) / "run")
