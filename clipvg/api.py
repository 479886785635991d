"""The public face: load, read, train, score, adapt, evaluate. Composes the layers below.

Training and adapting write a run directory; called again with the same arguments they continue it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clipvg.adapting import AdaptResult, adapt
from clipvg.curriculum.files import write_json
from clipvg.labels import LabelTable, read_labels
from clipvg.model import GroundingModel
from clipvg.model import load as load_model
from clipvg.reliability import ScoreMatrix, score_labels
from clipvg.running import (
    AUTO,
    Device,
    choose_device,
    make_model,
    model_config,
    open_run,
    recorded_command,
)
from clipvg.training import Evaluation, FitConfig, fit
from clipvg.training import evaluate as evaluate_model

if TYPE_CHECKING:
    from clipvg.reliability.engine import Precision
    from clipvg.reliability.measurer import OnError
    from clipvg.reliability.score import AnyMeasurer

__all__ = [
    "AdaptResult",
    "TrainResult",
    "adapt",
    "evaluate",
    "load",
    "read_labels",
    "score",
    "train",
]


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
    summary: dict[str, Any]


def load(path: str | Path, *, device: Device = None) -> GroundingModel:
    """Load a grounding model of ours or one published by the paper's authors.

    Args:
        path: a model folder, an authors' ``.pth``, ``hf-hub:org/repo`` or ``local-dir:folder``.
        device: where to; a GPU where there is one when None.

    Returns:
        The model in evaluation mode.

    Raises:
        InputError: nothing there that can be loaded.

    Example:
        >>> model = load("runs/refcoco/model")
        >>> boxes = model.predict("street.jpg", ["man in red", "dog on the left"])
    """
    return load_model(path).to(choose_device(device))


def score(
    labels: LabelTable,
    measurers: Mapping[str, AnyMeasurer] | Iterable[str],
    *,
    on_error: OnError = "null",
    batch_size: int | None = None,
    precision: Precision = "auto",
    store: str | Path | None = None,
    progress: bool = False,
) -> ScoreMatrix:
    """Measure the reliability of labels; see `clipvg.reliability.score_labels`.

    Args:
        labels: N labels with an image root.
        measurers: name -> model, measurer or checkpoint path; or texts ``[NAME[@SOURCE]=]PATH``.
        on_error: "null" leaves labels with an unreadable image unscored, "raise" stops.
        batch_size: labels fused at a time; None is chosen by device and number of tokens.
        precision: "fp32" (exact), "bf16", "fp16", or "auto": fp32 on a CPU, bf16 on a GPU.
        store: folder that keeps the scores of finished shards of images; a call that was killed
            goes on from there, and a later one scores only what is missing.
        progress: show a progress bar.

    Returns:
        The score matrix R_ij, labels in input order.

    Example:
        >>> scores = score(labels, {"template": m1, "relation": m2})
        >>> scores.count_above(0.5)
    """
    return score_labels(
        labels,
        measurers,
        on_error=on_error,
        batch_size=batch_size,
        precision=precision,
        store=store,
        progress=progress,
    )


def evaluate(
    model: GroundingModel | str | Path,
    labels: LabelTable,
    *,
    against: Literal["box", "truth"] = "box",
    batch_size: int = 64,
    num_workers: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Measure Acc@0.25/0.5/0.75 and mean IoU of a model; see `clipvg.training.evaluate`.

    Args:
        model: a model, or where one is.
        labels: labels with an image root.
        against: compare with the labels' boxes or with their true boxes.
        batch_size: labels a batch.
        num_workers: processes that decode images.
        progress: show a progress bar.
    """
    if isinstance(model, str | Path):
        model = load(model)
    return evaluate_model(
        model,
        labels,
        against=against,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress,
    )


def train(
    labels: LabelTable,
    *,
    out: str | Path,
    validation: LabelTable | None = None,
    backbone: str = "ViT-B-16",
    pretrained: str | None = AUTO,
    model: Mapping[str, Any] | None = None,
    training: FitConfig | None = None,
    device: Device = None,
    progress: bool = True,
    command: str = "",
) -> TrainResult:
    """Train a grounding model on labels in a run directory; ``out/model`` is the result.

    Args:
        labels: pseudo-labels, human labels, or both mixed by their ``weight``.
        out: run directory; one that was interrupted is continued.
        validation: labels that choose the best epoch.
        backbone: name of the CLIP towers.
        pretrained: weight tag; None for random towers, "auto" for the backbone's usual one.
        model: other fields of `GroundingConfig`.
        training: options of the training; the published recipe when None.
        device: where to train; a GPU where there is one when None.
        progress: show progress.
        command: recorded in the summary; a call that gives none keeps the recorded one.

    Raises:
        InputError: ``out`` holds another run, or labels or options cannot be used.

    Example:
        >>> result = train(labels, backbone="clipvg-tiny", out="runs/first")
        >>> result.model.predict("street.jpg", "man in red")
    """
    training = training or FitConfig()
    settings = model_config(labels, backbone, pretrained, model)
    config = {"method": "train", "model": settings.to_dict(), "training": training.identity()}
    with open_run(out, config, labels, validation, device) as run:
        fresh = make_model(settings, training.seed, choose_device(device))
        fitted = fit(
            fresh,
            labels,
            config=training,
            validation=validation,
            out=run.folder,
            progress=progress,
        )
        last = fitted.metrics[-1] if fitted.metrics else {}
        summary = {
            "method": "train",
            "command": command or recorded_command(run),
            "labels": run.config["labels"],
            "validation": run.config["validation"],
            "parameters": fitted.model.num_parameters(),
            "best": None if fitted.best is None else dataclasses.asdict(fitted.best),
            "last": last,
            "seconds": fitted.seconds,
        }
        run.write(lambda: write_json(run.folder / "summary.json", summary))
    return TrainResult(run.folder, fitted.model, summary)
