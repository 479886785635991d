"""The decisions of SSA and MSA as a report shows them; SSA has one, about all labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from clipvg.curriculum import RunSummary, Step
from clipvg.report.selection import Selection
from clipvg.similarity import IOU, describe_similarity


@dataclass(frozen=True)
class Decided:
    """The summary of a finished run, and the labels that it selected.

    Attributes:
        summary: the content of ``summary.json``.
        selection: the labels of the run, with their scores.
    """

    summary: RunSummary
    selection: Selection

    @property
    def is_ssa(self) -> bool:
        """Whether there is one decision, about all labels."""
        return self.summary.method == "ssa"

    @property
    def metric(self) -> str:
        """What models are judged by, for headers and axes."""
        if self.summary.validation.is_held_out:
            return "agreement, held-out labels"
        is_iou = self.summary.similarity == IOU
        return f"{'Acc@0.5' if is_iou else f'{self.similarity} ≥ 0.5'}, validation labels"

    @property
    def similarity(self) -> str:
        """How reliability compares boxes, for captions."""
        return describe_similarity(self.summary.similarity)

    @property
    def last(self) -> Step:
        """The last decision, after which all selected labels are known."""
        return self.summary.steps[-1]

    @cached_property
    def chosen(self) -> dict[str, tuple[str, float]]:
        """Source -> measurer and threshold that select its labels."""
        steps = self.summary.all_steps
        return {step.source or "all": (step.measurer, step.threshold) for step in steps}

    def model_before(self, folder: Path) -> Path | None:
        """Return the folder of the model trained without curriculum, if there is one."""
        baseline = self.summary.no_curriculum
        return None if baseline is None else folder / "stages" / baseline.stage / "model"

    def of_source(self, source: str) -> np.ndarray:
        """Return which labels the decision about a source concerns, (N,) bool."""
        scores = self.selection.scores
        assert scores is not None
        if self.is_ssa:
            return np.ones(len(scores), bool)
        return np.array(scores.sources)[scores.source_of] == source

    def deciding(self) -> np.ndarray:
        """Return the reliability by which each label was decided on, (N,), NaN where none was."""
        scores = self.selection.scores
        if scores is None:
            return np.zeros(0, np.float32)
        reliability = np.full(len(scores), np.nan, np.float32)
        for source, (name, _) in self.chosen.items():
            if name in scores.names:
                rows = self.of_source(source)
                reliability[rows] = scores[name][rows]
        return reliability
