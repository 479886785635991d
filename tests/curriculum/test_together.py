from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import toy

from clipvg.curriculum import Run, SSAConfig
from clipvg.curriculum.split import Split
from clipvg.curriculum.trainings import Trainings
from clipvg.errors import InputError
from clipvg.labels import LabelTable


class Together(toy.ToyLearner):
    """A toy learner that takes folders and a judge, as a grounding learner does."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[int, list[Path], Any]] = []

    def fit_many(
        self,
        labels: LabelTable,
        keep: Any,
        *,
        init: Any = None,
        seed: int = 0,
        outs: Any = None,
        judge: Callable[[Any], float] | None = None,
    ) -> Any:
        self.steps.append((len(keep), list(outs), judge))
        fits = super().fit_many(labels, keep, init=init, seed=seed)
        if judge is not None and len(fits) > 1:
            scores = [judge(fit.model) for fit in fits]
            assert all(0 <= score <= 1 for score in scores)
        return fits


@pytest.mark.parametrize("halving", [False, True])
def test_candidates_get_the_folders_of_their_stages(tmp_path: Path, halving: bool) -> None:
    learner = Together()
    validation = toy.make_labels(40, seed=1, wrong=0.0)
    options: dict[str, Any] = {"candidates": "together", "halving": halving}
    result = toy.adapt(tmp_path, validation=validation, learner=learner, **options)
    assert [step[0] for step in learner.steps] == [len(batch) for batch in result.search.batches]
    for _, outs, judge in learner.steps:
        assert all(out.parent.parent == tmp_path / "stages" for out in outs)
        assert (judge is not None) == halving
    folders = [out for _, outs, _ in learner.steps for out in outs]
    assert len(set(folders)) == len(folders)


def test_halving_trains_a_step_again_as_a_whole(tmp_path: Path) -> None:
    """Which candidates are dropped depends on all of them, so no step is finished in part."""
    validation = toy.make_labels(40, seed=1, wrong=0.0)
    options: dict[str, Any] = {"candidates": "together", "halving": True}
    learners = Together(), Together()
    results = []
    for learner in learners:
        results.append(toy.adapt(tmp_path, validation=validation, learner=learner, **options))
        # As if killed before the last candidate was kept.
        (learners[0].steps[0][1][-1].parent / "stage.json").unlink()
    assert learners[1].steps[0][0] == len(results[0].search.batches[0]) > 1
    assert len(learners[1].steps) == 1
    assert results[0].search == results[1].search


@pytest.mark.parametrize("halving", [False, True])
def test_halved_among_others_is_another_training(tmp_path: Path, halving: bool) -> None:
    labels = toy.make_labels(40)
    number = np.arange(len(labels))
    kept = [number % divisor > 0 for divisor in (2, 3, 4)]
    with Run(tmp_path, config={}, labels=labels, validation=labels) as run:
        config = SSAConfig(candidates="together", halving=halving)
        work = Trainings(Together(), Split.of(run, config), run, config, judges=False)
        first = work.train(kept[:2], how="together")[0]
        before = (first.folder / "stage.json").stat().st_mtime_ns
        second = work.train(kept[::2], how="together")[0]
        assert (first.key == second.key) is not halving
        assert (first.folder / "stage.json").stat().st_mtime_ns == before


def test_halving_needs_candidates_together() -> None:
    with pytest.raises(InputError, match="candidates='together'"):
        SSAConfig(halving=True)
    assert SSAConfig(candidates="together", halving=True).halving
