"""MSA with the ledger learner: order, measurers, thresholds, union, records; worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import toy
from support.ledger import BY, LedgerLearner, adapt, make_labels
from support.processes import killed

from clipvg.curriculum import MSAConfig, Previous, Run, Sources, msa
from clipvg.curriculum.split import agreement_with_others
from clipvg.errors import InputError
from clipvg.labels import read_labels
from clipvg.reliability import ScoreMatrix


def summary_of(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k != "seconds"}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def outcome(folder: Path) -> tuple[Any, ...]:
    """Return everything a run decided (without times), its scores, selection and model."""
    scores = {path.name: path.read_bytes() for path in sorted((folder / "scores").iterdir())}
    selected = read_labels(folder / "selected.parquet").expressions
    model = (folder / "model" / "model.json").read_bytes()
    return without_times(summary_of(folder)), scores, selected, model


def test_decisions_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    result = adapt(tmp_path)
    first, second = result.steps

    # D = {}. At r >= 0.5 measurer a keeps a0 a1 a2, worth 1, and b keeps a1 a2 a3, worth -1.
    assert (first.source, first.measurer) == ("a", "a")
    # 0.6 leaves a0 a1, worth 2; 0.8 only a0 (0.7 is passed over: it keeps the same as 0.6).
    assert (first.threshold, first.kept, first.search.score) == (0.6, 2, 2.0)
    assert first.search.curve == [(0.2, 0.0), (0.5, 1.0), (0.6, 2.0), (0.8, 1.0)]
    # D = {a0, a1}. Measurer a keeps b0 b1, worth 4 with D, and b keeps b0 b2 b3, worth 0.
    assert (second.source, second.measurer) == ("b", "a")
    assert (second.threshold, second.kept, second.search.score) == (0.5, 2, 4.0)
    chosen = np.array(make_labels().expressions)[result.selected]
    assert chosen.tolist() == ["a0", "a1", "b0", "b1"]
    assert json.loads((tmp_path / "model" / "model.json").read_text()) == [
        ["a0", "a1", "b0", "b1"],
        ["a", "b"],
    ]


def test_every_decision_is_recorded_with_its_evidence(tmp_path: Path) -> None:
    adapt(tmp_path)
    summary = summary_of(tmp_path)
    assert (summary["method"], summary["order"]) == ("msa", ["a", "b"])
    assert summary["complexity"] == {"a": 1.0, "b": 2.0}
    second = summary["steps"][1]
    scores = [(row["measurer"], row["specific"], row["kept"]) for row in second["choice"]]
    assert scores == [("a", False, 2), ("b", True, 3)]
    assert [row["score"] for row in second["choice"]] == [4.0, 0.0]
    assert (second["total"], second["specific"], second["labels"]) == (4, False, 4)
    for stage in second["stages"]:
        assert sum(stage["reliability"]["histogram"]) == stage["kept"] - 2  # the other two are in D
    assert summary["no_curriculum"] | {"stage": None} == {"stage": None, "score": -1.0, "kept": 8}
    assert (summary["kept"], summary["score"], summary["gain"]) == (4, 4.0, 5.0)
    assert [entry["name"] for entry in summary["stages"]] == ["measurer", "measurer", "all labels"]
    assert [m["trained_on"] for m in summary["measurers"]] == [["a"], ["b"]]
    assert np.array(summary["reliability"]["specific"][:2]).tolist() == [
        [True, False],
        [False, True],
    ]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines].count("chosen") == 2
    for key in {line["stage"] for line in lines if "stage" in line}:
        assert (tmp_path / "stages" / key / "stage.json").exists()


def test_source_specific_and_cross_source_scores_are_exposed(tmp_path: Path) -> None:
    scores = adapt(tmp_path).scores
    assert scores.names == ("a", "b", "adapted")
    np.testing.assert_array_equal(scores.cell("a", "b"), np.float32(BY["a"][4:8]))
    np.testing.assert_array_equal(scores.specific("b")[4:], np.float32(BY["b"][4:8]))
    np.testing.assert_array_equal(scores.cross("b")[:4], np.float32(BY["b"][:4]))
    assert np.isnan(scores.cross("b")[4:]).all()


def test_nothing_is_trained_twice(tmp_path: Path) -> None:
    learner = LedgerLearner()
    result = adapt(tmp_path, learner=learner)
    assert len(learner.trained) == len(set(learner.trained))
    assert len(learner.trained) == result.summary.num_trainings
    learner = LedgerLearner()
    before = outcome(tmp_path)
    adapt(tmp_path, learner=learner)
    assert learner.trained == []
    assert outcome(tmp_path) == before


def test_the_least_complex_source_comes_first_whatever_the_order_of_rows(tmp_path: Path) -> None:
    labels = make_labels()
    swapped = labels.select([4, 5, 6, 7, 0, 1, 2, 3])
    assert [step.source for step in adapt(tmp_path / "a", swapped).steps] == ["a", "b"]
    reversed_ = adapt(tmp_path / "b", order=lambda table: -ord(table.sources()[0]))
    assert [step.source for step in reversed_.steps] == ["b", "a"]
    equal = adapt(tmp_path / "c", swapped, order=lambda table: 1.0)
    assert [step.source for step in equal.steps] == ["a", "b"]


def test_of_equal_measurers_the_own_one_is_chosen(tmp_path: Path) -> None:
    names = np.array(make_labels().expressions)
    table = {"a": np.float32([0.9, 0.9, 0.1, 0.1] * 2), "b": np.float32([0.9, 0.9, 0.1, 0.1] * 2)}
    labels = make_labels()
    matrix = ScoreMatrix(
        ("a", "b"), np.stack(list(table.values())), labels.sources(), (("a",), ("b",))
    )
    result = adapt(tmp_path, matrix.attach(labels), scored_by=["a", "b"])
    assert [step.measurer for step in result.steps] == ["a", "b"]
    assert names[result.selected].tolist() == ["a0", "a1", "b0", "b1"]


def test_one_source_is_ssa(tmp_path: Path) -> None:
    labels, validation = toy.make_labels(), toy.make_labels(40, seed=1, wrong=0.0)
    single = toy.adapt(tmp_path / "ssa", labels=labels, validation=validation)
    identity = {"config": {"ssa": {}}, "labels": labels, "validation": validation}
    with Run(tmp_path / "msa", **identity) as run:
        multi = msa(toy.ToyLearner(), run, sources=Sources(complexity=len))
    assert multi.steps[0].search == single.search
    assert multi.summary.winner == single.summary.winner
    assert multi.summary.num_trainings == single.summary.num_trainings
    weights = [tmp_path / name / "model" / "model.json" for name in ("ssa", "msa")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("options", [{"candidates": "together"}, {"warm_start": True}])
def test_together_and_warm_start(tmp_path: Path, options: dict[str, Any]) -> None:
    result = adapt(tmp_path / "run", **options)
    plain = adapt(tmp_path / "plain")
    assert [s.threshold for s in result.steps] == [s.threshold for s in plain.steps]
    learner = LedgerLearner()
    adapt(tmp_path / "run", learner=learner, **options)
    assert learner.trained == []


def test_given_scores_train_no_measurer(tmp_path: Path) -> None:
    labels = make_labels()
    rows = np.float32([BY["a"][:8], BY["b"][:8]])
    scored = ScoreMatrix(("m1", "m2"), rows, labels.sources()).attach(labels)
    learner = LedgerLearner()
    result = adapt(tmp_path, scored, scored_by=["m1", "m2"], learner=learner)
    assert [(s.measurer, s.threshold) for s in result.steps] == [("m1", 0.6), ("m1", 0.5)]
    assert "b0 b1 b2 b3" not in learner.trained
    expected = {"name": "m1", "stage": None, "trained_on": [], "scores": "given"}
    assert result.summary.measurers[0].to_dict() == expected
    with pytest.raises(InputError, match="no reliability by 'm3'"):
        adapt(tmp_path / "other", scored, scored_by=["m3"])
    taken = labels.with_column("reliability.adapted", rows[0])
    with pytest.raises(InputError, match="choose another name"):
        adapt(tmp_path / "third", taken, scored_by=["adapted"])


def test_held_out_labels_count_by_the_agreement_of_other_sources(tmp_path: Path) -> None:
    labels = make_labels()
    result = adapt(tmp_path, labels, held_out=True, holdout=0.25)
    validation = result.summary.validation
    assert (validation.kind, validation.weighted, validation.count) == ("held out", True, 2)
    assert "agree" in validation.statement
    assert "not accuracy" in validation.statement
    held = read_labels(tmp_path / "held_out.parquet")
    rows = held.table.column("adapt.row").to_pylist()
    others = {"a": "b", "b": "a"}
    expected = [BY[others[labels.sources()[row]]][row] for row in rows]
    np.testing.assert_array_equal(held.weights(), np.float32(expected))
    assert result.summary.labels.count == 6


def test_agreement_is_the_mean_over_measurers_of_other_sources() -> None:
    nan = np.nan
    scores = ScoreMatrix(
        ("a", "b", "c"),
        np.float32([[0.9, 0.5, nan], [0.25, 0.1, nan], [0.75, nan, 0.3]]),
        ["a", "b", "c"],
        (("a",), ("b",), ("c",)),
    )
    np.testing.assert_allclose(agreement_with_others(scores), [0.5, 0.5, 0.0])


def test_a_run_knows_its_images_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    adapt(tmp_path / "first", make_labels("ab").with_images("images"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    previous = Previous.read(tmp_path / "first")
    assert previous.summary.labels.root == str(tmp_path / "images")
    joined = previous.joined(make_labels("c").with_images("../images"))
    assert joined.images == Path("../images")


def test_a_finished_run_goes_on_with_a_new_source(tmp_path: Path) -> None:
    adapt(tmp_path / "first", make_labels("ab"))
    previous = Previous.read(tmp_path / "first")
    labels = previous.joined(make_labels("c"))
    learner = LedgerLearner()
    result = adapt(tmp_path / "second", labels, previous=previous, learner=learner)
    whole = adapt(tmp_path / "whole", make_labels("abc"))
    assert [step.source for step in result.steps] == ["c"]
    assert result.steps[0].measurer == "c"
    np.testing.assert_array_equal(result.selected, whole.selected)
    assert "a0 a1 a2 a3" not in learner.trained
    continued = result.summary.continued
    assert [step.source for step in continued.steps] == ["a", "b"]
    assert (continued.kept, continued.score) == (4, 4.0)
    assert result.scores.names == ("a", "b", "c", "adapted")
    with pytest.raises(InputError, match="source 'a' already"):
        previous.joined(make_labels("ad"))
    with pytest.raises(InputError, match="no finished run"):
        Previous.read(tmp_path / "whole" / "stages")
    (tmp_path / "whole" / "summary.json").write_text('{"method": "msa"}')
    with pytest.raises(InputError, match="not the summary of a run"):
        Previous.read(tmp_path / "whole")


def test_held_out_images_stay_held_out_when_a_run_goes_on(tmp_path: Path) -> None:
    adapt(tmp_path / "first", make_labels("ab"), held_out=True, holdout=0.25)
    previous = Previous.read(tmp_path / "first")
    labels = previous.joined(make_labels("c"))
    adapt(tmp_path / "second", labels, held_out=True, holdout=0.25, previous=previous)
    held = [read_labels(tmp_path / n / "held_out.parquet") for n in ("first", "second")]
    # The new labels' images, 0.jpg to 3.jpg, are images of old labels, and stay on their side.
    assert set(held[0].image_names) == set(held[1].image_names)
    assert len(held[1]) >= len(held[0])


def test_labels_without_a_source_are_refused(tmp_path: Path) -> None:
    labels = make_labels().with_column("source", ["a"] * 4 + [""] * 4)
    with pytest.raises(InputError, match="no source"):
        adapt(tmp_path, labels)


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="h0 is 2"):
        MSAConfig(h0=2)


def test_killed_at_ten_random_moments_and_resumed_it_ends_alike(tmp_path: Path) -> None:
    moments = np.random.default_rng(13).integers(1, 60, 10).tolist()
    codes = killed("support.ledger:adapt_to_three", tmp_path / "killed", writes=[*moments, 0])
    assert codes == [-9] * 10 + [0]
    whole = adapt(tmp_path / "whole", make_labels("abc"))
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob("*.partial"))
    assert len(whole.steps) == 3
