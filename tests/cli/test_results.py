"""What commands print and write on success."""

import json
import warnings

import numpy as np
import pytest
from PIL import Image

from clipvg import model as models
from clipvg.labels import read_labels


def test_predict_prints_boxes_and_draws_them(clipvg, checkpoint, pictures, tmp_path):
    picture = tmp_path / "new" / "boxes.png"
    outcome = clipvg(
        "predict", pictures / "0.png", "red dog", "null", "<b>", "--checkpoint", checkpoint,
        "--out", picture, "--heatmap", tmp_path / "heat.jpg", "--json",
    )  # fmt: skip
    result = outcome.json
    assert outcome.code == 0
    assert result["expressions"] == ["red dog", "null", "<b>"]
    assert (result["width"], result["height"]) == (80, 60)
    boxes = np.array(result["boxes"])
    assert len(result["scores"]) == len(result["present"]) == len(boxes)
    assert result["scored_by"] == {"scores": "confidence", "present": "image_text"}
    assert boxes.shape == (3, 4)
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= 80).all()
    assert (boxes[:, 3] <= 60).all()
    with Image.open(picture) as drawn:
        assert drawn.size == (320, 240)
    assert result["heatmap"] == str(tmp_path / "heat.jpg")
    with Image.open(tmp_path / "heat.jpg") as drawn:
        assert drawn.width == 320
        assert drawn.height > 3 * 240


def test_predict_formats_agree(clipvg, checkpoint, pictures):
    words = ("predict", pictures / "1.png", "dog", "--checkpoint", checkpoint, "--json")
    corners = clipvg(*words).json["boxes"][0]
    sides = clipvg(*words, "--box-format", "xywh").json["boxes"][0]
    assert sides[2] == pytest.approx(corners[2] - corners[0], abs=2e-3)
    table = clipvg(*words[:-1]).out
    assert table.splitlines()[0].split() == [
        *("expression", "x1", "y1", "x2", "y2", "right", "present")
    ]


def test_evaluate_prints_one_object(clipvg, checkpoint, labels, pictures):
    words = ("evaluate", labels, "--images", pictures, "--checkpoint", checkpoint)
    result = clipvg(*words, "--json").json
    assert result["count"] == 16
    assert 0 <= result["acc_0.5"] <= 1
    assert 0 <= result["mean_iou"] <= 1
    assert (
        clipvg(*words, "--against", "truth", "--json").json["fingerprint"] != result["fingerprint"]
    )
    assert 0 <= result["acc_0.5:0.95"] <= result["acc_0.5"]
    assert sum(group["count"] for group in result["by_kind"].values()) == 16
    assert "Acc@0.5" in clipvg(*words).out


def test_evaluate_prints_a_row_for_a_paper(clipvg, checkpoint, labels, pictures, tmp_path):
    seen = tmp_path / "seen.jsonl"
    boxes = [[0, 0, 40, 40], [10, 10, 40, 40], [60, 40, 80, 60]]
    detections = [{"class": "thing", "box": box, "score": 0.9} for box in boxes]
    lines = [json.dumps({"image": f"{i}.png", "detections": detections}) for i in range(8)]
    seen.write_text("\n".join(lines))
    words = ("evaluate", labels, "--images", pictures, "--checkpoint", checkpoint)
    words = (*words, "--observations", seen)
    plain = clipvg(*words, "--table", "markdown", "--json").json
    header, rule, row, *groups = clipvg(*words, "--by", "length", "size").out.splitlines()
    assert plain["table"].splitlines() == [header, rule, row]
    parted = [[cell.strip() for cell in line.strip("|").split("|")] for line in groups]
    assert [cells[0] for cells in parted] == [
        f"{by}: {name}"
        for by in ("length", "size")
        for name, group in plain[f"by_{by}"].items()
        if group["count"]
    ]
    assert sum(int(cells[1]) for cells in parted) == 2 * plain["count"]
    assert all(cells[-1] == "–" for cells in parted)  # recall by rank is not measured by group
    names = [cell.strip() for cell in header.strip("|").split("|")]
    assert names[:4] == ["model", "labels", "Acc@0.25", "Acc@0.5"]
    assert names[-3:] == [f"R@{k}, merged box" for k in (1, 5, 10)]
    assert f"{100 * plain['acc_0.5']:.2f}" in row
    recall = plain["recall"]["merged_box"]
    assert recall["r_1"] <= recall["r_5"] == recall["r_10"] == plain["recall"]["upper_bound"]
    assert clipvg(*words, "--table", "latex").out.splitlines()[-1] == r"\end{tabular}"


