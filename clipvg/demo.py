"""The offline demo, `clipvg demo`: the whole method on rendered scenes with known truth.

For each seed: render scenes, let an imperfect detector look at them, generate pseudo-labels from
its observations, adapt with SSA (measurer, scores, threshold search), train the clean-label
ceiling, and test measurer, SSA and ceiling on scenes that nothing was selected on.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from clipvg.api import Curriculum, RunOptions, adapt, load, train
from clipvg.configs import read_recipe
from clipvg.curriculum import SSAConfig
from clipvg.data.scenes import (
    CLEAN,
    SCENES_VERSION,
    SceneConfig,
    is_correct,
    make_labels,
    observe_scenes,
    with_truth,
)
from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.model import ModelOptions
from clipvg.pseudo.generate import generate
from clipvg.reliability.histogram import auroc
from clipvg.report.run import draw_report
from clipvg.runtime.files import write_json
from clipvg.training import FeatureCache, FitConfig, evaluate

T = TypeVar("T")

TRAINING_SCENES = SceneConfig(num_objects=(1, 4))  # some with one object: easier to start from
SOURCES = ("template", "relation")  # people name both what a thing is and where it stands
NUM_TRAIN, NUM_VALIDATION, NUM_TEST = 2500, 300, 500  # images


def run_demo(out: str | Path, seeds: int = 1, *, progress: bool = True) -> dict[str, Any]:
    """Run the demo, continuing one that `out` already holds in part.

    Args:
        out: folder; gets `seed-N/`, `report.html` and `summary.json`.
        seeds: number of repetitions, with seeds 0, 1, ...
        progress: report progress on standard error.

    Returns:
        The content of `summary.json`. Lists over seeds: `acc_0.5` of `all_labels` (the measurer),
        `ssa` (the winning candidate) and `clean_labels` (the same training on exactly the correct
        labels), `auroc` of reliability at telling correct from wrong labels, `threshold`, `kept`
        and `num_labels`. Also `gap_recovered`, the mean gain of SSA over the mean gain of clean
        labels, and the `seconds` of this call with its `timings` by step.
    """
    out, started = Path(out), time.monotonic()
    if (out / "config.yaml").exists():
        raise InputError(f"{out} holds a run of clipvg train or adapt; choose another --out.")
    clock = _Clock(progress)
    results = [_run_seed(out / f"seed-{seed}", seed, clock, progress) for seed in range(seeds)]
    by_seed = {name: [result[name] for result in results] for name in results[0]}
    accuracy = {name: by_seed.pop(name) for name in ("all_labels", "ssa", "clean_labels")}
    summary = {
        "method": "demo",
        "scenes": SCENES_VERSION,
        "acc_0.5": accuracy,
        **by_seed,
        "gap_recovered": _gap_recovered(accuracy),
        "command": f"clipvg demo --out {out} --seeds {seeds}",
        "timings": clock.timings,
        "seconds": round(time.monotonic() - started, 1),
    }
    write_json(out / "summary.json", summary)
    draw_report(out)
    return summary


def recipe() -> tuple[str, ModelOptions, FitConfig]:
    """Return the backbone, model options and training options of the recipe `scenes`."""
    values = read_recipe("scenes")
    return values["backbone"], ModelOptions(**values["model"]), FitConfig(**values["training"])


def _run_seed(folder: Path, seed: int, clock: _Clock, progress: bool) -> dict[str, Any]:
    def annotated(name: str, count: int, number: int) -> LabelTable:
        return clock(
            f"rendering {count} {name} scenes",
            lambda: _annotated(folder / name, count, seed=3 * seed + number),
        )

    labels = clock(
        f"{NUM_TRAIN} images without labels: detecting, generating pseudo-labels",
        lambda: _generated(folder / "training", NUM_TRAIN, seed=3 * seed),
    )
    validation = annotated("validation", NUM_VALIDATION, 1)
    test = annotated("test", NUM_TEST, 2)
    backbone, model, training = recipe()
    common: dict[str, Any] = {
        "backbone": backbone,
        "model": model,
        # A quality head takes half a minute per model, and the demo compares only boxes.
        "training": dataclasses.replace(training, seed=seed, quality=False),
        "run": RunOptions(progress=progress, report=False),
    }
    run = clock(
        "SSA: measurer, scores, threshold search",
        lambda: adapt(
            labels,
            validation=validation,
            out=folder / "ssa",
            curriculum=Curriculum(method="ssa", search=SSAConfig(seed=seed)),
            **common,
        ),
    )
    correct = is_correct(labels)
    clock(
        "ceiling: training on the correct labels",
        lambda: train(
            labels.select(correct), validation=validation, out=folder / "clean", **common
        ),
    )
    measurer = folder / "ssa" / "stages" / run.summary["no_curriculum"]["stage"] / "model"
    models = {
        "all_labels": measurer,
        "ssa": folder / "ssa" / "model",
        "clean_labels": folder / "clean" / "model",
    }
    accuracy = clock("testing", lambda: _test(models, test))
    return {
        **accuracy,
        "auroc": auroc(run.scores["measurer"], correct),
        "threshold": run.threshold,
        "kept": run.summary["kept"],
        "num_labels": len(labels),
    }


def _generated(folder: Path, count: int, seed: int) -> LabelTable:
    """Return rendered scenes in `folder` with pseudo-labels generated from observations of them.

    The truth is written with the labels, but only `is_correct` reads it.
    """
    path = folder / "labels.parquet"
    if not path.exists():
        seen, scenes = observe_scenes(folder, count, seed=seed, config=TRAINING_SCENES)
        seen.write(folder / "observations.jsonl")
        with_truth(generate(seen, SOURCES), scenes).write(path)
    return read_labels(path, images=folder / "images")


def _annotated(folder: Path, count: int, seed: int) -> LabelTable:
    """Return rendered scenes in `folder` with correct labels, as annotators would write them."""
    path = folder / "labels.parquet"
    if not path.exists():
        make_labels(folder, count, noise=CLEAN, seed=seed).write(path)
    return read_labels(path, images=folder / "images")


def _test(models: dict[str, Path], test: LabelTable) -> dict[str, float]:
    loaded = {name: load(path) for name, path in models.items()}
    features = FeatureCache(loaded["ssa"])
    return {
        name: evaluate(model, test, against="truth", features=features).accuracy[0.5]
        for name, model in loaded.items()
    }


def _gap_recovered(accuracy: dict[str, list[float]]) -> float | None:
    """Return the gain of SSA as a share of that of clean labels; None if these gain nothing."""
    base, adapted, ceiling = (float(np.mean(values)) for values in accuracy.values())
    return (adapted - base) / (ceiling - base) if ceiling > base else None


class _Clock:
    """Runs named steps, announces each one and adds up their time."""

    def __init__(self, talk: bool) -> None:
        self.timings: dict[str, float] = {}
        self._talk = talk

    def __call__(self, name: str, step: Callable[[], T]) -> T:
        if self._talk:
            print(f"{name} ...", file=sys.stderr, flush=True)
        started = time.monotonic()
        result = step()
        seconds = self.timings.get(name, 0.0) + time.monotonic() - started
        self.timings[name] = round(seconds, 1)
        return result
