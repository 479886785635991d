"""Toy SSA with everything beyond the paper: ``python beyond_program.py OUT WRITE...``.

For each WRITE a child process is killed at its n-th write (0: never); children share the imports.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from curriculum import toy

from clipvg.curriculum import Adapted, Beyond, Fitted

MEASURES = ("ambiguity", "both=weighted_mean,of=measurer+ambiguity")
EVERYTHING = Beyond(measures=MEASURES, soft=True, calibrated=0.5, correct=0.6, rounds=2)


class Teaching(toy.ToyLearner):
    """Its trainings give a teacher too, which sees all boxes a little larger."""

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


if __name__ == "__main__":
    for write in map(int, sys.argv[2:]):
        child = os.fork()
        if child == 0:
            if write:
                toy.die_at(write)
            run(Path(sys.argv[1]))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
