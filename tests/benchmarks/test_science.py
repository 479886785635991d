from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import science
from _science.lab import Lab
from _science.quality import quality
from _science.statistics import interval, paired, signed, table
from _science.world import Scale, World
from scipy import stats

from clipvg.data.scenes import NoiseConfig, SceneConfig, is_correct, make_labels
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability import Context

SMALL = Scale(scenes=36, validation=8, test=8, start=3, steps=4, options={"batch_size": 16})


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("science")
    science.run(folder, 0, ["one"], SMALL)
    return folder


def test_experiments_share_trainings_and_resume(work: Path) -> None:
    trainings = {
        path.name: path.stat().st_mtime_ns for path in (work / "seed-0/trainings").iterdir()
    }
    (work / "results" / "one-0.json").rename(work / "first.json")
    science.run(work, 0, ["one"], SMALL)
    again = {path.name: path.stat().st_mtime_ns for path in (work / "seed-0/trainings").iterdir()}
    assert again == trainings
    one, first = (
        json.loads(path.read_text()) for path in (work / "results/one-0.json", work / "first.json")
    )
    assert one["ssa"] == first["ssa"]


def test_summary_tables_and_figures(work: Path, tmp_path: Path) -> None:
    found = science.write(work, tmp_path / "found.json", tmp_path)
    record = json.loads((work / "results/one-0.json").read_text())
    assert found["one"]["gap"]["mean"] == record["clean"]["test"] - record["all"]["test"]
    gain = record["ssa"]["test"] - record["all"]["test"]
    assert found["one"]["ssa"]["gain"]["mean"] == gain
    assert json.loads((tmp_path / "found.json").read_text())["summary"]["one"]["seeds"] == [0]
    assert (tmp_path / "science-methods.png").stat().st_size > 10_000


def test_a_record_grows_by_seeds_that_are_run_elsewhere(work: Path, tmp_path: Path) -> None:
    target, results = tmp_path / "found.json", tmp_path / "work" / "results"
    alone = science.write(work, target, tmp_path)
    results.mkdir(parents=True)
    record = json.loads((work / "results/one-0.json").read_text())
    (results / "one-1.json").write_text(json.dumps(record | {"seed": 1}))
    both = science.write(results.parent, target, tmp_path)
    assert both["one"]["seeds"] == [0, 1]
    assert both["one"]["gap"]["mean"] == alone["one"]["gap"]["mean"]
    (results / "one-1.json").write_text(json.dumps(record | {"seed": 1, "scale": {"steps": 5}}))
    with pytest.raises(SystemExit, match="several scales"):
        science.write(results.parent, target, tmp_path)


def test_shorter_trainings_are_kept_as_such(work: Path) -> None:
    world = World(work / "seed-0", 0, SMALL)
    lab = science.make_lab(work, world, world.training(), 0)
    whole, half = lab.fit(world.training()), lab.shorter(0.5).fit(world.training())
    assert (whole.steps, half.steps) == (4, 2)
    assert whole.key != half.key


@pytest.mark.slow
def test_out_of_sample_measurers(work: Path, tmp_path: Path) -> None:
    science.run(work, 0, ["folds", "folds-ssa"], SMALL)
    everything = science.write(work, tmp_path / "found.json", tmp_path)
    found, adapted = everything["folds"], everything["folds-ssa"]
    assert adapted["in-sample"]["over in-sample"]["mean"] == 0
    assert adapted["4 folds"]["steps"] > adapted["4 folds, shared, mean"]["steps"]
    assert [*found] == ["0.4", "0.7"]
    assert len(found["0.7"]) == 7
    assert 0 <= found["0.7"]["4 folds, shared steps"]["ambiguous"]["mean"] <= 1


@pytest.mark.slow
def test_all_experiments_of_three_sources(work: Path, tmp_path: Path) -> None:
    science.run(work, 0, ["three", "sweep", "together", "options-one"], SMALL)
    found = science.write(work, tmp_path / "found.json", tmp_path)
    # also those that other tests have run in the same folder
    assert set(found) >= {"one", "three", "sweep", "together", "options-one", "auroc"}
    assert found["together"]["over separate"]["n"] == 1
    assert found["three"]["msa"]["trainings"] > found["three"]["ssa template"]["trainings"]
    assert {"plain", "fused", "soft"} <= set(found["options-one"]["variants"])
    assert (tmp_path / "science-curve.png").exists()


