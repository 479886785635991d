"""What all grounders can do, given where they place expressions, and the commands that take one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.corner import Corner
from support.one_label import written
from support.pretrained import save
from support.processes import as_two

import clipvg
from clipvg.cli import main
from clipvg.errors import InputError
from clipvg.grounders import GROUNDERS, build_grounder
from clipvg.grounders.grounder import Grounder
from clipvg.labels import LabelTable, read_labels
from clipvg.measures import MEASURES
from clipvg.reliability import BoxPredictor, Context, Measurer, measure
from clipvg.rescoring.store import open_store

CORNER = "support.corner:Corner"
CPU = torch.device("cpu")


@pytest.fixture
def labels(tmp_path: Path) -> LabelTable:
    for name, size in {"a.png": (100, 60), "b.png": (40, 80)}.items():
        Image.new("RGB", size).save(tmp_path / name)
    table = written(
        ["dog", "cat", "what?", "sky", "sea"],
        [[0, 0, 50, 30], [0, 0, 100, 60], [0, 0, 20, 40], [10, 20, 20, 40], [1, 1, 2, 2]],
        ["a.png", "a.png", "b.png", "b.png", "gone.png"],
    )
    return LabelTable(table.table, tmp_path)


def test_it_measures_and_predicts(labels: LabelTable) -> None:
    corner = Corner()
    assert isinstance(corner, Measurer)
    assert isinstance(corner, BoxPredictor)
    found = measure(corner, labels, Context())
    np.testing.assert_allclose(found.values, [1, 0.25, np.nan, 0.25, np.nan], rtol=1e-5)
    assert found.reasons[2] == "a question"
    assert "gone.png" in found.reasons[4]
    boxes = corner.predict(labels, Context())
    np.testing.assert_allclose(boxes[[0, 3]], [[0, 0, 50, 30], [0, 0, 20, 40]], atol=1e-3)
    assert np.isnan(boxes[[2, 4]]).all()
    with pytest.raises(InputError, match=r"gone\.png"):
        corner.predict(labels, Context(on_error="raise"))


def test_scores_beside_grounding_models(labels: LabelTable) -> None:
    scores = clipvg.score(labels, {"half": Corner(), "whole": Corner(share=1.0)})
    np.testing.assert_allclose(scores["whole"][:2], [0.25, 1], rtol=1e-5)
    assert scores.reasons[2] == "a question"


def test_labels_without_a_box_are_missed(labels: LabelTable) -> None:
    found = clipvg.evaluate(Corner(), labels.select([0, 1, 2, 3]))
    assert found.count == 4
    np.testing.assert_allclose(found.iou, [1, 0.25, 0, 0.25], rtol=1e-5)
    with pytest.raises(InputError, match=r"gone\.png"):
        clipvg.evaluate(Corner(), labels)


def test_one_image(labels: LabelTable) -> None:
    found = Corner().answer(labels.image_path("a.png"), ["dog", "what?"])
    np.testing.assert_allclose(found.boxes, [[0, 0, 50, 30], [np.nan] * 4])
    assert found.reasons == (None, "a question")
    assert found.scored_by == {"scores": "corner"}
    with pytest.raises(InputError, match="expression 0 is blank"):
        Corner().answer(labels.image_path("a.png"), [" "])


def test_a_store_keeps_what_was_answered(
    labels: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipvg.rescoring.plan.IMAGES_PER_SHARD", 1)
    stopping = labels.with_column("expression", ["dog", "cat", "what?", "sky", "stop"])
    (tmp_path / "gone.png").write_bytes((tmp_path / "a.png").read_bytes())
    with open_store(tmp_path / "store", CPU) as store:
        with pytest.raises(KeyboardInterrupt):
            Corner().ground(stopping, store=store)
        corner, other = Corner(), Corner(share=0.25)
        found = corner.ground(labels, store=store)
        assert corner.asked == ["sea"]
        whole = Corner().ground(labels)
        np.testing.assert_array_equal(found.boxes, whole.boxes)
        np.testing.assert_array_equal(found.scores, whole.scores)
        assert found.reasons == whole.reasons
        other.ground(labels, store=store)
        assert len(other.asked) == 5


def test_a_store_does_not_tell_a_gpu_from_its_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    def key_on(place: torch.device) -> str:
        monkeypatch.setattr(Corner, "place", place)
        return Grounder.key(Corner())  # Corner's own key does not depend on the device

    assert key_on(torch.device("cuda", 0)) == key_on(torch.device("cuda", 1)) != key_on(CPU)


def test_names() -> None:
    assert {*GROUNDERS} <= {*MEASURES}
    assert all(issubclass(MEASURES[name], Grounder) for name in GROUNDERS)
    assert build_grounder(f"{CORNER},share=0.25").share == 0.25  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="no grounder 'detectr': did you mean 'detector'"):
        build_grounder("detectr,model=a")
    with pytest.raises(InputError, match="'detector' needs model; write detector,model"):
        build_grounder("detector")
    with pytest.raises(InputError, match="places no boxes"):
        build_grounder("clipvg.measures:Hygiene")


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def table(labels: LabelTable, tmp_path: Path) -> Path:
    labels.select([0, 1, 2, 3]).write(tmp_path / "labels.parquet")
    return tmp_path / "labels.parquet"


def test_evaluate_and_predict_take_one(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--images", tmp_path, "--grounder", CORNER, "--quiet", "--json"]
    code, out, err = run(capsys, "evaluate", table, *words, "--out", tmp_path / "answers.jsonl")
    assert code == 0, err
    result = json.loads(out)
    assert (result["count"], result["acc_0.5"], result["unanswered"]) == (4, 0.25, 1)
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert rows[0]["box"] == pytest.approx([0, 0, 50, 30], abs=1e-3)
    assert (rows[2].get("box"), rows[2]["reason"]) == (None, "a question")

    pseudo = tmp_path / "pseudo.parquet"
    code, out, err = run(capsys, "predict", table, *words, "--out", pseudo)
    assert code == 0, err
    assert json.loads(out)["answered"] == 3
    with pytest.warns(UserWarning, match="1 of 4"):
        labels = read_labels(pseudo, images=tmp_path, on_error="drop")
    np.testing.assert_allclose(labels.boxes()[0], [0, 0, 50, 30], atol=1e-3)
    assert labels["score"].to_pylist() == [0.5] * 3

    code, out, err = run(
        capsys, "predict", tmp_path / "a.png", "dog", "what?", "--grounder", CORNER,
        "--out", tmp_path / "drawn.png", "--json",
    )  # fmt: skip
    assert code == 0, err
    result = json.loads(out)
    assert result["boxes"] == [[0, 0, 50, 30], None]
    assert result["scores"] == [0.5, None]
    assert result["reasons"] == [None, "a question"]
    code, out, err = run(
        capsys, "predict", tmp_path / "a.png", "dog", "what?", "--grounder", CORNER
    )
    assert "what?: a question" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "missing --checkpoint CKPT, or --grounder NAME"),
        (["--grounder", CORNER, "--checkpoint", "c"], "are two models"),
        (["--grounder", "corner"], "no grounder 'corner'"),
        (["--grounder", CORNER, "--heatmap", "h.png"], "--heatmap is for --checkpoint"),
        (
            ["--grounder", CORNER, "--batch_size", "4"],
            "--batch_size is for --checkpoint",
        ),
        (["--grounder", CORNER, "--precision", "bf16"], "--precision is for --checkpoint"),
        (["--grounder", "vlm,model=/nowhere/at/all"], "no such folder|pip install"),
    ],
)
def test_models_that_a_command_refuses(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    code, _, err = run(capsys, "predict", tmp_path / "a.png", "dog", *words)
    assert code == 2
    assert re.search(message, err), err


@pytest.mark.slow
def test_two_processes_answer_as_one(table: Path, tmp_path: Path) -> None:
    words = ["evaluate", table, "--images", tmp_path, "--grounder", CORNER, "--quiet", "--out"]
    assert main([str(word) for word in [*words, tmp_path / "one.jsonl"]]) == 0
    typed = [str(word) for word in [*words, tmp_path / "two.jsonl"]]
    codes, _, err = as_two("support.shards:score", typed)
    assert codes == [0, 0], err
    assert (tmp_path / "two.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


@pytest.mark.transformers
@pytest.mark.parametrize(
    ("kind", "model"), [("detector", "owlv2"), ("detector", "grounding-dino"), ("vlm", "llava")]
)
def test_one_spelling_everywhere(
    kind: str, model: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{kind},model={save(model, tmp_path / 'model')}"
    common: list[Any] = ["--images", tmp_path, "--device", "cpu", "--quiet", "--json"]
    code, out, err = run(capsys, "evaluate", table, "--grounder", text, *common)
    assert code == 0, err
    evaluated = json.loads(out)
    scored = tmp_path / "scored.parquet"
    code, out, err = run(capsys, "score", table, "--measure", text, *common, "--out", scored)
    assert code == 0, err
    values = read_labels(scored).table.column(f"reliability.{kind}").to_numpy()
    assert np.isnan(values).sum() == evaluated["unanswered"]
    assert np.nan_to_num(values).mean() == pytest.approx(evaluated["mean_iou"], abs=1e-5)
