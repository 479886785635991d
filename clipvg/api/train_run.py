"""`clipvg.train`: one training in a run directory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from clipvg.api.run import RunOptions, judge, judged_before, make_model, model_config, open_run
from clipvg.labels import LabelTable
from clipvg.labels.splits import check_one_split
from clipvg.model import GroundingModel, ModelOptions
from clipvg.runs.record import whole_root
from clipvg.runtime.files import Json, write_json
from clipvg.training import FitConfig, fit
from clipvg.training.record import write_model


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """Result of `train`.

    Attributes:
        folder: the run directory.
        model: the trained model.
        summary: what ``summary.json`` holds.
    """

    folder: Path
    model: GroundingModel
    summary: Json


def train(
    labels: LabelTable,
    *,
    out: str | Path,
    validation: LabelTable | None = None,
    backbone: str = "ViT-B-16",
    model: ModelOptions | None = None,
    training: FitConfig | None = None,
    run: RunOptions | None = None,
) -> TrainResult:
    """Train a grounding model on labels in a run directory; ``out/model`` is the result.

    Args:
        labels: pseudo-labels, human labels, or both mixed by their ``weight``.
        out: run directory; one that was interrupted is continued.
        validation: labels that choose the best epoch.
        backbone: name of the CLIP towers.
        model: what else the model is made of; the published model when None.
        training: options of the training; those of `FitConfig` when None.
        run: where it runs and what it says and writes.

    Raises:
        InputError: ``out`` holds another run, or labels or options cannot be used.

    Example:
        >>> quick = FitConfig(epochs=2)
        >>> result = train(labels, backbone="clipvg-tiny", training=quick, out="runs/first")
        >>> result.model.predict("street.jpg", "man in red").shape
        (1, 4)
    """
    check_one_split(labels)
    check_one_split(validation, "validation")
    options, training = run or RunOptions(), training or FitConfig()
    settings = model_config(labels, backbone, model)
    labels = options.usable(labels, settings)
    validation = validation and options.usable(validation, settings)
    config = {"method": "train", "model": settings.to_dict(), "training": training.identity()}
    with open_run(out, config, labels, validation, options.place) as opened:
        options.announce(opened)
        before = judged_before(opened)
        fitted = fit(
            make_model(settings, training.seed, options.place),
            labels,
            config=training,
            validation=validation,
            out=opened.folder,
            progress=options.progress,
        )
        if judge(fitted.model, labels, validation, training, before=before):
            opened.write(lambda: write_model(fitted.model, opened.folder))
        summary = {
            "method": "train",
            "command": options.recorded_command(opened),
            "labels": opened.config["labels"],
            "root": whole_root(labels),
            "validation": opened.config["validation"],
            "parameters": fitted.model.num_parameters(),
            "best": None if fitted.best is None else dataclasses.asdict(fitted.best),
            "last": fitted.metrics[-1] if fitted.metrics else {},
            "seconds": fitted.seconds,
        }
        opened.write(lambda: write_json(opened.folder / "summary.json", summary))
        options.draw_report(opened)
    return TrainResult(opened.folder, fitted.model, summary)
