"""Out-of-sample reliability: which model measures which labels, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curriculum.test_msa import outcome
from support import adapting, ledger, tiny, toy
from support.beyond import Teaching
from support.ledger import adapt_with_folds, shared_images
from support.processes import killed

from clipvg.api import Curriculum
from clipvg.curriculum import Beyond, Previous, SSAConfig, split_folds
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability import Context, Scores
from clipvg.report.curriculum import curriculum_report


def summary_of(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


class Watching(ledger.LedgerLearner):
    """A learner that records the labels each model was trained on and those it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[list[str], list[str]]] = []

    def measurer(self, model: ledger.Model) -> Any:
        learner, inner = self, ledger.Table(model)

        class Watched:
            name, requires = "watched", frozenset[str]()

            def measure(self, labels: LabelTable, context: Context) -> Scores:
                learner.asked.append((model, labels.expressions))
                return inner.measure(labels, context)

        return Watched()


def test_folds_divide_images_whatever_the_order_of_labels() -> None:
    labels = shared_images("abc")
    fold = split_folds(labels, 2, seed=3)
    image_of = labels.distinct_images()[1]
    assert all(len(set(fold[image_of == image])) == 1 for image in range(4))
    assert np.bincount(fold).tolist() == [6, 6]  # two images of three labels each
    order = np.random.default_rng(0).permutation(len(labels))
    np.testing.assert_array_equal(split_folds(labels.select(order), 2, seed=3), fold[order])
    assert any((split_folds(labels, 2, seed=seed) != fold).any() for seed in range(9))


def test_every_fold_has_its_share_of_every_source() -> None:
    sources = ["a"] * 90 + ["b"] * 9
    labels = LabelTable.from_columns(
        image=[f"{i}.jpg" for i in range(99)],
        expression="thing",
        box=[[0, 0, 1, 1]] * 99,
        source=sources,
    )
    fold = split_folds(labels, 3)
    assert np.bincount(fold[:90]).tolist() == [30] * 3
    assert np.bincount(fold[90:]).tolist() == [3] * 3
    with pytest.raises(InputError, match="on 2 image"):
        split_folds(labels.select([0, 1]), 3)


def test_no_fold_is_empty_where_each_image_is_of_another_source() -> None:
    labels = LabelTable.from_columns(
        image=[f"{i}.jpg" for i in range(5)],
        expression="thing",
        box=[[0, 0, 1, 1]] * 5,
        source=[*"abcde"],
    )
    assert sorted(split_folds(labels, 5).tolist()) == [0, 1, 2, 3, 4]


def test_each_label_is_measured_by_the_model_without_its_fold(tmp_path: Path) -> None:
    labels, clean = toy.make_labels(), toy.make_labels(40, seed=1, wrong=0.0)
    result = toy.adapt(tmp_path / "run", labels=labels, validation=clean, folds=3)
    fold, learner = split_folds(labels, 3), toy.ToyLearner()
    expected = np.zeros(len(labels), np.float32)
    for number in range(3):
        model = learner.fit(labels, weights=fold != number).model
        expected[fold == number] = toy.overlaps(model, labels)[fold == number]
    np.testing.assert_array_equal(result.scores["measurer"], expected)
    plain = toy.adapt(tmp_path / "plain", labels=labels, validation=clean)
    assert (plain.scores["measurer"] != expected).any()
    both = toy.adapt(tmp_path / "mean", labels=labels, validation=clean, folds=3, fold_mean=True)
    mean = (plain.scores["measurer"] + expected) / 2
    np.testing.assert_array_equal(both.scores["measurer"], mean)
    assert both.summary.folds is not None
    assert "counts as much as the measurer itself (3 trainings)" in both.summary.folds.statement

    summary = summary_of(tmp_path / "run")
    assert summary["folds"]["labels"] == np.bincount(fold).tolist()
    assert summary["folds"]["trainings"] == 3
    assert "out-of-sample: one of 3 models" in summary["folds"]["statement"]
    assert summary["num_trainings"] == 1 + 3 + result.search.num_evaluations
    assert summary["kept"] == int((expected >= result.threshold).sum())
    assert "folds" not in summary_of(tmp_path / "plain")


