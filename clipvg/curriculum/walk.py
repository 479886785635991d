"""The walk of MSA over the sources: for each one a measurer, a threshold and what it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipvg.curriculum.calibrate import unsearched_threshold
from clipvg.curriculum.config import Beyond, MSAConfig
from clipvg.curriculum.run import Stage
from clipvg.curriculum.threshold import ThresholdSearch
from clipvg.curriculum.trainings import Trainings
from clipvg.curriculum.variants import Variant
from clipvg.reliability.histogram import kept
from clipvg.reliability.matrix import ScoreMatrix


@dataclass(frozen=True)
class Step:
    """What was decided about one source.

    Attributes:
        source: whose labels were selected.
        measurer: the chosen measurer i*, whose reliability selects.
        search: the search of its threshold.
        kept: number of the source's labels selected.
    """

    source: str
    measurer: str
    search: ThresholdSearch
    kept: int

    @property
    def threshold(self) -> float:
        """The chosen threshold h*."""
        return self.search.best


@dataclass(frozen=True, eq=False)
class Walked:
    """Decisions about all sources.

    Attributes:
        steps: one a source, in order.
        records: what the summary says of them.
        selected: (N,) bool, labels selected.
        reliability: (N,) float32 that decided, NaN where nothing did.
        winner: stage trained on what is selected.
        keys: of all trainings that took part.
    """

    steps: tuple[Step, ...]
    records: list[dict[str, Any]]
    selected: np.ndarray
    reliability: np.ndarray
    winner: Stage
    keys: frozenset[str]

    def variant(self, name: str, common: frozenset[str]) -> Variant:
        """Return the decisions as a variant that rests on common trainings too."""
        needs = common | self.keys
        return Variant(
            name,
            self.winner,
            self.selected.astype(np.float32),
            self.reliability,
            needs=needs,
            measured=needs,
            facts={
                "thresholds": {step.source: step.threshold for step in self.steps},
                "measurers": {step.source: step.measurer for step in self.steps},
            },
        )


class Walk:
    """Decides about sources one after the other.

    Args:
        work: trainings of the run.
        config: options.
        order: sources, the simplest first.
        complexity: of each source.
        measurers: stages of the measurers trained here, by name.
        beyond: says whether thresholds are searched.
    """

    def __init__(
        self,
        work: Trainings,
        config: MSAConfig,
        *,
        order: Sequence[str],
        complexity: Mapping[str, float],
        measurers: Mapping[str, Stage],
        beyond: Beyond,
    ) -> None:
        self.work, self.config, self.order, self.complexity = work, config, order, complexity
        self.stages, self.beyond = measurers, beyond
        self.source_of = np.array(work.labels.sources(), dtype=object)

    def run(
        self,
        scores: ScoreMatrix,
        selected: np.ndarray,
        before: Stage | None,
        note: Mapping[str, Any] | None = None,
    ) -> Walked:
        """Decide about all sources.

        Args:
            scores: of the labels by the measurers to choose among.
            selected: (N,) bool, labels selected before.
            before: stage trained on them.
            note: what to record of every training beside the rest.
        """
        mark, steps, records = len(self.work.entries), [], []
        reliability = np.full(len(selected), np.nan, np.float32)
        for source in self.order:
            step, before, record = self._step(source, scores, selected, before, note or {})
            rows = self._rows(source)
            reliability[rows] = scores[step.measurer][rows]
            selected = selected | self._kept(scores, source, step.measurer, step.threshold)
            steps.append(step)
            records.append({**record, "total": int(selected.sum())})
        assert before is not None
        keys = frozenset(str(entry["stage"]) for entry in self.work.entries[mark:])
        return Walked(tuple(steps), records, selected, reliability, before, keys)

    def _rows(self, source: str) -> np.ndarray:
        rows: np.ndarray = self.source_of == source
        return rows

    def _kept(
        self, scores: ScoreMatrix, source: str, measurer: str, threshold: float
    ) -> np.ndarray:
        chosen = kept(scores[measurer], threshold, strict=self.config.strict)
        return chosen & self._rows(source)

    def _step(
        self,
        source: str,
        scores: ScoreMatrix,
        selected: np.ndarray,
        before: Stage | None,
        note: Mapping[str, Any],
    ) -> tuple[Step, Stage, dict[str, Any]]:
        """Choose measurer and threshold for one source; return the stage of the winner too."""
        work, rows = self.work, self._rows(source)
        union = selected | rows
        init = before or self.stages.get(source)
        choice = self._choice(source, scores, selected, init, union, note)
        measurer = _best(choice)
        reliability = np.where(rows, scores[measurer], np.float32(np.nan))
        facts = {"source": source, "measurer": measurer}
        at = unsearched_threshold(self.beyond, reliability, strict=self.config.strict)
        search, entries = work.search(
            reliability, at=at, given=selected, init=init, union=union, note={**facts, **note}
        )
        count = int(self._kept(scores, source, measurer, search.best).sum())
        work.dir.record(event="chosen", **facts, **note, threshold=search.best, score=search.score)
        record = {
            **facts,
            "complexity": self.complexity[source],
            "labels": int(rows.sum()),
            "specific": measurer_is_specific(scores, measurer, source),
            "h0": self.config.h0,
            "choice": choice,
            "threshold": search.best,
            "kept": count,
            "score": search.score,
            "search": search.to_dict(),
            "stages": [entries[h] for h, _ in search.curve],
        }
        winner = work.dir.stage_of_key(str(entries[search.best]["stage"]))
        return Step(source, measurer, search, count), winner, record

    def _choice(
        self,
        source: str,
        scores: ScoreMatrix,
        selected: np.ndarray,
        init: Stage | None,
        union: np.ndarray,
        note: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        """Compare the measurers of a source at h0, each joined with what is selected."""
        h0 = self.config.h0
        subsets = {name: self._kept(scores, source, name, h0) for name in scores.names}
        rows: list[dict[str, Any]] = [
            {
                "measurer": name,
                "specific": measurer_is_specific(scores, name, source),
                "kept": int(keep.sum()),
                "score": None,
                "stage": None,
            }
            for name, keep in subsets.items()
        ]
        least = max(1, self.config.min_kept)
        usable = [row for row in rows if row["kept"] + int(selected.sum()) >= least]
        if len(rows) == 1 or not usable:
            return rows  # nothing to compare
        joined = [selected | subsets[row["measurer"]] for row in usable]
        stages = self.work.train(joined, search=self.config.search, init=init, union=union)
        for row, stage in zip(usable, stages, strict=True):
            facts = {"source": source, "measurer": row["measurer"], "threshold": h0, **note}
            self.work.note("choice", stage, **facts)
            row |= {"score": stage.read()["score"], "stage": stage.key}
        return rows


def measurer_is_specific(scores: ScoreMatrix, measurer: str, source: str) -> bool:
    """Say whether a measurer was trained on a source."""
    return source in scores.trained_on[scores.names.index(measurer)]


def _best(choice: list[dict[str, Any]]) -> str:
    """Return the measurer with the best score; of equals the source's own, then the first."""

    def rank(row: Mapping[str, Any]) -> tuple[float, bool]:
        score = row["score"]
        is_number = score is not None and score == score
        return (float(score) if is_number else float("-inf")), bool(row["specific"])

    return str(max(choice, key=rank)["measurer"])
