"""Compare out-of-sample measurers with the measurer trained on the labels that it measures."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from _science.quality import by_kind
from _science.world import MOSTLY, STANDARD
from clipvg.curriculum import split_folds
from clipvg.data.scenes import is_correct
from clipvg.reliability.measurer import Context

if TYPE_CHECKING:
    from _science.experiments import Bench
    from _science.lab import Lab
    from clipvg.labels import LabelTable

RATES = (0.4, 0.7)
FOLDS = (2, 4)
SEARCHES: dict[str, dict[str, Any]] = {
    "in-sample": {},
    "4 folds": {"folds": 4},
    "4 folds, shared, mean": {"folds": 4, "fold_steps": "shared", "fold_mean": True},
}


def measure_folds(bench: Bench) -> dict[str, Any]:
    """Return AUROC by kind of error on the mixed source at two rates, in-sample and by folds."""
    found: dict[str, Any] = {}
    for rate in RATES:
        labels = bench.world.training(noise=dataclasses.replace(STANDARD, rate=rate))
        seed, lab = bench.world.seed, bench.lab
        measured = {"in-sample": _ask(lab, lab.fit(labels, seed=seed).model, labels)}
        for folds in FOLDS:
            measured[f"{folds} folds"] = _out_of_sample(lab, labels, folds, seed)
            short = lab.shorter(1 / folds)
            shared = _out_of_sample(short, labels, folds, seed)
            measured[f"{folds} folds, shared steps"] = shared
            measured[f"{folds} folds, shared, mean"] = (measured["in-sample"] + shared) / 2
        correct, error = is_correct(labels), labels.table.column("scene.error").to_numpy()
        found[f"{rate:g}"] = {
            name: by_kind(values, correct, error) for name, values in measured.items()
        }
    return {"folds": found}


def adapt_with_folds(bench: Bench) -> dict[str, Any]:
    """Run SSA on the mixed source with 70 % wrong labels, in-sample and by folds."""
    labels = bench.world.training(noise=MOSTLY)
    found: dict[str, Any] = {"all": bench.train(labels)}
    for number, (name, search) in enumerate(SEARCHES.items()):
        found[name] = bench.ssa(f"ssa-folds-{number}", labels, search=search)
    return found


def _out_of_sample(lab: Lab, labels: LabelTable, folds: int, seed: int) -> np.ndarray:
    fold = split_folds(labels, folds, seed=seed)
    without = np.stack([fold != number for number in range(folds)])
    found = np.full(len(labels), np.nan, np.float32)
    for number, fit in enumerate(lab.fit_many(labels, without, seed=seed)):
        rows = np.flatnonzero(fold == number)
        found[rows] = _ask(lab, fit.model, labels.select(rows))
    return found


def _ask(lab: Lab, model: Any, labels: LabelTable) -> np.ndarray:
    return lab.measurer(model).measure(labels, Context()).values
