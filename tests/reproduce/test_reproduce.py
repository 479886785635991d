"""Tables from small data: computed, kept, and set beside the published numbers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny import make_model

import clipvg.reproduce.run as reproducing
from clipvg.api import RunOptions
from clipvg.errors import InputError
from clipvg.measures.specs import MeasureSpec, build_measure
from clipvg.reproduce.ref_l4 import reproduce_ref_l4
from clipvg.reproduce.run import ReproduceOptions, reproduce
from clipvg.reproduce.table import draw_aurocs, draw_table, other_counts

QUIET = RunOptions(progress=False, report=False)
TINY = {
    "backbone": "clipvg-tiny",
    "model": {"pretrained": None, "width": 16, "layers": 1, "heads": 2, "feedforward": 16},
    "training": {"steps": 1, "batch_size": 4, "accumulate": 1, "augment": False, "num_workers": 0},
}


def test_a_checkpoint_beside_the_papers_numbers(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ReproduceOptions(rows=["ssa-checkpoint"], run=QUIET)
    first = reproduce("refcoco", data=root, out=tmp_path / "out", options=options)
    (row,) = first["rows"]
    assert list(row["splits"]) == ["val", "testA", "testB"]
    assert row["splits"]["val"]["expected"] == 10_834
    assert first["missing"] == {}
    lines = draw_table(first).splitlines()
    assert lines[0] == "| method | val | testA | testB | setting | numbers from |"
    ours = next(line for line in lines if "ours" in line)
    assert f"{100 * row['splits']['val']['acc_0.5']:.2f}*" in ours
    assert any(line.startswith("| Pseudo-Q | 56.02 | 58.25 | 54.13 |") for line in lines)
    assert not any("TransVG" in line for line in lines)  # it belongs to another setting
    assert any("val: " in note and "published are 10,834" in note for note in other_counts(first))
    # finished splits are read, not evaluated again; a damaged one is
    monkeypatch.setattr(reproducing, "evaluate", lambda *_, **__: pytest.fail("evaluated again"))
    assert reproduce("refcoco", data=root, out=tmp_path / "out", options=options) == first
    (tmp_path / "out" / "unc" / "ssa-checkpoint" / "val.json").write_text("{")
    with pytest.raises(pytest.fail.Exception, match="evaluated again"):
        reproduce("refcoco", data=root, out=tmp_path / "out", options=options)


def test_a_model_of_ones_own_stands_beside_all(root: Path, tmp_path: Path) -> None:
    make_model(seed=1).save_pretrained(tmp_path / "mine")
    options = ReproduceOptions(checkpoints={"mine": tmp_path / "mine"}, run=QUIET)
    result = reproduce("refcoco", data=root, out=tmp_path / "out", options=options)
    assert [row["row"] for row in result["rows"]] == ["mine"]
    table = draw_table(result)
    assert "TransVG" in table
    assert table.splitlines()[-1].startswith("| mine |")


def test_differences_stand_where_the_split_is_the_published_one() -> None:
    split = {"acc_0.5": 0.6, "count": 10_834, "expected": 10_834, "file": "unc_val.pth"}
    result = {"benchmark": "refcoco", "rows": [{"row": "msa", "splits": {"val": split}}]}
    ours = next(line for line in draw_table(result).splitlines() if "(MSA), ours" in line)
    assert ours.startswith("| CLIP-VG (MSA), ours | 60.00 (-4.89) | – | – |")
    assert other_counts(result) == []


@pytest.mark.parametrize("row", ["no-ssa", pytest.param("msa", marks=pytest.mark.slow)])
def test_rows_are_trained_and_go_on(
    root: Path, tmp_path: Path, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ReproduceOptions(rows=[row], recipe=TINY, run=QUIET)
    first = reproduce("refcoco", data=root, out=tmp_path / "out", options=options)
    assert first["rows"][0]["splits"].keys() == {"val", "testA", "testB"}
    summary = json.loads((tmp_path / "out" / "unc" / row / "run" / "summary.json").read_text())
    assert summary["method"] == ("msa" if row == "msa" else "train")
    monkeypatch.setattr(reproducing, "evaluate", lambda *_, **__: pytest.fail("evaluated again"))
    assert reproduce("refcoco", data=root, out=tmp_path / "out", options=options) == first


def test_unknown_names_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no benchmark 'refcoc'"):
        reproduce("refcoc", data=root, out=tmp_path)
    with pytest.raises(InputError, match="no row 'sssa'"):
        reproduce("refcoco", data=root, out=tmp_path, options=ReproduceOptions(rows=["sssa"]))


def test_images_are_looked_for_before_the_work(root: Path, tmp_path: Path) -> None:
    (root / "image_data").unlink()
    (root / "train2014").mkdir()
    options = ReproduceOptions(rows=["ssa-checkpoint"], run=QUIET)
    with pytest.raises(InputError, match=r"unc_val\.pth: \d+ of its \d+ images are not in"):
        reproduce("refcoco", data=root, out=tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_ssa_has_trained_is_not_trained_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ReproduceOptions(rows=["no-ssa"], recipe=TINY, run=QUIET)
    alone = reproduce("refcoco", data=root, out=tmp_path / "alone", options=options)
    monkeypatch.setattr(reproducing, "train", lambda *_, **__: pytest.fail("trained again"))
    both = dataclasses.replace(options, rows=["ssa", "no-ssa"])
    ssa, no_ssa = reproduce("refcoco", data=root, out=tmp_path / "both", options=both)["rows"]
    assert no_ssa == alone["rows"][0]
    assert ssa["splits"]["val"] != no_ssa["splits"]["val"]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"trainings": {}}, "unknown sections trainings"),
        ({"training": {"step": 3}}, "no option 'step': did you mean 'steps'"),
        ({"training": [1]}, "section training holds no options"),
    ],
)
def test_recipes_that_say_nothing(root: Path, tmp_path: Path, recipe: dict, expected: str) -> None:
    options = ReproduceOptions(rows=["ssa-checkpoint", "no-ssa"], recipe=recipe, run=QUIET)
    with pytest.raises(InputError, match=expected):
        reproduce("refcoco", data=root, out=tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()  # refused before anything is evaluated


def test_what_cannot_be_used_is_refused_before_the_work(root: Path, tmp_path: Path) -> None:
    for options, expected in (
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"checkpoints": {"mine": tmp_path}}, r"model\.safetensors: no such file"),
    ):
        given = ReproduceOptions(run=QUIET, **options)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=expected):
            reproduce("refcoco", data=root, out=tmp_path / "out", options=given)
        assert not (tmp_path / "out").exists()


def test_measures_against_reviewed_labels(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = root / "refcocos_annotation_reviewed"
    folder.mkdir()
    names = sorted(path.name for path in (root / "image_data").rglob("COCO_*.jpg"))[:8]
    rng = np.random.default_rng(0)
    annotations = [
        {
            "id": i,
            "file_name": name,
            "bbox": [*rng.integers(0, 20, 2).tolist(), 20, 20],
            "caption": "red thing" if i % 2 else "a",
            "caption_quality": i % 2,
        }
        for i, name in enumerate(names)
    ]
    for name in ("refcoco+", "refcoco"):
        (folder / f"{name}_val_reviewed.json").write_text(json.dumps({"annotations": annotations}))
    answers = tmp_path / "answers.csv"
    answers.write_text("row,answer\n" + "".join(f"{row},yes\n" for row in range(8)))
    made: list[str] = []

    def building(spec: MeasureSpec, models: Any) -> Any:
        made.append(spec.name)
        return build_measure(spec, models)

    monkeypatch.setattr("clipvg.reproduce.ref_l4.build_measure", building)
    checkpoint = root / "checkpoints" / "unsup_single_source" / "unc"
    given = {"data": root, "out": tmp_path / "out", "checkpoints": {"tiny": checkpoint}}
    given |= {"measures": ["hygiene", "likelihood", f"verifier,path={answers}"], "run": QUIET}
    first = reproduce_ref_l4(**given)
    assert [row["row"] for row in first["rows"]] == ["tiny", *made]
    assert made == ["hygiene", "likelihood", "verifier"]  # each once for both files
    for row in first["rows"]:
        found = row["splits"]["refcoco_val_reviewed"]
        assert (found["count"], found["wrong"]) == (8, 4)
        assert 0 <= found["auroc"] <= 1
    silent = reproduce_ref_l4(**{**given, "measures": ["unique"]})  # without observations
    assert "says nothing of these labels" in silent["skipped"]["unique"]
    header, _, *rows = draw_aurocs(first).splitlines()
    assert "refcoco_val_reviewed (4 of 8 wrong)" in header
    assert len(rows) == 4
    # a measure fused from other scores is another one, even if their names are the same
    fused = [
        reproduce_ref_l4(**{**given, "measures": [f"one={method}", "weighted_mean"]})
        for method in ("hygiene", "likelihood")
    ]
    assert fused[0]["rows"][2] != fused[1]["rows"][2]
    # measured once, and again if a file that a measure reads has changed
    monkeypatch.setattr("clipvg.reproduce.ref_l4.measure", lambda *_: pytest.fail("again"))
    assert reproduce_ref_l4(**given) == first
    answers.write_text("row,answer\n0,no\n")
    with pytest.raises(pytest.fail.Exception, match="again"):
        reproduce_ref_l4(**given)


def test_annotations_that_nobody_reviewed(root: Path, tmp_path: Path) -> None:
    folder = root / "refcocos_annotation_reviewed"
    folder.mkdir()
    name = next((root / "image_data").rglob("COCO_*.jpg")).name
    label = {"image": name, "expression": "a", "box": [0, 0, 9, 9]}
    (folder / "refcoco_val.json").write_text(json.dumps([label]))
    with pytest.raises(InputError, match=r"refcoco_val\.json: .*no caption_quality"):
        reproduce_ref_l4(data=root, out=tmp_path / "out", checkpoints={}, run=QUIET)


@pytest.mark.parametrize("benchmark", ["referit", "flickr"])
def test_other_data_sets_have_their_own_layout(
    data_dir: Path, root: Path, tmp_path: Path, benchmark: str
) -> None:
    file = root / "full_sup_data" / benchmark / f"{benchmark}_test.pth"
    file.parent.mkdir()
    file.symlink_to(data_dir / "official_mini" / benchmark / f"{benchmark}_train_pseudo.pth")
    make_model().save_pretrained(root / "checkpoints" / "full_sup_data" / benchmark)
    options = ReproduceOptions(rows=["supervised-checkpoint", "msa"], run=QUIET)
    result = reproduce(benchmark, data=root, out=tmp_path / "out", options=options)
    (row,) = result["rows"]
    assert row["splits"]["test"]["count"] > 0
    assert {each["what"].partition(" ")[0] for each in result["missing"]["msa"]} == {
        "pseudo-labels",
        "val",
    }
    assert draw_table(result).splitlines()[0] == "| method | test | setting | numbers from |"