@pytest.mark.parametrize("folds", [2, 4])
def test_measurers_of_all_sources_see_no_image_that_they_measure(
    tmp_path: Path, folds: int
) -> None:
    learner = Watching()
    result = ledger.adapt(tmp_path, shared_images(), learner=learner, folds=folds, baseline=False)
    # Each measurer is asked about all sources in `folds` parts; the adapted model, in-sample, last.
    assert len(learner.asked) == 2 * folds + 1
    for trained, asked in learner.asked[:-1]:
        assert len({name[0] for name in trained}) == 1
        assert {name[0] for name in asked} == {"a", "b"}
        assert not {name[1] for name in trained} & {name[1] for name in asked}
    of_a = [names for trained, names in learner.asked[:-1] if trained[0][0] == "a"]
    assert sorted(name for names in of_a for name in names) == [*shared_images().expressions]
    # The ledger's reliability depends on the source alone, so decisions are as without folds.
    assert [(s.measurer, s.threshold) for s in result.steps] == [("a", 0.6), ("a", 0.5)]
    assert result.summary.folds is not None
    assert result.summary.folds.trainings == 2 * folds


def test_a_round_measures_out_of_sample_too(tmp_path: Path) -> None:
    learner = Watching()
    beyond = Beyond(rounds=1)
    result = ledger.adapt(tmp_path, shared_images(), learner=learner, folds=2, beyond=beyond)
    for trained, asked in learner.asked[:-1]:
        assert not {name[1] for name in trained} & {name[1] for name in asked}
    assert len(learner.asked) == 2 * 2 + 2 + 1
    assert result.summary.folds is not None
    assert result.summary.folds.trainings == 6
    plain, first = result.summary.beyond.variants
    # The measurers have folds, the baseline has none; the round adds its folds and candidates.
    assert first.trainings >= plain.trainings + 2
    assert (tmp_path / "scores" / f"{first.scores}.parquet").exists()


@pytest.mark.parametrize("beyond", [Beyond(soft=True, rounds=2), Beyond(correct=0.6, rounds=1)])
def test_rounds_with_weights_and_boxes_end_alike_when_called_again(
    tmp_path: Path, beyond: Beyond
) -> None:
    options: dict[str, Any] = {"validation": toy.make_labels(40, seed=1, wrong=0.0), "folds": 2}
    toy.adapt(tmp_path, learner=Teaching(), beyond=beyond, **options)
    learner, before = Teaching(), outcome(tmp_path)
    toy.adapt(tmp_path, learner=learner, beyond=beyond, **options)
    assert learner.trained == []
    assert outcome(tmp_path) == before


def test_measurers_of_a_run_to_continue_are_trained_without_folds_again(tmp_path: Path) -> None:
    ledger.adapt(tmp_path / "first", shared_images("ab"), folds=2)
    previous = Previous.read(tmp_path / "first")
    learner = Watching()
    labels = previous.joined(shared_images("c"))
    result = ledger.adapt(tmp_path / "second", labels, previous=previous, learner=learner, folds=2)
    assert result.scores.names == ("a", "b", "c", "adapted")
    for trained, asked in learner.asked[:-1]:
        assert not {name[1] for name in trained} & {name[1] for name in asked}


def test_a_killed_run_ends_alike(tmp_path: Path) -> None:
    writes = [7, 11, 15, 19, 0]
    codes = killed("support.ledger:adapt_with_folds", tmp_path / "killed", writes=writes)
    assert codes == [-9] * 4 + [0]
    adapt_with_folds(str(tmp_path / "whole"))
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


@pytest.mark.parametrize(("fold_steps", "steps"), [("whole", 8), ("shared", 4)])
def test_grounding_models_tell_their_steps(tmp_path: Path, fold_steps: Any, steps: int) -> None:
    labels = tiny.make_labels(tmp_path / "images", 8)
    search = SSAConfig(folds=2, fold_steps=fold_steps, step=0.5)
    run = adapting.run(labels, tmp_path / "run", curriculum=Curriculum(search=search))
    folds, trainings = run.summary["folds"], run.summary["num_trainings"]
    assert (folds["trainings"], folds["steps"]) == (2, steps)
    assert f"2 trainings, {steps} steps in all" in folds["statement"]
    assert run.summary["num_steps"] == 4 * (trainings - 2) + steps
    again = adapting.run(labels, tmp_path / "run", curriculum=Curriculum(search=search))
    assert again.summary == run.summary
    page = curriculum_report(tmp_path / "run", run.result.summary)
    assert "Reliability is out-of-sample" in page.lead


def test_what_cannot_be_done_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give 0, or 2 or more"):
        SSAConfig(folds=1)
    with pytest.raises(InputError, match="leave fold_steps at 'whole'"):
        toy.adapt(tmp_path / "a", folds=2, fold_steps="shared")
    with pytest.raises(InputError, match=r"on 4 image.* too few for 5 folds"):
        ledger.adapt(tmp_path / "b", shared_images(), folds=5)
    one = shared_images().with_column("image", ["0.jpg"] * 4 + [f"{i}.jpg" for i in range(4)])
    with pytest.raises(InputError, match="all labels of the measurer 'a' are in one"):
        ledger.adapt(tmp_path / "c", one, folds=2)
