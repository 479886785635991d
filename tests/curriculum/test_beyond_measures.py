"""Measures that select labels in a run: fused with its measurers, or alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import ledger, toy
from support.beyond import ALONE, Teaching, run, variants_of

from clipvg.curriculum import Beyond, fuse
from clipvg.errors import InputError
from clipvg.labels import read_labels
from clipvg.pseudo import Detection, Observation, ObservationTable
from clipvg.reliability import ScoreMatrix


def test_a_measure_that_selects_alone_trains_nothing_beside(tmp_path: Path) -> None:
    learner = Teaching()
    result = run(tmp_path, ALONE, learner=learner, warm_start=True)
    first, *rounds = variants_of(tmp_path).values()
    assert first["name"] == "fused"
    assert rounds[0]["name"] == "round 1"
    assert len(learner.trained) == result.summary.num_trainings == 2 + len(rounds)
    assert result.scores.names == ("measurer", "ambiguity", "both", "adapted")
    both = result.scores["both"]
    assert first["kept"] == (both >= first["thresholds"]["template"]).sum()


def test_msa_by_a_measure_alone_compares_no_measurers(tmp_path: Path) -> None:
    beyond = Beyond(
        measures=("both=weighted_mean,of=a+b",), alone=True, calibrated=0.5, skip_search=True
    )
    result = ledger.adapt(tmp_path, beyond=beyond)
    assert [step.measurer for step in result.steps] == ["both", "both"]
    assert all(choice.stage is None for step in result.steps for choice in step.choice)


def test_a_measure_without_its_observations_leaves_the_others_to_select(tmp_path: Path) -> None:
    measures = ("unique", "both=weighted_mean,of=measurer+unique")
    beyond = Beyond(measures=measures, alone=True, calibrated=0.5, skip_search=True)
    result = run(tmp_path, beyond)
    assert np.isnan(result.scores["unique"]).all()
    np.testing.assert_array_equal(result.scores["both"], result.scores["measurer"])


def test_the_recommended_options_take_observations(tmp_path: Path) -> None:
    beyond = Beyond.recommended("runs/a, b+c.parquet")
    given = [spec.options.get("observations") for spec in beyond.specs]
    assert given == ["runs/a, b+c.parquet", "runs/a, b+c.parquet", None]
    plain = Beyond.recommended()
    assert plain.measures == beyond.measures
    assert all("observations" not in spec.options for spec in plain.specs)
    own = Beyond(measures=("unique,observations=mine.parquet",), observations="seen.parquet")
    assert own.specs[0].options == {"observations": "mine.parquet"}


def test_files_of_measures_count_by_what_they_hold(tmp_path: Path) -> None:
    def adapt(path: Path) -> tuple[list[int], np.ndarray]:
        learner = toy.ToyLearner()
        measures = ("unique", "both=weighted_mean,of=measurer+unique")
        beyond = Beyond(measures=measures, observations=str(path))
        result = run(tmp_path / "run", beyond, learner=learner)
        return learner.trained, result.scores["unique"]

    def write(path: Path, box: tuple[float, float, float, float]) -> None:
        seen = Observation("000.jpg", 100, 100, (Detection(named, box, 0.9),))
        ObservationTable.from_observations([seen]).write(path)

    labels = toy.make_labels()
    named = labels.expressions[0]
    path = tmp_path / "seen, a+b.parquet"
    write(path, (0, 0, 1, 1))
    _, first = adapt(path)
    files = {*(tmp_path / "run" / "scores").iterdir()}
    moved = path.rename(tmp_path / "moved.parquet")
    trained, again = adapt(moved)
    assert trained == []
    assert {*(tmp_path / "run" / "scores").iterdir()} == files
    np.testing.assert_array_equal(again, first)
    x1, y1, x2, y2 = labels.boxes()[0].tolist()
    write(moved, (x1, y1, x2, y2))
    _, other = adapt(moved)
    assert {*(tmp_path / "run" / "scores").iterdir()} > files
    assert other[0] > first[0]


@pytest.mark.parametrize("measure", ["weighted_mean,of=nosuch", "loss_mean", "measurer=vote"])
def test_a_measure_that_cannot_be_costs_no_training(tmp_path: Path, measure: str) -> None:
    learner = toy.ToyLearner()
    with pytest.raises(InputError):
        run(tmp_path, Beyond(measures=(measure,)), learner=learner)
    assert learner.trained == []


def test_in_a_round_the_measures_select_with_the_adapted_model(tmp_path: Path) -> None:
    measures = ("ambiguity", "both=weighted_mean,of=measurer+ambiguity")
    run(tmp_path, Beyond(measures=measures, rounds=1))
    first = variants_of(tmp_path)["round 1"]
    measured = ScoreMatrix.read(tmp_path / "scores" / f"{first['scores']}.parquet")
    labels = read_labels(tmp_path / "labels.parquet")
    both = fuse(replace(measured, names=("measurer",)), labels, measures)["both"]
    assert first["kept"] == (both >= first["thresholds"]["template"]).sum()
    assert first["kept"] != (measured["round 1"] >= first["thresholds"]["template"]).sum()


def test_in_a_round_the_teacher_answers_measures_that_ask_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, load = [], toy.ToyLearner.load
    monkeypatch.setattr(
        toy.ToyLearner,
        "load",
        lambda learner, folder: (loaded.append(folder.name), load(learner, folder))[1],
    )
    measures = ("ambiguity", "both=weighted_mean,of=measurer+ambiguity")
    run(tmp_path, Beyond(measures=measures, rounds=1))
    assert loaded.count("teacher") == 2  # for its IoU, and for the measure fused with it


def test_fused_measures_are_one_more_candidate_of_each_step(tmp_path: Path) -> None:
    learner = ledger.LedgerLearner()
    beyond = Beyond(measures=("both=weighted_mean,of=a+b",))
    result = ledger.adapt(tmp_path, learner=learner, beyond=beyond)
    variants = variants_of(tmp_path)
    plain = ledger.adapt(tmp_path / "plain")
    assert variants["plain"]["score"] == plain.summary.score <= result.summary.score
    assert result.scores.names == ("a", "b", "both", "adapted")
    mean = np.float32([ledger.BY["a"][:8], ledger.BY["b"][:8]]).mean(axis=0)
    np.testing.assert_allclose(result.scores["both"], mean, rtol=1e-6)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    tried = {line["measurer"] for line in lines if line.get("variant") == "fused"
             and line["event"] == "choice"}  # fmt: skip
    assert tried == {"a", "b", "both"}
    assert len(learner.trained) == len(set(learner.trained))
    described = {each.name: each for each in result.summary.measurers}
    assert (described["both"].stage, described["both"].trained_on) == (None, [])


def test_scores_that_came_along_can_be_fused(tmp_path: Path) -> None:
    labels = ledger.make_labels()
    rows = np.float32([ledger.BY["a"][:8], ledger.BY["b"][:8]])
    given = ScoreMatrix(("m1", "m2"), rows, labels.sources()).attach(labels)
    beyond = Beyond(measures=("weighted_mean",))
    result = ledger.adapt(tmp_path / "a", given, scored_by=["m1", "m2"], beyond=beyond)
    assert result.scores.names == ("m1", "m2", "weighted_mean", "adapted")
    with pytest.raises(InputError, match="train the baseline"):
        ledger.adapt(
            tmp_path / "b", given, scored_by=["m1"], beyond=Beyond(correct=0.7), baseline=False
        )
    learner = ledger.LedgerLearner()
    with pytest.raises(InputError, match="'match' asks a model"):
        ledger.adapt(
            tmp_path / "c",
            given,
            scored_by=["m1"],
            beyond=Beyond(measures=("match",)),
            learner=learner,
        )
    assert learner.trained == []
