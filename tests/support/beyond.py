"""SSA of the toy learner with the options beyond the paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clipvg.curriculum import Adapted, Beyond, Fitted
from support import toy

MEASURES = ("ambiguity", "both=weighted_mean,of=measurer+ambiguity")
EVERYTHING = Beyond(measures=MEASURES, soft=True, calibrated=0.5, correct=0.6, rounds=2)
ALONE = Beyond(measures=MEASURES, alone=True, calibrated=0.5, skip_search=True, rounds=3)


class Teaching(toy.ToyLearner):
    """A toy learner whose trainings also return a teacher, which predicts slightly larger boxes."""

    def fit(self, labels: Any, **options: Any) -> Any:
        fit = super().fit(labels, **options)
        larger = {
            word: [box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1]
            for word, box in fit.model.items()
        }
        return Fitted(fit.model, teacher=larger)


def run(out: Path, beyond: Beyond | None = EVERYTHING, **options: Any) -> Adapted:
    """Adapt the toy learner, judged on correct labels."""
    validation = toy.make_labels(40, seed=1, wrong=0.0)
    options = {"learner": Teaching(), "validation": validation, **options}
    return toy.adapt(out, beyond=beyond, **options)


def run_everything(out: str) -> None:
    """Adapt with the options of `EVERYTHING`."""
    run(Path(out))


def run_alone(out: str) -> None:
    """Adapt as the recipe `recommended` does, with measures that need no image."""
    run(Path(out), ALONE, warm_start=True)


def variants_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the variants in a run's summary by name."""
    summary = json.loads((folder / "summary.json").read_text())
    return {variant["name"]: variant for variant in summary["beyond"]["variants"]}
