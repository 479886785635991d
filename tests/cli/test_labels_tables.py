"""`clipvg labels convert` and `merge`, and that no command overwrites what it reads."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest

from clipvg.labels import ReadOptions, read_labels


@pytest.fixture
def scored(labels, tmp_path):
    """The sixteen labels with scores, in two splits."""
    table = read_labels(labels)
    table = table.with_column("reliability.template", [row / 16 for row in range(16)])
    table.with_column("split", ["train"] * 12 + ["val"] * 4).write(tmp_path / "scored.parquet")
    return tmp_path / "scored.parquet"


def test_convert_keeps_chosen_rows_in_order(clipvg, scored, tmp_path):
    out = tmp_path / "reliable.jsonl"
    result = clipvg(
        "labels", "convert", scored, out, "--keep", "template>=0.5", "source==template",
        "--sort", "template", "--descending", "--split", "train", "--json",
    ).json  # fmt: skip
    assert (result["labels"], result["read"], result["splits"]) == (4, 12, {"train": 4})
    assert read_labels(out)["template"].to_pylist() == [11 / 16, 10 / 16, 9 / 16, 8 / 16]
    everything = clipvg("labels", "convert", scored, tmp_path / "all.csv")
    assert "16 labels of 8 images\nsplits: train 12, val 4\n" in everything.out
    assert read_labels(tmp_path / "all.csv").splits == {"train": 12, "val": 4}


def test_convert_joins_files_of_several_formats(clipvg, scored, tmp_path):
    clipvg("labels", "convert", scored, tmp_path / "one.csv", "--split", "val")
    clipvg("labels", "convert", scored, tmp_path / "one.csv", tmp_path / "both.parquet")
    assert len(read_labels(tmp_path / "both.parquet")) == 20


def test_convert_reads_columns_of_other_names(clipvg, tmp_path):
    file = tmp_path / "theirs.csv"
    file.write_text("file_name,caption,x1,y1,x2,y2\na.jpg,dog,1,2,3,4\n")
    words = ["labels", "convert", file, tmp_path / "out.jsonl"]
    assert "clipvg labels convert --columns image=file_name" in clipvg(*words).error
    named = ["--columns", "image=file_name", "expression=caption"]
    assert clipvg(*words, *named).code == 0
    (row,) = read_labels(tmp_path / "out.jsonl")
    assert (row["image"], row["expression"], row["box"]) == ("a.jpg", "dog", [1, 2, 3, 4])
    assert "no column 'filename'" in clipvg(*words, "--columns", "image=filename").error
    assert "expected NAME=COLUMN" in clipvg(*words, "--columns", "image").error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keep", "template>=2"], "none of the 16 labels fulfils template>=2"),
        (["--keep", "template=>2"], "is not a condition"),
        (["--sort", "tempate"], "no column 'tempate'"),
        (["--format", "parquett"], "did you mean 'parquet'?"),
    ],
)
def test_convert_says_what_is_wrong(clipvg, scored, tmp_path, words, message):
    out = tmp_path / "out.jsonl"
    assert message in clipvg("labels", "convert", scored, out, *words).error
    assert not out.exists()


def test_merge_keeps_where_labels_come_from(clipvg, scored, tmp_path):
    half = tmp_path / "half.csv"
    clipvg("labels", "convert", scored, half, "--keep", "template<0.5")
    out = tmp_path / "all.parquet"
    result = clipvg("labels", "merge", scored, half, "--out", out, "--json").json
    assert (result["labels"], result["duplicates"]) == (16, 8)
    assert result["read"] == {str(scored): 16, str(half): 8}
    files = read_labels(out)["file"].to_pylist()
    assert files == [f"{scored}, {half}"] * 8 + [str(scored)] * 8


def test_no_command_writes_over_what_it_reads(clipvg, labels, pictures, checkpoint, tmp_path):
    file, image = tmp_path / "labels.parquet", tmp_path / "0.png"
    shutil.copy(labels, file)
    shutil.copy(pictures / "0.png", image)
    (tmp_path / "link.parquet").symlink_to(file)
    images, before = ["--images", pictures], file.read_bytes()
    score = ["score", file, *images, "--measurer", f"a={checkpoint}"]
    for words in (
        ["labels", "convert", tmp_path / "label?.parquet", file],
        ["labels", "merge", tmp_path, "--out", file],
        [*score, "--out", file],
        [*score, "--out", tmp_path / "link.parquet"],
        ["labels", "convert", file, file],
        ["labels", "merge", labels, file, "--out", tmp_path / ".." / tmp_path.name / file.name],
        ["labels", "show", file, *images, "--out", file],
        ["predict", image, "dog", "--checkpoint", checkpoint, "--out", image],
        ["generate", "--observations", file, "--out", file],
        ["train", file, *images, "--out", tmp_path],
        ["adapt", labels, "--validation", file, *images, "--out", tmp_path],
    ):
        assert "which is read; choose another" in clipvg(*words).error
        assert file.read_bytes() == before


def test_a_layout_is_for_the_pth_file_read_or_written(clipvg, scored, tmp_path):
    line = clipvg("labels", "convert", scored, tmp_path / "o.csv", "--layout", "coco").error
    assert "--layout coco: only .pth files have a layout" in line
    out = tmp_path / "mine.pth"
    assert clipvg("labels", "convert", scored, out, "--layout", "unc").code == 0
    assert len(read_labels(out, options=ReadOptions(layout="unc"))) == 16


def test_options_that_contradict_each_other_are_refused(clipvg, scored, tmp_path):
    words = ["labels", "convert", scored]
    line = clipvg(*words, tmp_path / "out.csv", "--format", "coco").error
    assert "out.csv: format 'coco' is written as .json; change the ending" in line
    assert (
        "--descending without --sort" in clipvg(*words, tmp_path / "out.csv", "--descending").error
    )
    assert not (tmp_path / "out.csv").exists()


def test_pixels_are_not_taken_for_shares_of_the_image(clipvg, scored, pictures):
    words = ["--images", pictures, "--checkpoint", "none", "--split", "val", "--box_unit", "unit"]
    line = clipvg("evaluate", scored, *words).error
    assert "they are not from 0 to 1, as --box_unit unit says; --box_unit pixel is" in line


def test_a_page_of_labels_is_no_pdf(clipvg, scored, pictures, tmp_path):
    words = ["--images", pictures, "--out", tmp_path / "page.pdf"]
    assert (
        "written as .html, .htm; change the ending"
        in clipvg("labels", "show", scored, *words).error
    )


def test_an_unknown_option_of_no_command(clipvg):
    assert "did you mean --version?" in clipvg("--verison").error


def test_a_warning_speaks_of_options_as_they_are_typed(clipvg, tmp_path):
    rows = [f'a.jpg,dog {row},"[50, 40, 75, 55]",80,60' for row in range(4)]
    (tmp_path / "in.csv").write_text("\n".join(["image,expression,box,width,height", *rows]))
    words = [tmp_path / "in.csv", tmp_path / "out.csv", "--box_format", "xywh"]
    assert "Read with --box_format xyxy." in clipvg("labels", "convert", *words).err


def test_what_is_read_beside_a_file_is_not_written_over(clipvg, tmp_path):
    ref = {"ann_id": 1, "ref_id": 2, "split": "val", "sentences": [{"sent": "dog", "sent_id": 1}]}
    instances = tmp_path / "instances.json"
    instances.write_text(json.dumps({
        "images": [{"id": 7, "file_name": "a.jpg"}], "categories": [],
        "annotations": [{"id": 1, "image_id": 7, "bbox": [1, 2, 3, 4]}],
    }))  # fmt: skip
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps([ref]))
    (tmp_path / "grefs(unc).json").write_text(json.dumps([ref]))
    (tmp_path / "other.csv").write_text("image,expression,x1,y1,x2,y2\na.jpg,dog,1,2,30,40\n")
    for name in ("refs(unc).p", "grefs(unc).json"):
        line = clipvg("labels", "convert", tmp_path / name, instances).error
        assert "instances.json, which is read; choose another" in line
        line = clipvg("labels", "merge", tmp_path / name, "--out", instances).error
        assert "which is read" in line
    assert clipvg("labels", "convert", tmp_path / "other.csv", instances).code == 0
