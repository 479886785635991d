"""`clipvg adapt` with options beyond the paper, on a tiny untrained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from clipvg import create_model
from clipvg.labels import read_labels
from clipvg.measures.region import RegionAlignment
from clipvg.pseudo import Detection, Observation, ObservationTable
from clipvg.reliability import BoxPredictor, Context, GroundingMeasurer, ScoreMatrix, Scores

pytestmark = pytest.mark.usefixtures("undrawn")

QUICK = {
    "backbone": "clipvg-tiny",
    "model": {"pretrained": None, "width": 16, "layers": 1, "heads": 2, "feedforward": 16},
    "training": {"epochs": 1, "batch_size": 4, "augment": False, "ema": 0.9},
}
OPTIONS = """
--beyond.soft true --beyond.calibrated 0.5 --beyond.correct 0.2 --beyond.rounds 1
--beyond.measures hygiene both=weighted_mean,of=measurer+hygiene
""".split()


@pytest.fixture
def words(labels: Path, pictures: Path, tmp_path: Path) -> list[Any]:
    recipe = tmp_path / "quick.yaml"
    recipe.write_text(yaml.safe_dump(QUICK))
    return [
        "adapt", labels, "--images", pictures, "--validation", labels, "--config", recipe,
        "--out", tmp_path / "run", "--quiet", "--search.start", 0.1,
    ]  # fmt: skip


def test_a_finished_run_takes_further_options(
    clipvg: Any, words: list[Any], tmp_path: Path
) -> None:
    plain = clipvg(*words, "--json")
    assert plain.code == 0, plain.err
    outcome = clipvg(*words, *OPTIONS)
    assert outcome.code == 0, outcome.err
    assert "soft" in outcome.out
    assert "round 1" in outcome.out
    result = json.loads((tmp_path / "run" / "summary.json").read_text())
    variants = {variant["name"]: variant for variant in result["beyond"]["variants"]}
    assert {"plain", "fused", "soft", "round 1"} <= {*variants}
    assert variants["plain"]["stage"] == plain.json["winner"]
    assert variants["round 1"]["teacher"]
    assert result["score"] >= plain.json["score"]
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert settings["further"]["rounds"] == 1
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Beyond the published method" in page
    refused = clipvg(*words, "--beyond.calibrated", 2)
    assert "calibrated is 2.0, expected below 1" in refused.error


def test_the_recipe_resumes_and_its_report_says_what_each_part_brought(
    clipvg: Any, words: list[Any], labels: Path, tmp_path: Path
) -> None:
    table = read_labels(labels)
    seen = [
        Observation(name, 64, 48, (Detection(table.expressions[row].split()[-1], (1, 1, 30, 30)),))
        for row, name in enumerate(dict.fromkeys(table.image_names))
    ]
    ObservationTable.from_observations(seen).write(tmp_path / "seen.parquet")
    words = [*words, "--config", "recommended", "--search.min_kept", 1]
    words += ["--beyond.observations", tmp_path / "seen.parquet"]
    first = clipvg(*words, "--json")
    assert first.code == 0, first.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["method"] == "ssa"
    assert [v["name"] for v in summary["beyond"]["variants"]][:2] == ["fused", "round 1"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "over all labels" in page
    assert "Fused: both=weighted_mean" in page
    again = clipvg(*words, "--json")
    assert again.json["winner"] == first.json["winner"]
    searched = clipvg(
        *words, "--beyond.skip_search", "false", "--beyond.calibrated", "null", "--json"
    )
    assert searched.code == 0, searched.err
    reasons = [outcome.json["search"]["reason"] for outcome in (first, searched)]
    assert reasons[0] == "given, not searched" != reasons[1]


def test_what_no_head_decides_is_measured_once(
    clipvg: Any, words: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, score = [], RegionAlignment.score

    def counted(measure: RegionAlignment, *inputs: Any) -> Scores:
        calls.append(measure.name)
        return score(measure, *inputs)

    monkeypatch.setattr(RegionAlignment, "score", counted)
    measures = ["region,grid=2", "both=weighted_mean,of=measurer+region"]
    outcome = clipvg(*words, "--beyond.rounds", 1, "--beyond.measures", *measures)
    assert outcome.code == 0, outcome.err
    assert calls == ["region"]
    found = [*map(ScoreMatrix.read, (tmp_path / "run" / "scores").glob("*-measures.parquet"))]
    assert [scores.names for scores in found] == [("region", "both")] * 2
    np.testing.assert_array_equal(found[0]["region"], found[1]["region"])
    assert (found[0]["both"] != found[1]["both"]).any()


def test_a_measurer_predicts_boxes_in_pixels(labels: Path, pictures: Path) -> None:
    small = {"width": 16, "layers": 1, "heads": 2, "feedforward": 16}
    model = create_model("clipvg-tiny", None, **small).eval()
    measurer = GroundingMeasurer(model)
    assert isinstance(measurer, BoxPredictor)
    table = read_labels(labels, images=pictures)
    found = measurer.predict(table, Context())
    for row in (0, len(table) - 1):
        expected = model.predict(table.image_path(table.image_names[row]), table.expressions[row])
        np.testing.assert_allclose(found[row], expected[0], atol=1e-2)
    missing = table.with_column("image", ["none.png", *table.image_names[1:]])
    assert np.isnan(measurer.predict(missing, Context())[0]).all()


def two_sources(labels: Path, folder: Path) -> Path:
    """Write the labels with two alternating sources; return the file."""
    table = read_labels(labels)
    names = [("template", "caption")[i % 2] for i in range(len(table))]
    table.with_column("source", names).write(folder / "two.parquet")
    return folder / "two.parquet"


def test_several_sources_with_fused_measures(
    clipvg: Any, words: list[Any], labels: Path, tmp_path: Path
) -> None:
    words[1] = two_sources(labels, tmp_path)
    options = ["--beyond.soft", "true", "--beyond.measures", "weighted_mean", "--search.h0", "0.1"]
    outcome = clipvg(*words, *options, "--json")
    assert outcome.code == 0, outcome.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["method"] == "msa"
    names = [variant["name"] for variant in summary["beyond"]["variants"]]
    assert names == ["plain", "fused", "soft"]
    assert [*summary["reliability"]["measurers"]][-2:] == ["weighted_mean", "adapted"]
    assert "Beyond the published method" in (tmp_path / "run" / "report.html").read_text()


def test_folds_another_similarity_and_fewer_sources(
    clipvg: Any, words: list[Any], labels: Path, tmp_path: Path
) -> None:
    words[1] = two_sources(labels, tmp_path)
    options = ["--search.folds", "2", "--search.fold_steps", "shared", "--similarity", "giou"]
    outcome = clipvg(*words, *options, "--beyond.drop_sources", "true")
    assert outcome.code == 0, outcome.err
    assert "Reliability is out-of-sample: one of 2 models" in outcome.out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["similarity"] == "giou"
    assert summary["folds"]["trainings"] == 4
    beyond = summary["beyond"]
    tried = {*beyond["skipped"], *(variant["name"] for variant in beyond["variants"])}
    assert "fewer sources" in tried
    page = (tmp_path / "run" / "report.html").read_text()
    assert "GIoU (from 0 to 1) of its box" in page
    assert "Reliability is out-of-sample" in page


def test_a_file_names_no_code(clipvg: Any, words: list[Any], tmp_path: Path) -> None:
    recipe = tmp_path / "quick.yaml"
    recipe.write_text(yaml.safe_dump({**QUICK, "similarity": "mine:f"}))
    assert "similarity 'mine:f' is code, which a file may not name" in clipvg(*words).error
    recipe.write_text(yaml.safe_dump({**QUICK, "similarity": "giuo"}))
    assert "did you mean 'giou'" in clipvg(*words).error
