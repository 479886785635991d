"""The public functions, end to end with an untrained tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapt_program import SMALL, run
from reliability.scenery import make_labels

import clipvg
from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.training import FitConfig, GroundingLearner


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    make_labels(folder, num_images=8)
    return folder


@pytest.fixture(scope="module")
def labels(images: Path) -> LabelTable:
    return make_labels(images, num_images=8)


@pytest.fixture(scope="module")
def adapted(labels: LabelTable, tmp_path_factory: pytest.TempPathFactory) -> clipvg.api.AdaptResult:
    return run(labels, tmp_path_factory.mktemp("runs") / "run")


def outcome(folder: Path) -> dict[str, Any]:
    """Decisions, scores and weights of a run, without times."""
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
    with pytest.raises(InputError, match=r"curriculum\.step is 0\.1 there, 0\.2 now"):
        run(labels, adapted.folder, curriculum=clipvg.curriculum.SSAConfig(step=0.2))


def test_killed_anywhere_and_resumed_it_ends_alike(
    adapted: clipvg.api.AdaptResult, images: Path, tmp_path: Path
) -> None:
    program = Path(__file__).with_name("adapt_program.py")
    command = [sys.executable, str(program), str(images), str(tmp_path / "run")]
    moments = ["9", "20", "29", "33", "0"]
    ended = subprocess.run([*command, *moments], capture_output=True, text=True, check=True)
    assert ended.stdout.split()[-1] == "0", ended.stderr
    assert ended.stdout.split().count("-9") >= 3
    assert outcome(tmp_path / "run") == outcome(adapted.folder)


def test_several_sources_are_taken_as_one_with_a_warning(
    labels: LabelTable, tmp_path: Path
) -> None:
    training = FitConfig(steps=1, batch_size=8, augment=False)
    with pytest.warns(UserWarning, match=r"2 sources \(relation, template\)"):
        clipvg.adapt(
            labels,
            validation=labels,
            out=tmp_path,
            backbone="clipvg-tiny",
            pretrained=None,
            model=SMALL,
            training=training,
            progress=False,
            report=False,
        )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["validation"]["kind"] == "given"
    assert summary["no_curriculum"]["kept"] == len(labels)


def test_the_recorded_command_stays(labels: LabelTable, tmp_path: Path) -> None:
    run(labels, tmp_path / "run", command="clipvg adapt what was typed")
    again = run(labels, tmp_path / "run", report=True)
    assert again.summary["command"] == "clipvg adapt what was typed"
    assert "what was typed" in (tmp_path / "run" / "report.html").read_text()


def test_train_leaves_a_model(labels: LabelTable, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "out": tmp_path / "run",
        "backbone": "clipvg-tiny",
        "pretrained": None,
        "model": SMALL,
        "training": FitConfig(steps=3, batch_size=8, augment=False),
        "progress": False,
    }
    result = clipvg.train(labels, validation=labels, **options)
    assert result.summary["best"]["epoch"] == 1
    again = clipvg.load(tmp_path / "run" / "model")
    path = labels.image_path(labels.image_names[0])
    np.testing.assert_array_equal(again.predict(path, "sky"), result.model.predict(path, "sky"))
    with pytest.raises(InputError, match="another --out"):
        clipvg.train(labels.select(range(4)), **options)


def test_public_names_are_there() -> None:
    for name in clipvg.__all__:
        assert getattr(clipvg, name) is not None
