"""SSA with the toy learner: decisions, records, resuming."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.processes import killed
from support.toy import ToyLearner, adapt, adapt_to_clean, make_labels

from clipvg.curriculum import ThresholdSearch, Workers, hold_out
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability import ScoreMatrix


@pytest.fixture(scope="module")
def validation() -> LabelTable:
    return make_labels(40, seed=1, wrong=0.0)


def outcome(folder: Path) -> tuple[Any, bytes]:
    """Return everything a run decided, without times, and its model."""
    summary = json.loads((folder / "summary.json").read_text())
    for stage in summary["stages"]:
        stage.pop("seconds")
    return summary, (folder / "model" / "model.json").read_bytes()


def test_selection_beats_no_selection(tmp_path: Path, validation: LabelTable) -> None:
    result = adapt(tmp_path, validation=validation)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["gain"] == pytest.approx(summary["score"] - summary["no_curriculum"]["score"])
    assert summary["gain"] > 0
    assert summary["threshold"] == result.threshold
    assert summary["kept"] == int(result.scores.keep(result.threshold, "measurer").sum())
    assert summary["validation"]["kind"] == "given"
    best = max((s for s in summary["stages"][1:]), key=lambda s: s["score"])
    assert best["threshold"] == result.threshold


def test_every_stage_records_its_distribution(tmp_path: Path, validation: LabelTable) -> None:
    adapt(tmp_path, validation=validation)
    summary = json.loads((tmp_path / "summary.json").read_text())
    for stage in summary["stages"]:
        assert sum(stage["reliability"]["histogram"]) == stage["kept"]
    assert set(summary["reliability"]) == {"measurer", "adapted"}
    assert [point[0] for point in summary["search"]["curve"]] == [
        stage["threshold"] for stage in summary["stages"][1:]
    ]
    files = sorted((tmp_path / "scores").iterdir())
    assert len(files) == 2
    assert all(len(ScoreMatrix.read(path)) == 120 for path in files)


def test_a_finished_run_trains_nothing_again(tmp_path: Path, validation: LabelTable) -> None:
    adapt(tmp_path, validation=validation)
    before = outcome(tmp_path), (tmp_path / "metrics.jsonl").read_text()
    learner = ToyLearner()
    adapt(tmp_path, validation=validation, learner=learner)
    assert learner.trained == []
    assert (outcome(tmp_path), (tmp_path / "metrics.jsonl").read_text()) == before


def test_equal_subsets_are_trained_once(tmp_path: Path, validation: LabelTable) -> None:
    learner = ToyLearner()
    adapt(tmp_path, validation=validation, learner=learner, start=0.1)
    assert len(learner.trained) == len(set(learner.trained))


@pytest.mark.parametrize("options", [{"candidates": "together"}, {"warm_start": True}])
def test_together_and_warm_start(
    tmp_path: Path, validation: LabelTable, options: dict[str, Any]
) -> None:
    learner = ToyLearner()
    adapt(tmp_path, validation=validation, learner=learner, **options)
    adapt(tmp_path, validation=validation, learner=learner, **options)
    assert len(learner.trained) == len(list((tmp_path / "stages").iterdir()))


def test_several_workers_make_one_run(tmp_path: Path, validation: LabelTable) -> None:
    """Two threads stand for two processes: one writes, both see the same stages."""
    barrier = threading.Barrier(2, timeout=60)
    learners = [ToyLearner(), ToyLearner()]

    def work(rank: int) -> float:
        workers = Workers(rank == 0, barrier.wait)
        return adapt(
            tmp_path / "two", validation=validation, learner=learners[rank], workers=workers
        ).threshold

    with ThreadPoolExecutor(2) as pool:
        thresholds = list(pool.map(work, range(2)))
    adapt(tmp_path / "one", validation=validation)
    assert thresholds[0] == thresholds[1]
    assert learners[0].trained == learners[1].trained
    assert outcome(tmp_path / "two") == outcome(tmp_path / "one")


def test_truth_decides_nothing(tmp_path: Path, validation: LabelTable) -> None:
    labels = make_labels()
    noise = np.random.default_rng(7).uniform(0, 50, (len(labels), 4))
    adapt(tmp_path / "a", labels=labels, validation=validation)
    adapt(tmp_path / "b", labels=labels.with_column("truth", noise), validation=validation)
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
    for path in (tmp_path / "a" / "scores").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "scores" / path.name).read_bytes()


def test_without_validation_images_are_held_out_and_it_says_so(tmp_path: Path) -> None:
    adapt(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["validation"]["kind"] == "held out"
    assert "not accuracy" in summary["validation"]["statement"]
    assert summary["labels"]["count"] + summary["validation"]["count"] == 120


def test_held_out_images_are_on_one_side_in_any_order() -> None:
    labels = make_labels()
    is_held = hold_out(labels, 0.1, seed=3)
    train, held = labels.select(~is_held), labels.select(is_held)
    assert held.num_images == 3
    assert not set(train.image_names) & set(held.image_names)
    shuffled = labels.select(np.random.default_rng(0).permutation(len(labels)))
    again = shuffled.select(hold_out(shuffled, 0.1, seed=3))
    assert set(again.image_names) == set(held.image_names)
    with pytest.raises(InputError, match="too few"):
        hold_out(labels.select(range(3)))
    with pytest.raises(InputError, match="between 0 and 1"):
        hold_out(labels, 1.0)


@pytest.mark.parametrize("row", [0, -1])
def test_one_label_that_has_all_the_weight_is_no_two_parts(tmp_path: Path, row: int) -> None:
    weights = np.zeros(120)
    weights[row] = 1
    labels = make_labels().with_column("weight", weights)
    with pytest.raises(InputError, match=r"labels to (train|validate) on have weight 0; pass"):
        adapt(tmp_path / "run", labels=labels)
    assert not list(tmp_path.iterdir())


def test_another_search_strategy_is_one_function(tmp_path: Path, validation: LabelTable) -> None:
    def sweep(
        candidates: Any, start: float, step: float, *, low: float, high: float, count: Any,
        min_kept: int,
    ) -> ThresholdSearch:  # fmt: skip
        grid = [round(low + k * step, 6) for k in range(round((high - low) / step) + 1)]
        usable = [h for h in grid if count(h) >= min_kept]
        assert count(0.5) == (candidates.reliability >= 0.5).sum()
        scores = candidates(usable)
        score, best = max(zip(scores, usable, strict=True))
        curve = list(zip(usable, scores, strict=True))
        return ThresholdSearch(best, score, curve, [usable], "the whole grid was tried")

    greedy = adapt(tmp_path, validation=validation)
    learner = ToyLearner()
    result = adapt(tmp_path, validation=validation, strategy=sweep, learner=learner)
    tried = [h for h, _ in result.search.curve]
    assert tried[:3] == [0.0, 0.1, 0.2]
    assert result.summary.score == max(score for _, score in result.search.curve if score)
    assert result.summary.score >= greedy.summary.score
    # What the other strategy has trained in this run is not trained again.
    distinct = {training.stage for training in result.steps[0].stages}
    assert len(learner.trained) < len(distinct)
    stages = json.loads((tmp_path / "summary.json").read_text())["stages"]
    assert [stage["threshold"] for stage in stages] == [None, *tried]


def test_a_learner_that_trains_one_by_one_cannot_halve(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave halving out"):
        adapt(tmp_path, candidates="together", halving=True)


def test_no_threshold_keeps_enough(tmp_path: Path, validation: LabelTable) -> None:
    with pytest.raises(InputError, match="at least 1000 label"):
        adapt(tmp_path, validation=validation, min_kept=1000)


@pytest.mark.slow
def test_killed_anywhere_and_resumed_it_ends_alike(tmp_path: Path) -> None:
    adapt_to_clean(str(tmp_path / "whole"))
    writes = [1, 3, 6, 7, 9, 12, 14, 17, 0]
    codes = killed("support.toy:adapt_to_clean", tmp_path / "killed", writes=writes)
    assert codes.count(-9) >= 6
    assert codes[-1] == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob("*.partial"))
