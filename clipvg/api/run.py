"""`clipvg.train`, and the options, model and run directory that it shares with `clipvg.adapt`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from clipvg.data.preset import get_preset
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.labels.splits import check_one_split
from clipvg.model import GroundingConfig, GroundingModel, ModelOptions, create_model, load
from clipvg.model.quality import QualityHead
from clipvg.model.tokenizer import Tokenizer
from clipvg.runs import Run, Workers
from clipvg.runs.record import whole_root
from clipvg.runtime import distributed
from clipvg.runtime.distributed import Device
from clipvg.runtime.files import Json, read_json, write_json
from clipvg.runtime.progress import say
from clipvg.training import FitConfig, GroundingLearner, fit
from clipvg.training.state import write_model
from clipvg.training.usable import OnError, usable_labels


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out; none of these options is part of its configuration.

    Args:
        device: to train on, such as "cpu" or "cuda:1"; when None, a CUDA GPU if there is one, else
            the CPU.
        progress: show progress.
        report: write ``report.html``.
        command: command line to record in the summary; when empty, the recorded one is kept.
    """

    device: Device = None
    on_error: OnError = "raise"
    progress: bool = True
    report: bool = True
    command: str = ""

    @property
    def place(self) -> torch.device:
        """The device to train on."""
        return distributed.choose_device(self.device)

    def usable(self, labels: LabelTable, settings: ModelOptions) -> LabelTable:
        """Return the labels that a model with these options can use; see `usable_labels`."""
        tokenizer = Tokenizer(
            get_preset(settings.preset), prefix=settings.prefix, prompt=settings.prompt
        )
        return usable_labels(
            labels, tokenizer, on_error=self.on_error, device=self.place, progress=self.progress
        )

    def recorded_command(self, run: Run) -> str:
        """Return the command line of this call, else the recorded one; "" if neither is known."""
        with suppress(InputError):  # a damaged summary will be rewritten
            return self.command or str(read_json(run.folder / "summary.json").get("command", ""))
        return ""

    def announce(self, run: Run) -> None:
        """Report the state of a run that was started earlier."""
        state = run.state()
        if ": finished" in state:
            state += "; its result is read, and only what is missing is made"
        say(state, show=self.progress and bool(state) and run.workers.is_main)

    def draw_report(self, run: Run) -> None:
        """Write the report page of a finished run, if requested."""
        from clipvg.report.run import draw_report

        if self.report:
            run.write(lambda: draw_report(run.folder))


def open_run(
    out: str | Path,
    config: Mapping[str, object],
    labels: LabelTable,
    validation: LabelTable | None,
    device: torch.device,
    further: Mapping[str, object] | None = None,
) -> Run:
    """Open a run directory, together with the other processes of `torchrun`; see `Run`."""
    world = distributed.join(device)
    workers = Workers(world.is_main, lambda: distributed.barrier(world))
    config = {**config, "processes": world.size}  # each batch is divided among them
    return Run(
        out, config=config, labels=labels, validation=validation, workers=workers, further=further
    )


def model_config(
    labels: LabelTable, backbone: str, options: ModelOptions | None
) -> GroundingConfig:
    """Return the configuration of a model to be trained on labels."""
    sources = sorted(filter(None, set(labels.sources())))
    return (options or ModelOptions()).configure(backbone, trained_on=sources)


def judged_before(run: Run) -> GroundingModel | None:
    """Return the model that an earlier call left in a run, or None if it has no quality head."""
    try:
        model = load(run.model_folder)
    except InputError:  # there is none yet, or it is damaged and will be made again
        return None
    return model if model.quality else None


def judge(
    model: GroundingModel,
    labels: LabelTable,
    validation: LabelTable | None,
    training: FitConfig,
    *,
    before: GroundingModel | None = None,
    learner: GroundingLearner | None = None,
) -> bool:
    """Give a trained model a quality head if requested and possible; return whether it got one.

    Under `torchrun` the first process fits the head and all processes get the same one. If the
    weights equal those of `before`, the model of an earlier call, its head is reused. A learner
    lends the features that it has encoded.
    """
    from clipvg.training.quality import LEAST, fit_quality

    if not training.quality or validation is None or len(validation) < LEAST:
        return False
    world = distributed.join(model.device)

    def fitted() -> QualityHead | None:
        if world.is_main and before is not None and _are_alike(before, model):
            model.quality = before.quality
        elif world.is_main:
            features = None if learner is None else learner.features(model, labels)
            fit_quality(model, labels, validation, features=features, seed=training.seed)
        return model.quality and model.quality.cpu()  # else others would load it on this device

    head = distributed.together(fitted, world)[0]
    if head is not None:
        model.keep_quality(head)
    return head is not None


def _are_alike(one: GroundingModel, other: GroundingModel) -> bool:
    """Return whether two models have equal weights, apart from their quality heads."""
    first, second = (
        {name: value.cpu() for name, value in model.state_dict().items()
         if not name.startswith("quality.")}
        for model in (one, other)
    )  # fmt: skip
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def make_model(settings: GroundingConfig, seed: int, device: torch.device) -> GroundingModel:
    """Return a new model; the seed determines its initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_model(**settings.to_dict()).to(device)


@dataclass(frozen=True)
class TrainResult:
    """Result of `train`.

    Attributes:
        folder: the run directory.
        model: the trained model.
        summary: the content of ``summary.json``.
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
        labels: pseudo-labels, human labels, or a mix of both, weighted by ``weight``.
        out: run directory; an interrupted run is continued.
        validation: labels on which the best epoch is chosen.
        backbone: name of the CLIP towers.
        model: options of the model besides its backbone; the published model when None.
        training: options of the training; the defaults of `FitConfig` when None.
        run: device, unusable labels, progress, report and recorded command.

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
            "best": None if fitted.best is None else asdict(fitted.best),
            "last": fitted.metrics[-1] if fitted.metrics else {},
            "seconds": fitted.seconds,
        }
        opened.write(lambda: write_json(opened.folder / "summary.json", summary))
        options.draw_report(opened)
    return TrainResult(opened.folder, fitted.model, summary)
