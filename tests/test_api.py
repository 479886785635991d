"""The public functions, end to end with an untrained tiny model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.adapting import QUIET, SMALL, run
from support.processes import killed
from support.tiny import make_labels

import clipvg
from clipvg.api import Curriculum, RunOptions, Sources
from clipvg.curriculum import ThresholdSearch
from clipvg.errors import InputError
from clipvg.labels import LabelTable, read_labels
from clipvg.report.run import report_run
from clipvg.training import FitConfig, GroundingLearner


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    make_labels(folder, images=8)
    return folder


@pytest.fixture(scope="module")
def labels(images: Path) -> LabelTable:
    return make_labels(images, images=8)


@pytest.fixture(scope="module")
def adapted(labels: LabelTable, tmp_path_factory: pytest.TempPathFactory) -> clipvg.api.AdaptResult:
    return run(labels, tmp_path_factory.mktemp("runs") / "run")


def outcome(folder: Path) -> dict[str, Any]:
    """Return the decisions, scores and weights of a run, without times."""
    summary = json.loads((folder / "summary.json").read_text())
    for stage in summary["stages"]:
        stage.pop("seconds")
    files = [folder / "model" / "model.safetensors", *sorted((folder / "scores").iterdir())]
    return {"summary": summary, **{path.name: path.read_bytes() for path in files}}


def test_adapt_leaves_a_model_that_everything_takes(
    adapted: clipvg.api.AdaptResult, labels: LabelTable
) -> None:
    folder = adapted.folder
    loaded = clipvg.load(folder / "model")
    path = labels.image_path(labels.image_names[0])
    boxes = loaded.predict(path, ["red dog", "sky"])
    assert boxes.shape == (2, 4)
    np.testing.assert_array_equal(boxes, adapted.model.predict(path, ["red dog", "sky"]))
    assert loaded.config.trained_on == ["template"]
    scores = clipvg.score(labels, [str(folder / "model")])
    assert scores.names == ("run/model",)
    assert clipvg.evaluate(folder / "model", labels).count == len(labels)


def test_adapt_reports_its_decisions(adapted: clipvg.api.AdaptResult) -> None:
    summary = adapted.summary
    assert adapted.threshold == summary["threshold"]
    assert [h for h, _ in adapted.curve] == [h for h, _ in summary["search"]["curve"]]
    assert adapted.scores.names == ("measurer", "adapted")
    assert summary["validation"]["kind"] == "held out"
    winner = adapted.folder / "stages" / summary["winner"] / "model" / "model.safetensors"
    model = adapted.folder / "model" / "model.safetensors"
    assert model.read_bytes() == winner.read_bytes()
    assert not list(adapted.folder.rglob("training"))


def test_a_finished_run_trains_nothing(
    adapted: clipvg.api.AdaptResult, labels: LabelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = outcome(adapted.folder)
    monkeypatch.setattr(GroundingLearner, "fit", lambda *args, out=None, **options: 1 / 0)
    run(labels, adapted.folder)
    assert outcome(adapted.folder) == before


def test_truth_decides_nothing(
    adapted: clipvg.api.AdaptResult, labels: LabelTable, tmp_path: Path
) -> None:
    noise = np.random.default_rng(3).uniform(0, 60, (len(labels), 4))
    run(labels.with_column("truth", noise), tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(adapted.folder)


def test_another_configuration_needs_another_folder(
    adapted: clipvg.api.AdaptResult, labels: LabelTable
) -> None:
    other = Curriculum(search=clipvg.curriculum.SSAConfig(step=0.2))
    with pytest.raises(InputError, match=r"curriculum\.step is 0\.1 there, 0\.2 now"):
        run(labels, adapted.folder, curriculum=other)


def test_another_strategy_decides_with_the_trainings_there_are(
    adapted: clipvg.api.AdaptResult, labels: LabelTable, tmp_path: Path
) -> None:
    def lowest(candidates: Any, start: float, step: float, **options: Any) -> ThresholdSearch:
        (score,) = candidates([least])
        return ThresholdSearch(least, score, [(least, score)], [[least]], "the least was taken")

    least, _ = adapted.curve[0]

    shutil.copytree(adapted.folder, tmp_path / "run")
    again = run(labels, tmp_path / "run", curriculum=Curriculum(strategy=lowest))
    assert again.curve == adapted.curve[:1]
    assert "strategy: " in (tmp_path / "run" / "config.yaml").read_text()


def test_reliability_may_be_another_score_than_iou(
    adapted: clipvg.api.AdaptResult, labels: LabelTable, tmp_path: Path
) -> None:
    result = run(labels, tmp_path / "run", curriculum=Curriculum(similarity="dice"))
    by_iou, by_dice = (r.scores["measurer"].astype(float) for r in (adapted, result))
    np.testing.assert_allclose(by_dice, 2 * by_iou / (1 + by_iou), atol=1e-5)
    assert result.summary["similarity"] == "dice"
    assert "similarity" not in adapted.summary
    base = result.summary["no_curriculum"]["stage"]
    model, held = result.folder / "stages" / base / "model", tmp_path / "run" / "held_out.parquet"
    held_out = read_labels(held, images=labels.images)
    expected = clipvg.score(held_out, {"m": model}, similarity="dice")["m"] >= 0.5
    assert result.summary["no_curriculum"]["score"] == pytest.approx(expected.mean())
    page = report_run(tmp_path / "run")
    assert "the Dice of its box" in page.terms["reliability r"]
    assert "Dice of the measurer's box" in page.figures[0].caption
    with pytest.raises(InputError, match="similarity"):
        run(labels, tmp_path / "run")
    with pytest.raises(InputError, match="no similarity 'nosuch'"):
        run(labels, tmp_path / "other", curriculum=Curriculum(similarity="nosuch"))


@pytest.mark.slow
def test_killed_anywhere_and_resumed_it_ends_alike(
    adapted: clipvg.api.AdaptResult, images: Path, tmp_path: Path
) -> None:
    moments = [9, 29, 0]
    codes = killed("support.adapting:run_on", images, tmp_path / "run", writes=moments)
    assert codes == [-9, -9, 0]
    assert outcome(tmp_path / "run") == outcome(adapted.folder)


@pytest.fixture(scope="module")
def multi(labels: LabelTable, tmp_path_factory: pytest.TempPathFactory) -> clipvg.api.AdaptResult:
    return several(labels, tmp_path_factory.mktemp("multi") / "run")


def several(labels: LabelTable, out: Path, **options: Any) -> clipvg.api.AdaptResult:
    """Adapt to labels of two sources, validated on themselves, one step per training."""
    return clipvg.adapt(
        labels,
        out=out,
        backbone="clipvg-tiny",
        model=SMALL,
        training=FitConfig(steps=1, batch_size=8, augment=False),
        run=QUIET,
        **{"validation": labels, **options},
    )


def test_several_sources_are_adapted_to_one_after_the_other(
    multi: clipvg.api.AdaptResult,
) -> None:
    summary = multi.summary
    assert summary["method"] == "msa"
    assert sorted(multi.thresholds) == ["relation", "template"]
    assert multi.scores.names[-1] == "adapted"
    for measurer in summary["measurers"]:
        folder = multi.folder / "stages" / measurer["stage"] / "model"
        assert list(clipvg.load(folder).config.trained_on) == measurer["trained_on"]
    with pytest.raises(InputError, match="use thresholds"):
        _ = multi.threshold
    assert clipvg.load(multi.folder / "model").config.trained_on


def test_several_sources_may_be_taken_as_one(labels: LabelTable, tmp_path: Path) -> None:
    result = several(labels, tmp_path / "run", curriculum=Curriculum(method="ssa"))
    assert result.summary["no_curriculum"]["kept"] == len(labels)
    assert result.thresholds == {"relation+template": result.threshold}
    assert result.curve


def test_scores_that_came_along_are_used(
    multi: clipvg.api.AdaptResult, labels: LabelTable, tmp_path: Path
) -> None:
    scored = multi.scores.attach(labels)
    both = Curriculum(sources=Sources(scored_by=["template", "relation"]))
    result = several(scored, tmp_path / "run", curriculum=both)
    assert result.thresholds == multi.thresholds
    assert [m["stage"] for m in result.summary["measurers"]] == [None, None]
    np.testing.assert_array_equal(result.scores["template"], multi.scores["template"])
    other = scored.with_column("reliability.template", np.zeros(len(labels), np.float32))
    with pytest.raises(InputError, match="scored_by"):
        several(other, tmp_path / "run", curriculum=both)
    single = labels.select(np.array(labels.sources()) == "template").with_column(
        "reliability.mine", np.linspace(0, 1, labels.sources().count("template"))
    )
    given = Curriculum(sources=Sources(scored_by=["mine"]))
    mine = several(single, tmp_path / "one", curriculum=given)
    assert mine.scores.names[0] == "mine"
    with pytest.raises(InputError, match="choose method 'msa'"):
        several(scored, tmp_path / "two", curriculum=replace(both, method="ssa"))


def test_a_run_goes_on_with_a_new_source(
    labels: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_template = np.array(labels.sources()) == "template"
    first = several(labels.select(is_template), tmp_path / "first", validation=labels)
    assert first.summary["method"] == "ssa"
    plan = Curriculum(sources=Sources(continue_from=first.folder))
    go_on = {"validation": labels, "curriculum": plan}
    new = labels.select(~is_template)
    second = several(new, tmp_path / "second", **go_on)
    assert list(second.thresholds) == ["relation"]
    assert second.scores.names == ("template", "relation", "adapted")
    assert second.summary["continued"]["kept"] == first.summary["kept"]
    monkeypatch.setattr(GroundingLearner, "fit", lambda *args, out=None, **options: 1 / 0)
    assert several(new, tmp_path / "second", **go_on).thresholds == second.thresholds
    with pytest.raises(InputError, match="another --out"):
        several(new, first.folder, **go_on)
    with pytest.raises(InputError, match="pass --validation"):
        several(new, tmp_path / "third", **(go_on | {"validation": None}))
    with pytest.raises(InputError, match="choose method 'msa'"):
        several(new, tmp_path / "third", **(go_on | {"curriculum": replace(plan, method="ssa")}))


@pytest.mark.usefixtures("undrawn")
def test_the_recorded_command_stays(labels: LabelTable, tmp_path: Path) -> None:
    typed = RunOptions(progress=False, report=False, command="clipvg adapt what was typed")
    run(labels, tmp_path / "run", run=typed)
    again = run(labels, tmp_path / "run", run=RunOptions(progress=False))
    assert again.summary["command"] == "clipvg adapt what was typed"
    assert "what was typed" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_device_that_is_not_here_is_one_line(tmp_path: Path) -> None:
    small = {"width": 16, "layers": 1, "heads": 2, "feedforward": 16}
    clipvg.create_model("clipvg-tiny", None, **small).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"device='cuda' is not available here: .*choose from cpu"):
        clipvg.load(tmp_path, device="cuda")


def test_train_leaves_a_model(labels: LabelTable, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "out": tmp_path / "run",
        "backbone": "clipvg-tiny",
        "model": SMALL,
        "training": FitConfig(steps=3, batch_size=8, augment=False),
        "run": QUIET,
    }
    result = clipvg.train(labels, validation=labels, **options)
    assert result.summary["best"]["epoch"] == 1
    again = clipvg.load(tmp_path / "run" / "model")
    path = labels.image_path(labels.image_names[0])
    np.testing.assert_array_equal(again.predict(path, "sky"), result.model.predict(path, "sky"))
    with pytest.raises(InputError, match="another --out"):
        clipvg.train(labels.select(range(4)), **options)


def test_evaluate_looks_at_the_expressions_before_anything_is_computed(
    labels: LabelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipvg.model import create_model

    model = create_model("clipvg-tiny", None, width=16, layers=1, heads=2, preset="published")
    said = ["a very long " * 40, *labels.expressions[1:]]
    monkeypatch.setattr(model, "encode_images", None)
    with pytest.raises(InputError, match=r"row 0: 'a very long .* more than 77"):
        clipvg.evaluate(model, labels.with_column("expression", said))
