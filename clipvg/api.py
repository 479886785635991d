"""The public face: load, read, train, score, adapt, evaluate. Composes the layers below.

Training and adapting write a run directory; called again with the same arguments they continue it.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from clipvg.curriculum import Run, SSAConfig, SSAResult, Workers, ssa
from clipvg.curriculum.files import write_json
from clipvg.labels import LabelTable, read_labels
from clipvg.model import GroundingConfig, GroundingModel, create_model
from clipvg.model import load as load_model
from clipvg.reliability import GroundingMeasurer, ScoreMatrix, score_labels
from clipvg.training import Evaluation, FitConfig, GroundingLearner, distributed, fit
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

Device = str | torch.device | None
_AUTO = "auto"
_TINY = {"backbone": "clipvg-tiny", "pretrained": "scenes-v1"}


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


@dataclasses.dataclass(frozen=True)
class AdaptResult:
    """Result of `adapt`.

    Attributes:
        folder: the run directory.
        result: decisions, scores and summary of the curriculum.
    """

    folder: Path
    result: SSAResult

    @cached_property
    def model(self) -> GroundingModel:
        """The adapted model, loaded at first use."""
        return load(self.folder / "model")

    @property
    def threshold(self) -> float:
        """The chosen reliability threshold h*."""
        return self.result.threshold

    @property
    def scores(self) -> ScoreMatrix:
        """Reliability of the training labels by the measurer and by the adapted model."""
        return self.result.scores

    @property
    def curve(self) -> list[tuple[float, float | None]]:
        """(threshold, performance) of every candidate, by threshold."""
        return self.result.search.curve

    @property
    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` holds."""
        return self.result.summary


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
    return load_model(path).to(_device(device))


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
    pretrained: str | None = _AUTO,
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
    settings = _model_config(labels, backbone, pretrained, model)
    config = {"method": "train", "model": settings.to_dict(), "training": training.identity()}
    with _run(out, config, labels, validation, device) as run:
        fresh = _make_model(settings, training.seed, _device(device))
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
            "command": command or _recorded_command(run),
            "labels": run.config["labels"],
            "validation": run.config["validation"],
            "parameters": fitted.model.num_parameters(),
            "best": None if fitted.best is None else dataclasses.asdict(fitted.best),
            "last": last,
            "seconds": fitted.seconds,
        }
        run.write(lambda: write_json(run.folder / "summary.json", summary))
    return TrainResult(run.folder, fitted.model, summary)


def adapt(
    labels: LabelTable,
    *,
    out: str | Path,
    validation: LabelTable | None = None,
    backbone: str = "ViT-B-16",
    pretrained: str | None = _AUTO,
    model: Mapping[str, Any] | None = None,
    training: FitConfig | None = None,
    curriculum: SSAConfig | None = None,
    device: Device = None,
    progress: bool = True,
    report: bool = True,
    command: str = "",
) -> AdaptResult:
    """Adapt CLIP to visual grounding by self-paced selection of pseudo-labels (SSA).

    Trains a measurer on all labels, scores them, searches the reliability threshold whose labels
    train the best model on the validation labels, and keeps that model in ``out/model``.

    Args:
        labels: pseudo-labels. Several sources are taken together as one, with a warning.
        out: run directory; one that was interrupted is continued.
        validation: annotated labels that decide; without them a tenth of the images is held out,
            whose pseudo-labels decide, and the summary says so.
        backbone: name of the CLIP towers.
        pretrained: weight tag; None for random towers, "auto" for the backbone's usual one.
        model: other fields of `GroundingConfig`.
        training: options of every training; the published recipe when None.
        curriculum: options of the search; its seed, where given, is that of the trainings too.
        device: where to train; a GPU where there is one when None.
        progress: show progress.
        report: write ``report.html``.
        command: recorded in the summary; a call that gives none keeps the recorded one.

    Raises:
        InputError: ``out`` holds another run, or labels or options cannot be used.

    Example:
        >>> run = adapt(labels, validation=val, backbone="ViT-B-16", out="runs/refcoco")
        >>> run.threshold, run.summary["gain"]
    """
    training = training or FitConfig()
    curriculum = curriculum or SSAConfig(seed=training.seed)
    training = dataclasses.replace(training, seed=curriculum.seed)
    settings = _model_config(labels, backbone, pretrained, model)
    _warn_of_sources(settings.trained_on)
    place = _device(device)
    learner = GroundingLearner(
        lambda seed: _make_model(settings, seed, place),
        training,
        validation,
        progress=progress,
    )
    config = {
        "method": "ssa",
        "model": settings.to_dict(),
        "training": training.identity(),
        "curriculum": dataclasses.asdict(curriculum),
    }
    with _run(out, config, labels, validation, place) as run:
        result = ssa(
            learner,
            labels,
            validation,
            run=run,
            store=_Checkpoints(place),
            as_measurer=lambda trained: GroundingMeasurer(trained, "measurer"),
            config=curriculum,
            progress=progress,
            notes={"command": command or _recorded_command(run)},
        )
        if report:
            run.write(lambda: _draw_report(run.folder))
    return AdaptResult(run.folder, result)


class _Checkpoints:
    """Keeps grounding models in folders of a run."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def save(self, model: GroundingModel, folder: Path) -> None:
        model.save_pretrained(folder)

    def load(self, folder: Path) -> GroundingModel:
        return load(folder, device=self._device)


def _device(device: Device) -> torch.device:
    if device is None:
        return distributed.default_device()
    return torch.device(device)


def _run(
    out: str | Path,
    config: Mapping[str, Any],
    labels: LabelTable,
    validation: LabelTable | None,
    device: Device,
) -> Run:
    world = distributed.join(_device(device))
    workers = Workers(world.is_main, lambda: distributed.barrier(world))
    config = {**config, "processes": world.size}  # they share out each batch
    return Run(out, config=config, labels=labels, validation=validation, workers=workers)


def _recorded_command(run: Run) -> str:
    """What was typed when the run was made; "" where that is not known."""
    path = run.folder / "summary.json"
    return str(json.loads(path.read_text()).get("command", "")) if path.exists() else ""


def _model_config(
    labels: LabelTable, backbone: str, pretrained: str | None, model: Mapping[str, Any] | None
) -> GroundingConfig:
    if pretrained == _AUTO:
        pretrained = _TINY["pretrained"] if backbone == _TINY["backbone"] else "openai"
    sources = sorted(filter(None, set(labels.sources())))
    fields = {"backbone": backbone, "pretrained": pretrained, "trained_on": sources}
    return GroundingConfig.from_dict({**fields, **(model or {})})


def _make_model(settings: GroundingConfig, seed: int, device: torch.device) -> GroundingModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_model(**settings.to_dict()).to(device)


def _warn_of_sources(sources: list[str]) -> None:
    if len(sources) > 1:
        warnings.warn(
            f"the labels have {len(sources)} sources ({', '.join(sources)}); SSA takes them "
            "together as one. Select the rows of one source to adapt to it alone.",
            stacklevel=3,
        )


def _draw_report(folder: Path) -> None:
    from clipvg.report import draw_report

    draw_report(folder)
