"""`clipvg.adapt`: run SSA or MSA with grounding models in a run directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from clipvg.api.plan import Method, check_labelled, check_previous, choose_method
from clipvg.api.run import RunOptions, judge, judged_before, make_model, model_config, open_run
from clipvg.curriculum import (
    Adapted,
    Beyond,
    MSAConfig,
    Sources,
    SSAConfig,
    find_threshold,
    identity_of_scores,
    join_labelled,
    msa,
    ssa,
)
from clipvg.curriculum.threshold import SearchStrategy
from clipvg.labels import LabelTable
from clipvg.labels.splits import check_one_split
from clipvg.model import GroundingConfig, GroundingModel, ModelOptions, load
from clipvg.reliability import Context, GroundingMeasurer, ScoreMatrix
from clipvg.runtime.files import Json
from clipvg.similarity import IOU, find_similarity
from clipvg.training import FitConfig, GroundingLearner
from clipvg.training.state import write_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curriculum:
    """How `adapt` selects labels: the method, the threshold search and extensions.

    Attributes:
        method: "ssa" treats all labels as one source; "msa" goes source by source; "auto" is MSA
            if there are several sources, several given scores or a run to continue, else SSA. With
            annotated labels beside the pseudo-labels it is SSA.
        search: options of the search; its seed, if given, is also that of the trainings.
        strategy: function that finds a threshold, with the interface of `find_threshold`.
        beyond: extensions of the published method, such as soft weights and rounds; none when
            None. Calling a finished run again with another strategy or other extensions trains
            only what is new.
        similarity: how reliability compares boxes, see `clipvg.similarity`. Models are judged by
            it too: by the share of the validation labels on which it is at least 0.5.
        sources: scores that the labels already have, a run to continue, the order of the sources,
            annotated labels beside the pseudo-labels.
    """

    method: Method = "auto"
    search: SSAConfig | None = None
    strategy: SearchStrategy = find_threshold
    beyond: Beyond | None = None
    similarity: str = IOU
    sources: Sources | None = None


@dataclasses.dataclass(frozen=True)
class AdaptResult:
    """Result of `adapt`.

    Attributes:
        folder: the run directory.
        result: decisions, scores and summary of the curriculum.
    """

    folder: Path
    result: Adapted

    @cached_property
    def model(self) -> GroundingModel:
        """The adapted model, loaded at first use."""
        return load(self.folder / "model")

    @property
    def thresholds(self) -> dict[str, float]:
        """The chosen reliability threshold h* of each source, in the order of decisions.

        These are the thresholds of the search; those of variants are in ``summary["beyond"]``.
        """
        return self.result.thresholds

    @property
    def threshold(self) -> float:
        """The chosen reliability threshold h* of a run with one source.

        Raises:
            InputError: the run has several sources.
        """
        return self.result.threshold

    @property
    def curve(self) -> list[tuple[float, float | None]]:
        """(threshold, performance) of every candidate, by threshold, of a run with one source.

        Raises:
            InputError: the run has several sources.
        """
        return self.result.search.curve

    @property
    def scores(self) -> ScoreMatrix:
        """Reliability of the training labels by each measurer and by the adapted model."""
        return self.result.scores

    @property
    def summary(self) -> Json:
        """The content of ``summary.json``."""
        return self.result.summary.to_dict()


def adapt(
    labels: LabelTable,
    *,
    out: str | Path,
    validation: LabelTable | None = None,
    backbone: str = "ViT-B-16",
    model: ModelOptions | None = None,
    training: FitConfig | None = None,
    curriculum: Curriculum | None = None,
    run: RunOptions | None = None,
) -> AdaptResult:
    """Adapt CLIP to visual grounding by self-paced selection of pseudo-labels (SSA, MSA).

    SSA trains a measurer on all labels, scores them, searches for the reliability threshold whose
    labels train the model that is best on the validation labels, and keeps that model in
    ``out/model``. MSA does so source by source, from simple to complex, with a measurer for each
    source; see docs/curriculum.md.

    Args:
        labels: pseudo-labels from one or several sources, as their column ``source`` says.
        out: run directory; an interrupted run is continued.
        validation: annotated labels to judge models on; without them a tenth of the images is held
            out, models are judged on their pseudo-labels, and the summary says so.
        backbone: name of the CLIP towers.
        model: options of the model besides its backbone; the published model when None.
        training: options of every training; the defaults of `FitConfig` when None.
        curriculum: how labels are selected; when None, SSA or MSA by the number of sources.
        run: device, unusable labels, progress, report and recorded command.

    Raises:
        InputError: ``out`` holds another run, or labels or options cannot be used.

    Example:
        >>> quick = FitConfig(epochs=1)
        >>> options = {"backbone": "clipvg-tiny", "training": quick, "out": "runs/adapted"}
        >>> run = adapt(labels, validation=validation, **options)
        >>> 0 <= run.thresholds["template"] <= 1
        True
    """
    check_one_split(labels)
    check_one_split(validation, "validation")
    run, training, plan = run or RunOptions(), training or FitConfig(), curriculum or Curriculum()
    sources = plan.sources or Sources()
    previous = check_previous(sources, out, validation)
    annotated = check_labelled(sources, plan.method, validation)
    labels = run.usable(labels, model or ModelOptions())
    validation = validation and run.usable(validation, model or ModelOptions())
    if previous is not None:  # its own labels were checked when that run began
        labels = previous.joined(labels)
    if annotated is not None:
        annotated = run.usable(annotated, model or ModelOptions())
        labels = join_labelled(annotated, labels, on_error=run.on_error)
    method = choose_method(plan.method, labels, sources)
    options = _options(plan.search or MSAConfig(seed=training.seed), method)
    training = dataclasses.replace(training, seed=options.seed)
    settings = model_config(labels, backbone, model)
    find_similarity(plan.similarity)  # raises if it is unknown
    learner = _Learner(settings, training, validation, device=run.place, progress=run.progress)
    learner.similarity = plan.similarity
    config: Json = {
        "method": method,
        "model": settings.to_dict(),
        "training": training.identity(),
        "curriculum": dataclasses.asdict(options),
    }
    if plan.similarity != IOU:
        config["similarity"] = plan.similarity
    if sources.scored_by:
        config["scored_by"] = identity_of_scores(labels, sources.scored_by)
    if annotated is not None:
        config["labelled"] = len(annotated)
    if method == "msa":
        config["complexity"] = _name_of(sources.complexity)
    if previous is not None:
        config["continue_from"] = previous.identity()
    further = dataclasses.asdict(plan.beyond) if plan.beyond else {}
    if plan.strategy is not find_threshold:
        further["strategy"] = _name_of(plan.strategy)
    with open_run(out, config, labels, validation, run.place, further) as opened:
        opened.command = run.recorded_command(opened)
        run.announce(opened)
        before = judged_before(opened)
        if isinstance(options, MSAConfig):
            result = msa(
                learner,
                opened,
                config=options,
                sources=sources,
                strategy=plan.strategy,
                beyond=plan.beyond,
                progress=run.progress,
            )
        else:
            result = ssa(
                learner,
                opened,
                config=options,
                scored_by=sources.scored_by[0] if sources.scored_by else None,
                strategy=plan.strategy,
                beyond=plan.beyond,
                progress=run.progress,
            )
        adapted = learner.load(opened.folder / "model")
        if judge(adapted, labels, validation, training, before=before, learner=learner):
            opened.write(lambda: write_model(adapted, opened.folder))
        run.draw_report(opened)
    return AdaptResult(opened.folder, result)


class _Learner(GroundingLearner):
    """Trains grounding models, saves them as checkpoints and makes measurers of them."""

    def __init__(
        self,
        settings: GroundingConfig,
        training: FitConfig,
        validation: LabelTable | None,
        *,
        device: torch.device,
        progress: bool,
    ) -> None:
        super().__init__(
            lambda seed: make_model(settings, seed, device), training, validation, progress=progress
        )
        self.device = device

    def measurer(self, model: GroundingModel) -> GroundingMeasurer:
        """Return a trained model as a measurer."""
        return GroundingMeasurer(model, "measurer", similarity=self.similarity)

    def evaluate(self, model: GroundingModel, labels: LabelTable) -> float:
        """Return the share of labels, by weight, on which the similarity is at least 0.5."""
        if self.similarity == IOU:
            return super().evaluate(model, labels)
        found = self.measurer(model).measure(labels, Context()).values
        return float(np.average(found >= 0.5, weights=labels.weights()))

    def save(self, model: GroundingModel, folder: Path, *, trained_on: Sequence[str]) -> None:
        """Write a checkpoint that records which sources the model was trained on."""
        model.config.trained_on = sorted(trained_on)
        model.save_pretrained(folder)

    def load(self, folder: Path) -> GroundingModel:
        """Load a checkpoint onto the training device."""
        return load(folder).to(self.device)


def _name_of(function: Callable[..., object]) -> str:
    """Return the name that identifies a function in the configuration of a run."""
    return getattr(function, "__qualname__", repr(function))


def _options(curriculum: SSAConfig, method: Method) -> SSAConfig:
    """Return the options as the config class of the method, whichever class was given."""
    wanted = MSAConfig if method == "msa" else SSAConfig
    names = {field.name for field in dataclasses.fields(wanted)}
    given = {k: v for k, v in dataclasses.asdict(curriculum).items() if k in names}
    return wanted(**given)