def test_several_label_files_are_joined(clipvg, checkpoint, labels, pictures):
    words = ("--images", pictures, "--checkpoint", checkpoint, "--json")
    assert clipvg("evaluate", labels, labels, *words).json["count"] == 32


def test_score_adds_a_column_for_each_measurer_in_input_order(
    clipvg, checkpoint, labels, pictures, tmp_path
):
    out, plot = tmp_path / "scored.parquet", tmp_path / "scores.png"
    outcome = clipvg(
        "score", labels, "--images", pictures, "--measurer", checkpoint,
        "--measurer", f"second@template={checkpoint}", "--out", out, "--plot", plot, "--json",
    )  # fmt: skip
    result = outcome.json
    name = f"{checkpoint.parent.name}/model"
    assert result["measurers"] == [name, "second"]
    assert result["count"] == 16
    before, after = read_labels(labels), read_labels(out)
    assert after.expressions == before.expressions
    assert after.reliability_names == [name, "second"]
    np.testing.assert_array_equal(after.reliability(name), after.reliability("second"))
    assert plot.stat().st_size > 10_000


def test_unreadable_pictures_are_left_unscored_or_stop(
    clipvg, checkpoint, labels, pictures, tmp_path
):
    folder = tmp_path / "some"
    folder.mkdir()
    for number in range(7):
        (folder / f"{number}.png").write_bytes((pictures / f"{number}.png").read_bytes())
    out = tmp_path / "scored.parquet"
    words = ("score", labels, "--images", folder, "--measurer", f"m={checkpoint}", "--out", out)
    assert clipvg(*words, "--json").json["unscored_labels"] == 2
    assert np.isnan(read_labels(out).reliability("m")).sum() == 2
    assert "7.png" in clipvg(*words, "--unreadable_images", "raise", "--quiet").error


def test_info_describes_the_installation(clipvg):
    result = clipvg("info", "--json").json
    assert result["devices"][0]["device"] == "cpu"
    assert {"operator", "backend", "chosen", "reason"} <= set(result["backends"][0])
    text = clipvg("info").out
    assert "box_reliability" in text
    assert "CLIPVG_BUILD" in text or "no record" in text


def test_info_describes_a_checkpoint(clipvg, checkpoint):
    result = clipvg("info", checkpoint, "--json").json
    counts = result["parameters"]
    assert counts["share"] == pytest.approx(counts["trainable"] / counts["total"])
    assert result["config"]["backbone"] == "clipvg-tiny"
    assert "trained on" in clipvg("info", checkpoint).out


def test_export_as_a_folder_keeps_the_boxes(clipvg, checkpoint, pictures, tmp_path):
    folder = tmp_path / "copy"
    result = clipvg("export", checkpoint, "--format", "safetensors", "--out", folder, "--json").json
    assert result["bytes"] > 1000
    words = ("predict", pictures / "0.png", "dog", "--json", "--checkpoint")
    assert clipvg(*words, folder).json["boxes"] == clipvg(*words, checkpoint).json["boxes"]
    again = ("--format", "safetensors", "--out")
    assert "is the checkpoint itself" in clipvg("export", folder, *again, folder).error
    assert "holds other files" in clipvg("export", folder, *again, pictures).error


def test_two_drawings_are_two_files(clipvg, checkpoint, pictures, tmp_path):
    words = ("predict", pictures / "0.png", "dog", "--checkpoint", checkpoint)
    drawing = tmp_path / "a.png"
    line = clipvg(*words, "--out", drawing, "--heatmap", drawing).error
    assert "choose two files" in line
    assert not drawing.exists()


def test_an_address_of_an_image_is_not_fetched(clipvg, checkpoint):
    line = clipvg("predict", "https://host/a.jpg", "dog", "--checkpoint", checkpoint).error
    assert "addresses are not fetched; download the image" in line


def test_standard_output_holds_nothing_but_the_object(clipvg, monkeypatch, checkpoint):
    load = models.load

    def noisy(path):
        print("a stray line")
        warnings.warn("a\nwarning", stacklevel=1)
        return load(path)

    monkeypatch.setattr(models, "load", noisy)
    outcome = clipvg("info", checkpoint, "--json")
    assert json.loads(outcome.out)["checkpoint"] == str(checkpoint)
    assert outcome.out.count("\n") == 1
    assert "a stray line" in outcome.err
    assert "clipvg: warning: a warning" in outcome.err
