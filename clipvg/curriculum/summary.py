"""Records of a run's ``summary.json``: decisions with their evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipvg.curriculum.beyond.facts import BeyondFacts
from clipvg.curriculum.labelled import is_labelled
from clipvg.curriculum.threshold import ThresholdSearch
from clipvg.labels import LabelTable
from clipvg.runs.record import Record, whole_root
from clipvg.runtime.files import Json, read_json
from clipvg.runtime.gate import reading
from clipvg.similarity import IOU


@dataclass(frozen=True, kw_only=True)
class LabelFacts(Record):
    """Facts about labels: number, images, sources, fingerprint, image root, annotated ones."""

    count: int
    images: int
    sources: list[str]
    fingerprint: str
    root: str | None
    labelled: int = 0  # annotated ones beside pseudo-labels

    @classmethod
    def of(cls, labels: LabelTable) -> LabelFacts:
        """Return the facts of labels."""
        return cls(
            count=len(labels),
            images=labels.num_images,
            sources=sorted(set(labels.sources())),
            fingerprint=labels.fingerprint(),
            root=whole_root(labels),
            labelled=int(is_labelled(labels).sum()),
        )


@dataclass(frozen=True, kw_only=True)
class ValidationFacts(LabelFacts):
    """Labels that models were judged on; ``kind`` is "given" or "held out", ``statement`` text."""

    kind: str
    weighted: bool
    statement: str

    @classmethod
    def told(cls, labels: LabelTable, *, held_out: bool, weighted: bool) -> ValidationFacts:
        """Return the facts of labels, given or held out, with a statement for people."""
        statement = "Decided on the validation labels given."
        if held_out:
            weighting = (
                "Each counts by how far the measurers of other sources agree with it (mean "
                "reliability). "
            )
            statement = (
                f"No validation labels were given: decided on {len(labels)} pseudo-labels of "
                f"{labels.num_images} held-out image(s), which nothing was trained on. "
                f"{weighting if weighted else ''}Their boxes are pseudo-labels too, wrong ones "
                "among them, so scores are agreement with pseudo-labels, not accuracy."
            )
        return cls(
            **vars(LabelFacts.of(labels)),
            kind="held out" if held_out else "given",
            weighted=weighted,
            statement=statement,
        )

    @property
    def is_held_out(self) -> bool:
        """Whether models were judged on held-out pseudo-labels."""
        return self.kind == "held out"


@dataclass(frozen=True, kw_only=True)
class Baseline(Record):
    """The training without curriculum: its stage, score and number of labels."""

    stage: str
    score: float | None
    kept: int


@dataclass(frozen=True, kw_only=True)
class Training(Record):
    """One training."""

    # what it was for: "measurer", "candidate", "choice", "all labels", "continued", "fold", ...
    name: str
    threshold: float | None  # that its labels reach; None if no threshold selected them
    source: str | None = None  # whose labels were being decided on
    measurer: str | None = None  # whose reliability selected; for a measurer, its own name
    variant: str | None = None  # variant of `Beyond` that it was made for
    stage: str  # key of its stage
    kept: int  # number of labels it was trained on
    seconds: float  # duration
    steps: int | None = None  # optimizer steps; None if the learner does not report them
    score: float | None  # on the validation labels; None if it is not a number
    reliability: Json | None = None  # distribution over the labels that the threshold keeps


def count_steps(trainings: Iterable[Training]) -> int | None:
    """Return the total optimizer steps of trainings; None if one does not report them."""
    steps = [training.steps for training in trainings]
    return None if None in steps else sum(filter(None, steps))


@dataclass(frozen=True, kw_only=True)
class MeasurerFacts(Record):
    """A measurer: its stage (None if its scores came with the labels) and its file of scores."""

    name: str
    stage: str | None
    trained_on: list[str]
    scores: str


@dataclass(frozen=True, kw_only=True)
class Choice(Record):
    """A measurer compared at h0: the number of labels it keeps and, if trained, score and stage."""

    measurer: str
    specific: bool
    kept: int
    score: float | None
    stage: str | None


@dataclass(frozen=True, kw_only=True)
class Step(Record):
    """The decision about one source.

    Attributes:
        source: source of the labels; all sources, joined by "+", in SSA.
        measurer: the chosen measurer i*, whose reliability selects.
        complexity: complexity of the source; None in SSA.
        labels: number of the source's labels.
        specific: whether the measurer was trained on the source.
        h0: threshold at which measurers were compared; None in SSA.
        choice: the measurers compared.
        threshold: the chosen threshold h*.
        kept: number of the source's labels selected.
        score: score of the model trained on all labels selected so far.
        search: the search for the threshold.
        stages: its candidates, by threshold.
        total: number of labels selected so far.
    """

    source: str
    measurer: str
    complexity: float | None = None
    labels: int
    specific: bool
    h0: float | None = None
    choice: tuple[Choice, ...]
    threshold: float
    kept: int
    score: float
    search: ThresholdSearch
    stages: tuple[Training, ...]
    total: int

    @property
    def trainings(self) -> frozenset[str]:
        """Keys of all trainings of the step."""
        compared = {row.stage for row in self.choice if row.stage}
        return frozenset(compared | {training.stage for training in self.stages})


@dataclass(frozen=True, kw_only=True)
class Continued(Record):
    """The finished run that this one continues, with its decisions."""

    folder: str
    sources: list[str]
    kept: int
    steps: tuple[Step, ...]
    score: float | None
    stage: str


@dataclass(frozen=True, kw_only=True)
class FoldFacts(Record):
    """How labels were measured by models that had not seen their images."""

    labels: list[int]  # number of labels of each fold
    trainings: int  # number of trainings without a fold, including those of rounds
    steps: int | None  # optimizer steps in these; None if the learner does not report them
    statement: str  # for people


@dataclass(frozen=True, kw_only=True)
class RunSummary(Record):
    """Summary of an SSA or MSA run.

    Attributes:
        method: "ssa" or "msa".
        command: the command line, if known.
        similarity: how reliability compares boxes and models are judged.
        labels: training labels.
        validation: labels that models were judged on.
        options: options of the curriculum.
        no_curriculum: the training on all labels, or on the annotated ones if there are some beside
            pseudo-labels; None if there was no such training.
        kept: number of labels that the result was trained on.
        score: score of the result on the validation labels.
        gain: its gain over no curriculum.
        winner: key of the stage whose model is the result.
        num_trainings: number of trainings in all.
        num_steps: optimizer steps in these; None if the learner does not report them.
        folds: how labels were measured out-of-sample; None if they were not.
        beyond: variants beyond the published method, if there are any.
        steps: decisions, one per source; one in SSA.
        stages: trainings that all decisions depend on: measurers, all labels, the continued run.
        continued: the run that this one continues.
        measurers: measurers of the labels.
        reliability: distributions: by measurer in SSA, `ScoreMatrix.to_dict` in MSA.
        unscored: row -> why it is not scored, for some labels.
        notes: what people should know before they use the result, in sentences.
    """

    method: Literal["ssa", "msa"]
    command: str | None = None
    similarity: str = IOU
    labels: LabelFacts
    validation: ValidationFacts
    options: Json
    no_curriculum: Baseline | None
    kept: int
    score: float
    gain: float | None
    winner: str
    num_trainings: int
    num_steps: int | None = None
    folds: FoldFacts | None = None
    beyond: BeyondFacts | None = None
    steps: tuple[Step, ...]
    stages: tuple[Training, ...]
    continued: Continued | None
    measurers: tuple[MeasurerFacts, ...]
    reliability: Json
    unscored: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def score_before(self) -> float | None:
        """The score without curriculum, if known."""
        return None if self.no_curriculum is None else self.no_curriculum.score

    @property
    def first_name(self) -> str:
        """Name of the labels of the first training of SSA, or of the one without curriculum."""
        return "the annotated labels" if self.labels.labelled else "all labels"

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """The decisions of the runs that this one continues, then its own."""
        return (*(self.continued.steps if self.continued else ()), *self.steps)

    def to_dict(self) -> Json:
        """Return JSON values; in SSA the summary itself has the fields of its one step."""
        found = super().to_dict()
        if self.method == "msa":
            order = {step.source: step.complexity for step in self.steps}
            return {**found, "order": list(order), "complexity": order}
        (step,) = self.steps
        del found["steps"], found["continued"]
        return {
            **found,
            "measurer": step.measurer,
            "threshold": step.threshold,
            "search": step.search.to_dict(),
            "stages": [training.to_dict() for training in (*self.stages, *step.stages)],
        }

    @classmethod
    def read(cls, folder: Path) -> RunSummary:
        """Read the summary in the directory of a finished run.

        Raises:
            InputError: it is damaged, or lacks what this version needs.
        """
        path = folder / "summary.json"
        with reading(path, "the summary of a run by this version"):
            return cls.from_dict(read_json(path))

    @classmethod
    def from_dict(cls, data: Json) -> RunSummary:
        """Restore a summary from what `to_dict` returned."""
        if data["method"] == "ssa":
            data = {**data, "steps": [_ssa_step(data)], "stages": data["stages"][:1]}
        return super().from_dict({"continued": None, **data})


def _ssa_step(data: Json) -> Json:
    """Return the one decision of an SSA run in the form of a step."""
    threshold, candidates = data["threshold"], data["stages"][1:]
    chosen = next(stage for stage in candidates if stage["threshold"] == threshold)
    return {
        "source": "+".join(data["labels"]["sources"]),
        "measurer": data["measurer"],
        "labels": data["labels"]["count"],
        "specific": bool(data["measurers"][0]["stage"]),
        "choice": (),
        "threshold": threshold,
        "kept": chosen["kept"],
        "score": chosen["score"],
        "search": data["search"],
        "stages": candidates,
        "total": chosen["kept"],
    }
