"""Options beyond the paper: variants of a run, compared with the plain method."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curriculum.test_msa import outcome
from support import ledger, toy
from support.beyond import ALONE, EVERYTHING, Teaching, run, variants_of
from support.processes import killed

from clipvg.curriculum import Beyond, Previous, Workers, soft_weights
from clipvg.errors import InputError
from clipvg.labels import read_labels
from clipvg.reliability import ScoreMatrix, Scores


def test_without_options_nothing_changes(tmp_path: Path) -> None:
    learner = toy.ToyLearner()
    result = run(tmp_path, None, learner=learner)
    assert result.summary.beyond is None
    assert "further" not in (tmp_path / "config.yaml").read_text()
    assert len(learner.trained) == result.summary.num_trainings
    assert not Beyond()


def test_the_best_variant_is_the_result_and_the_plain_one_is_among_them(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", None)
    result = run(tmp_path / "beyond")
    variants = variants_of(tmp_path / "beyond")
    assert [*variants][:5] == ["plain", "fused", "calibrated", "soft", "corrected"]
    assert {"round 1", "round 1, soft"} <= {*variants}
    assert variants["plain"]["score"] == plain.summary.score
    assert variants["plain"]["stage"] == plain.summary.winner
    best = max(variants.values(), key=lambda variant: variant["score"])
    assert result.summary.beyond.chosen == best["name"]
    assert result.summary.winner == best["stage"]
    assert result.summary.score == best["score"] >= plain.summary.score
    assert result.summary.kept == best["kept"]
    model, stage = tmp_path / "beyond" / "model", tmp_path / "beyond" / "stages" / best["stage"]
    assert (model / "model.json").read_bytes() == (stage / "model" / "model.json").read_bytes()
    assert variants["plain"]["thresholds"] == {"template": plain.threshold}


def test_options_added_to_a_finished_run_train_only_what_is_new(tmp_path: Path) -> None:
    run(tmp_path, None)
    learner = Teaching()
    run(tmp_path, Beyond(soft=True), learner=learner)
    assert len(learner.trained) == 1
    assert "soft: true" in (tmp_path / "config.yaml").read_text()
    run(tmp_path, learner=learner)
    before = len(learner.trained)
    result = run(tmp_path, learner=learner)
    assert len(learner.trained) == before
    assert result.summary.beyond.options["rounds"] == 2


def test_trainings_are_those_a_variant_needs_by_itself(tmp_path: Path) -> None:
    result = run(tmp_path)
    variants = variants_of(tmp_path)
    assert variants["fused"]["trainings"] == 1 + result.search.num_evaluations
    assert variants["soft"]["trainings"] == variants["calibrated"]["trainings"] == 2
    assert variants["corrected"]["trainings"] == variants["fused"]["trainings"] + 1
    assert variants["round 1"]["trainings"] > variants["plain"]["trainings"]
    assert result.summary.num_trainings == len(list((tmp_path / "stages").iterdir()))


def test_calibrated_thresholds_need_no_search(tmp_path: Path) -> None:
    learner = toy.ToyLearner()
    result = run(tmp_path, Beyond(calibrated=0.5, skip_search=True), learner=learner)
    assert len(learner.trained) == result.summary.num_trainings == 2
    r = result.scores["measurer"]
    assert result.threshold == r[r >= result.threshold].min()
    assert result.search.reason == "given, not searched"


def test_a_probability_that_no_label_reaches_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lower the probability \(calibrated\)"):
        run(tmp_path, Beyond(calibrated=0.9999999, skip_search=True))


def test_a_killed_end_leaves_no_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, Beyond(correct=0.6))
    assert (tmp_path / "corrections.parquet").exists()

    def killed(path: Path, values: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("clipvg.runs.run.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, None)
    assert not (tmp_path / "summary.json").exists()
    run(tmp_path, None)
    assert not (tmp_path / "corrections.parquet").exists()


def test_soft_weights_are_the_probability_of_being_correct(tmp_path: Path) -> None:
    weights: list[np.ndarray] = []

    class Weighed(toy.ToyLearner):
        def fit(self, labels: Any, **options: Any) -> Any:
            if options["weights"] is not None:
                weights.append(options["weights"])
            return super().fit(labels, **options)

    result = run(tmp_path, Beyond(soft=True), learner=Weighed())
    expected = soft_weights(result.scores["measurer"])
    np.testing.assert_array_equal(weights[0], expected[expected > 0])
    assert variants_of(tmp_path)["soft"]["weight"] == pytest.approx(expected.sum(), abs=1e-2)


def test_corrections_are_recorded_with_both_boxes(tmp_path: Path) -> None:
    run(tmp_path, Beyond(correct=0.6))
    corrected = variants_of(tmp_path)["corrected"]
    table = read_labels(tmp_path / "corrections.parquet")
    labels = read_labels(tmp_path / "labels.parquet")
    rows = table.table.column("adapt.row").to_numpy()
    assert len(rows) == corrected["corrected"] > 0
    old = np.array(table.table.column("adapt.old_box").to_pylist())
    np.testing.assert_allclose(old, labels.boxes()[rows])
    assert (np.abs(table.boxes() - old).max(axis=1) > 1).all()
    assert (table.table.column("adapt.agreement").to_numpy() >= 0.6).all()
    assert table.expressions == labels.select(rows).expressions


def test_a_result_with_corrected_boxes_is_kept_as_it_was_trained(tmp_path: Path) -> None:
    class LastIsBest(toy.ToyLearner):
        def evaluate(self, model: Any, labels: Any) -> float:
            return float(len(self.trained))

    run(tmp_path, Beyond(correct=0.6), learner=LastIsBest())
    assert json.loads((tmp_path / "summary.json").read_text())["beyond"]["chosen"] == "corrected"
    table = read_labels(tmp_path / "corrections.parquet")
    selected = read_labels(tmp_path / "selected.parquet")
    place = {row: i for i, row in enumerate(selected.table.column("adapt.row").to_pylist())}
    rows = [place[row] for row in table.table.column("adapt.row").to_pylist()]
    np.testing.assert_array_equal(selected.boxes()[rows], table.boxes())
    with pytest.raises(InputError, match=r"variant 'corrected'.*without that option"):
        Previous.read(tmp_path)


def test_one_model_alone_corrects_nothing(tmp_path: Path) -> None:
    class MoreIsBetter(toy.ToyLearner):
        def evaluate(self, model: Any, labels: Any) -> float:
            return float(self.trained[-1])

    options = {"learner": MoreIsBetter(), "start": 0.1}
    result = run(tmp_path, Beyond(correct=0.6), **options)
    assert result.summary.winner == result.summary.no_curriculum.stage
    assert "no other to agree with" in result.summary.beyond.skipped["corrected"]


def test_rounds_measure_with_the_teacher_and_stop(tmp_path: Path) -> None:
    result = run(tmp_path, Beyond(rounds=9))
    variants = variants_of(tmp_path)
    rounds = [name for name in variants if name.startswith("round")]
    assert result.summary.beyond.stopped == f"{rounds[-1]} is not better"
    scores = [variants[name]["score"] for name in ("plain", *rounds)]
    assert scores[:-1] == sorted(scores[:-1])
    assert scores[-1] <= scores[-2]
    first = variants["round 1"]
    assert first["teacher"]
    measured = ScoreMatrix.read(tmp_path / "scores" / f"{first['scores']}.parquet")["round 1"]
    teacher = toy.ToyLearner().load(tmp_path / "stages" / variants["plain"]["stage"] / "teacher")
    labels = read_labels(tmp_path / "labels.parquet")
    np.testing.assert_array_equal(measured, toy.overlaps(teacher, labels))


def test_msa_calibrates_each_source_by_itself(tmp_path: Path) -> None:
    beyond = Beyond(calibrated=0.5, soft=True)
    result = ledger.adapt(tmp_path, ledger.make_labels("abc"), beyond=beyond)
    calibrated = variants_of(tmp_path)["calibrated"]
    assert set(calibrated["thresholds"]) == {"a", "b", "c"}
    # A source with so few labels is calibrated on the labels of all.
    assert variants_of(tmp_path)["soft"]["kept"] > 0
    assert result.summary.beyond.variants[0].measurers == {
        step.source: step.measurer for step in result.steps
    }


def test_msa_without_a_search_trains_one_candidate_a_source(tmp_path: Path) -> None:
    beyond = Beyond(calibrated=0.5, skip_search=True, rounds=1)
    result = ledger.adapt(tmp_path, ledger.make_labels("ab"), beyond=beyond)
    assert [step.search.num_evaluations for step in result.steps] == [1, 1]
    variants = variants_of(tmp_path)
    assert variants["plain"]["thresholds"] == {s.source: s.threshold for s in result.steps}
    assert variants["round 1"]["search"]["num_evaluations"] == 1


def test_a_measurer_without_boxes_corrects_nothing(tmp_path: Path) -> None:
    class Blind:
        name, requires = "blind", frozenset[str]()

        def __init__(self, model: Any) -> None:
            self._inner = toy.ToyMeasurer(model)

        def measure(self, labels: Any, context: Any) -> Scores:
            return self._inner.measure(labels, context)

    class WithoutBoxes(Teaching):
        def measurer(self, model: Any) -> Blind:
            return Blind(model)

    with pytest.raises(InputError, match="Blind predicts no boxes"):
        run(tmp_path, Beyond(correct=0.7), learner=WithoutBoxes())
    run(tmp_path, Beyond(soft=True), learner=WithoutBoxes())  # without correction the run goes on


@pytest.mark.parametrize("options", [{"candidates": "together"}, {"warm_start": True}])
def test_together_and_warm_start(tmp_path: Path, options: dict[str, Any]) -> None:
    run(tmp_path, **options)
    learner = Teaching()
    run(tmp_path, learner=learner, **options)
    assert learner.trained == []


def test_several_workers_make_one_run(tmp_path: Path) -> None:
    barrier = threading.Barrier(2, timeout=60)
    learners = [Teaching(), Teaching()]

    def work(rank: int) -> str:
        workers = Workers(rank == 0, barrier.wait)
        result = run(tmp_path / "two", learner=learners[rank], workers=workers)
        return str(result.summary.winner)

    with ThreadPoolExecutor(2) as pool:
        winners = list(pool.map(work, range(2)))
    run(tmp_path / "one")
    assert winners[0] == winners[1]
    assert learners[0].trained == learners[1].trained
    assert outcome(tmp_path / "two") == outcome(tmp_path / "one")


@pytest.mark.slow
def test_a_killed_run_of_the_recommended_kind_ends_alike(tmp_path: Path) -> None:
    codes = killed("support.beyond:run_alone", tmp_path / "killed", writes=[9, 17, 25, 33, 0])
    assert codes.count(-9) >= 3
    assert codes[-1] == 0
    run(tmp_path / "whole", ALONE, warm_start=True)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_killed_anywhere_and_resumed_it_ends_alike(tmp_path: Path) -> None:
    moments = np.random.default_rng(6).integers(1, 120, 7).tolist()
    codes = killed("support.beyond:run_everything", tmp_path / "killed", writes=[*moments, 0])
    assert codes.count(-9) >= 5
    assert codes[-1] == 0
    run(tmp_path / "whole")
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    tables = [read_labels(tmp_path / name / "corrections.parquet") for name in ("killed", "whole")]
    assert tables[0].table.equals(tables[1].table)
    assert not list((tmp_path / "killed").rglob("*.partial"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibrated": 1.5}, "calibrated is 1.5, expected below 1"),
        ({"skip_search": True}, "calibrated=0.5"),
        ({"alone": True}, "name it in measures"),
        ({"correct": 0.0}, "correct is 0.0, expected above 0"),
        ({"rounds": -1}, "expected at least 0"),
        ({"rounds": 1.5}, "expected int"),
        ({"measures": ("adapted=vote",)}, "what the adapted model is called"),
        ({"measures": ("nosuch",)}, "no measure 'nosuch'"),
        ({"measures": ("match,foo=1",)}, "has no option 'foo'"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Beyond(**options)


def test_everything_is_something() -> None:
    assert EVERYTHING
    assert Beyond(measures=["vote"]) == Beyond(measures=("vote",))
