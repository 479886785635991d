"""``clipvg score --refine`` writes the files of the reference's scorer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from clipvg.labels import read_labels

IMAGES = {"unc": "other/images/mscoco/images/train2014", "flickr": "Flickr30k/flickr30k-images"}


@pytest.mark.parametrize("layout", IMAGES)
def test_files_are_those_of_the_reference(clipvg, data_dir: Path, layout: str, tmp_path: Path):
    mini = data_dir / "official_mini"
    folder = tmp_path / "refined"
    words = ["score", mini / layout / f"{layout}_train_pseudo.pth", "--out",
             tmp_path / "scored.parquet", "--images", mini / "images" / IMAGES[layout],
             "--measurer", mini / "best_checkpoint.pth", "--refine", folder]  # fmt: skip
    result = clipvg(*words, "--json").json
    assert sorted(result["refined"]) == sorted(path.name for path in folder.iterdir())
    found = {
        path.name.removeprefix(f"{layout}_train_pseudo_").removesuffix(".pth"): torch.load(path)
        for path in folder.iterdir()
    }
    assert len(found) == 14
    for path in (mini / "official_outputs").glob(f"{layout}_*.pth"):  # as the reference wrote them
        golden = torch.load(path)
        ours = torch.load(folder / path.name)
        bare = [r[:-1] if isinstance(r[-1], float) else r for r in golden]
        assert [r[: len(b)] for r, b in zip(ours, bare, strict=True)] == bare
        assert [type(r) for r in ours] == [type(r) for r in golden]
        if bare != golden:
            assert [r[-1] for r in ours] == pytest.approx([r[-1] for r in golden], abs=1e-4)
    stored = json.loads((mini / "reliability.json").read_text())["sets"][layout]
    for rule, count in stored["kept_at_threshold"].items():
        assert len(found[f"refine_{rule.split()[1].replace('.', '_')}"]) == count, rule
    ious = [label["iou"] for label in stored["labels"]]
    assert len(found["bad_label_0_0"]) == stored["bad_label_iou_eq_0"]
    assert len(found["bad_label_0_4"]) == stored["bad_label_iou_lt_0.4"]
    for record, label in zip(found["iou_result"], stored["labels"], strict=True):
        _, segment, box, phrase, target, predicted, reliability = record
        assert (segment, phrase) == ("useless placeholder", label["phrase_seen"])
        assert box == label["box_in_file"]
        torch.testing.assert_close(target, torch.tensor(label["target_cxcywh"]), atol=1e-5, rtol=0)
        torch.testing.assert_close(predicted, torch.tensor(label["pred_cxcywh"]), atol=1e-5, rtol=0)
        assert reliability == pytest.approx(label["iou"], abs=1e-4)
    again = read_labels(folder / f"{layout}_train_pseudo_iou_result.pth")
    assert again.reliability("published").tolist() == pytest.approx(ious, abs=1e-4)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert clipvg(*words, "--json").json["scores"]["found"] == len(ious)  # from the store
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_cannot_be_refined_is_said_before_anything_runs(
    clipvg, data_dir: Path, tmp_path: Path
):
    mini = data_dir / "official_mini"
    file = mini / "unc" / "unc_train_pseudo.pth"
    words = ["score", file, "--images", mini, "--out", tmp_path / "s.parquet", "--refine", tmp_path]
    one = ["--measurer", f"a={mini / 'best_checkpoint.pth'}"]
    assert "one measurer, and 2 are named" in clipvg(*words, *one, "--measurer", "b=x").error
    assert "one measurer, and 0 are named" in clipvg(*words, "--measure", "box_area").error
    words[1] = tmp_path / "labels.parquet"
    read_labels(file).write(words[1])
    assert "choose --layout from unc, unc+" in clipvg(*words, *one).error
