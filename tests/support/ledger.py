"""A learner whose every result can be worked out by hand: a model is the list of labels it saw.

Its performance is the sum of the labels' worth. A measurer reads reliability from a table, by the
source it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipvg.curriculum import (
    Adapted,
    Beyond,
    Fitted,
    Learner,
    MSAConfig,
    Previous,
    Run,
    Sources,
    msa,
)
from clipvg.labels import LabelTable
from clipvg.reliability import Context, Measurer, Scores

WORTH = {"a0": 1, "a1": 1, "a2": -1, "a3": -1, "b0": 1, "b1": 1, "b2": -1, "b3": -2}
WORTH |= {"c0": 1, "c1": -1, "c2": 1, "c3": -1}

# Reliability of a0...a3, b0...b3, c0...c3 by the measurer of each source.
BY = {
    "a": [0.9, 0.72, 0.55, 0.2, 0.8, 0.6, 0.3, 0.1, 0.2, 0.3, 0.1, 0.4],
    "b": [0.4, 0.6, 0.9, 0.9, 0.9, 0.3, 0.9, 0.9, 0.1, 0.2, 0.3, 0.1],
    "c": [0.6, 0.1, 0.6, 0.6, 0.6, 0.1, 0.1, 0.6, 0.9, 0.2, 0.9, 0.1],
}
COMPLEXITY = {"a": 1.0, "b": 2.0, "c": 3.0}

Model = list[str]


def make_labels(sources: str = "ab", per_image: int = 1) -> LabelTable:
    """Return four labels of each source (a0, a1, ...), by default each on its own image."""
    names = [f"{source}{i}" for source in sources for i in range(4)]
    return LabelTable.from_columns(
        image=[f"{i // per_image}.jpg" for i in range(len(names))],
        expression=names,
        box=[[0, 0, 1 + i, 1] for i in range(len(names))],
        truth=[[0, 0, 1, 1]] * len(names),
        source=[name[0] for name in names],
    )


def shared_images(sources: str = "ab") -> LabelTable:
    """Return the same labels with a0, b0, ... on one image, a1, b1, ... on another."""
    labels = make_labels(sources)
    return labels.with_column("image", [f"{name[1]}.jpg" for name in labels.expressions])


class LedgerLearner(Learner[Model]):
    """Keeps the labels of each training in `trained`, joined by spaces."""

    def __init__(self) -> None:
        self.trained: list[str] = []

    def fit(
        self,
        labels: LabelTable,
        *,
        weights: Any = None,
        init: Any = None,
        seed: int = 0,
        out: Path | None = None,
    ) -> Fitted[Model]:
        keep = np.ones(len(labels), bool) if weights is None else np.asarray(weights) > 0
        seen = sorted(np.array(labels.expressions)[keep].tolist())
        self.trained.append(" ".join(seen))
        return Fitted(seen)

    def evaluate(self, model: Model, labels: LabelTable) -> float:
        return float(sum(WORTH[name] for name in model))

    def measurer(self, model: Model) -> Measurer:
        return Table(model)

    def save(self, model: Model, folder: Path, *, trained_on: Sequence[str]) -> None:
        (folder / "model.json").write_text(json.dumps([model, trained_on]))

    def load(self, folder: Path) -> Model:
        model: Model = json.loads((folder / "model.json").read_text())[0]
        return model


class Table:
    """Reads reliability from the row of `BY` for the source that the model has seen most of."""

    requires: frozenset[str] = frozenset()

    def __init__(self, model: Model) -> None:
        letters = [name[0] for name in model]
        self.source = max(sorted(set(letters)), key=letters.count)
        self.name = "table"

    def measure(self, labels: LabelTable, context: Context) -> Scores:
        place = {name: i for i, name in enumerate(WORTH)}
        values = [BY[self.source][place[name]] for name in labels.expressions]
        return Scores(np.array(values, np.float32))


def complexity(labels: LabelTable) -> float:
    (source,) = set(labels.sources())
    return COMPLEXITY[source]


def adapt(
    out: Path,
    labels: LabelTable | None = None,
    *,
    learner: LedgerLearner | None = None,
    held_out: bool = False,
    order: Any = complexity,
    scored_by: Sequence[str] = (),
    previous: Previous | None = None,
    beyond: Beyond | None = None,
    **options: Any,
) -> Adapted:
    """Run MSA of the ledger learner in a run directory."""
    labels = make_labels() if labels is None else labels
    validation = None if held_out else make_labels("a")
    with Run(out, config={"msa": options}, labels=labels, validation=validation) as run:
        return msa(
            learner or LedgerLearner(),
            run,
            config=MSAConfig(**options),
            sources=Sources(
                scored_by=scored_by,
                continue_from=None if previous is None else previous.folder,
                complexity=order,
            ),
            beyond=beyond,
        )


def adapt_with_folds(out: str) -> None:
    """Adapt with two folds and a round."""
    adapt(Path(out), shared_images(), folds=2, beyond=Beyond(rounds=1))


def adapt_to_three(out: str) -> None:
    """Adapt to three sources."""
    adapt(Path(out), make_labels("abc"))