@pytest.mark.slow
def test_the_recipe_beside_the_plain_methods(work: Path, tmp_path: Path) -> None:
    names = [f"recommended-{which}" for which in ("one", "70", "three", "generated")]
    science.run(work, 0, [*names, "searched-70", "longer-one", "poor-source"], SMALL)
    found = science.write(work, tmp_path / "found.json", tmp_path)
    for name in names:
        assert found[name]["steps"]["recommended"] <= 5 * SMALL.steps
        assert found[name]["over plain"]["n"] == 1
        assert next(iter(found[name]["variants"])) == "fused"
    assert found["longer-one"]["recommended over all"]["n"] == 1
    assert found["searched-70"]["over plain"]["n"] == 1
    assert "plain" in found["poor-source"]["variants"]  # and one with fewer sources, if better
    assert {"measurer", "match", "unique", "both"} <= set(found["recommended-one"]["auroc by kind"])
    assert "auroc by kind" not in found["recommended-generated"]


def test_a_folder_keeps_to_its_scale(work: Path) -> None:
    with pytest.raises(InputError, match="another scale"):
        science.run(work, 0, ["one"], dataclasses.replace(SMALL, steps=5))


def test_worlds_share_no_picture(tmp_path: Path) -> None:
    world = World(tmp_path, 0, SMALL)
    tables = [world.start, world.training(), world.three_sources(), world.validation, world.test]
    seen: set[bytes] = set()
    for labels in tables:
        pictures = {labels.image_path(name).read_bytes() for name in set(labels.image_names)}
        assert not seen & pictures
        seen |= pictures


def test_intervals_are_those_of_students_t() -> None:
    values, baseline = [3.0, 4.0, 6.5], [1.0, 1.5, 2.0]
    found = paired(values, baseline)
    test = stats.ttest_rel(values, baseline).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((test.low, test.high))
    assert signed(interval([1.0])) == "+1.0"
    assert table(["a"], [(1.25,), (None,)]) == "| a |\n|---|\n| 1.2 |\n|  |"


def test_unscored_labels_count_as_the_least_reliable() -> None:
    found = quality(np.array([0.9, 0.5, np.nan]), np.array([True, True, False]))
    assert found == {"auroc": 1.0, "average_precision": 1.0}


@pytest.mark.slow
def test_selected_labels_train_a_better_model_than_all(tmp_path: Path) -> None:
    # The whole method in small: one or two objects, wrong object or loose box, 500 steps.
    noise = NoiseConfig(rate=0.6, mix={"same_class": 0.5, "loose_box": 0.5})
    scenes = SceneConfig(num_objects=(1, 2))
    options: dict[str, Any] = {"source": "template", "config": scenes}
    labels = make_labels(tmp_path / "train", 700, noise=noise, seed=0, **options)
    test = make_labels(tmp_path / "test", 150, seed=1, **options)
    changes = {"steps": 500, "batch_size": 64, "lr": 1e-3}
    lab = Lab(tmp_path / "trainings", LabelTable.concat([labels, test]), changes, tmp_path)
    correct = is_correct(labels)
    everything = lab.fit(labels).model
    reliability = lab.measurer(everything).measure(labels, Context()).values
    accuracy = {
        "all": lab.accuracy(everything, test),
        "selected": lab.accuracy(lab.fit(labels.select(reliability >= 0.5)).model, test),
        "correct": lab.accuracy(lab.fit(labels.select(correct)).model, test),
    }
    assert quality(reliability, correct)["auroc"] > 0.65
    assert accuracy["selected"] > accuracy["all"] + 1
    assert accuracy["correct"] > accuracy["all"] + 1


@pytest.mark.slow
def test_settings_of_the_field(work: Path, tmp_path: Path) -> None:
    science.run(work, 0, ["semisupervised", "weakly", "cleaning"], SMALL)
    found = science.write(work, tmp_path / "found.json", tmp_path)
    assert {"10 % alone", "10 % with pseudo", "all annotated"} <= {*found["semisupervised"]}
    assert {*found["weakly"]} == {"all", "all, longer", "recommended"}
    assert found["cleaning"]["5 % cleaned"]["gain"]["n"] == 1
