"""The report of a run directory, from files as the runs write them."""

import json

import numpy as np
import pytest
from PIL import Image

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.reliability import ScoreMatrix
from clipvg.report.cases import label_image
from clipvg.report.run import draw_report, gain_table, report_run

BOX = [10.0, 10.0, 30.0, 30.0]


def make_labels(folder, truth=True):
    """Return four labels on two pictures; the third is wrong, the fourth has no referent."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(2):
        Image.new("RGB", (64, 48), "gray").save(folder / f"{number}.png")
    nowhere = [np.nan] * 4
    columns = {"truth": [BOX, BOX, [40.0, 10.0, 60.0, 30.0], nowhere]} if truth else {}
    return LabelTable.from_columns(
        image=["0.png", "1.png", "0.png", "1.png"],
        expression=["dog", "<i>cat</i>", "left", "right"],
        box=[BOX] * 4,
        images=folder,
        **columns,
    )


def make_curriculum(folder, labels):
    """Write the files of a finished SSA run."""
    (folder / "scores").mkdir(parents=True)
    labels.write(folder / "labels.parquet")
    scores = np.array([[0.9, 0.6, 0.2, np.nan]], np.float32)
    ScoreMatrix(("measurer",), scores).write(folder / "scores" / "abc-measurer.parquet")
    training = {"name": "candidate", "seconds": 1.0}
    stages = [
        {"name": "measurer", "threshold": None, "score": 0.5, "kept": 4, "seconds": 2.0},
        training | {"threshold": 0.5, "score": 0.75, "kept": 2},
        training | {"threshold": 0.6, "score": 0.25, "kept": 1},
    ]
    search = {
        "best": 0.5,
        "score": 0.75,
        "curve": [[0.5, 0.75], [0.6, 0.25]],
        "batches": [[0.5, 0.6]],
        "skipped": {},
        "reason": "there is no lower threshold and higher threshold 0.6 is not better",
    }
    facts = {"count": 4, "images": 2, "sources": [""], "fingerprint": "f" * 64}
    root = str(labels.images)
    summary = {
        "method": "ssa",
        "command": "clipvg adapt 'a b'",
        "labels": facts | {"root": root},
        "measurers": [
            {"name": "measurer", "stage": "abc", "trained_on": [], "scores": "abc-measurer"}
        ],
        "validation": facts
        | {
            "root": root,
            "kind": "given",
            "weighted": False,
            "statement": "Decided on the validation labels given.",
        },
        "options": {"holdout": 0.1, "seed": 0},
        "no_curriculum": {"stage": "abc", "score": 0.5, "kept": 4},
        "measurer": "measurer",
        "threshold": 0.5,
        "search": search,
        "kept": 2,
        "score": 0.75,
        "gain": 0.25,
        "winner": "def",
        "num_trainings": 3,
        "reliability": {},
        "unscored": {},
        "stages": [{"stage": str(number), **stage} for number, stage in enumerate(stages)],
    }
    labels.select([0, 1]).with_column("adapt.row", [0, 1]).write(folder / "selected.parquet")
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "config.yaml").write_text("method: ssa\n")


def test_curriculum(tmp_path):
    make_curriculum(tmp_path / "run", make_labels(tmp_path / "pictures"))

    report = report_run(tmp_path / "run")

    assert "r ≥ 0.5 give 75.0 % instead of 50.0 % (+25.0 points)" in report.lead
    assert dict(report.facts)["labels kept"] == "2 of 4"
    assert report.tables[0].rows[1] == ("r ≥ 0.5 (chosen)", "2", "75.0 %", "+25.0")
    assert report.tables[0].rows[2][-1] == "-25.0"
    assert len(report.figures) == 3
    assert "Average precision: all: measurer 100.0 %" in report.figures[2].alt
    assert "split by correct and wrong" in report.figures[0].alt
    said = "Reliability of each label: IoU of the measurer's box with the label's box. A label is"
    assert report.figures[0].caption.startswith(said)
    assert "75.0 % at h = 0.5" in report.figures[1].alt
    assert [picture.caption for picture in report.gallery] == ["dog", "<i>cat</i>", "left"]
    assert report.gallery[0].detail.startswith("correct label kept (r = 0.90)")
    assert report.gallery[2].detail.startswith("wrong label left out (r = 0.20)")
    assert report.gallery_roles == ["predicted", "before", "true", "pseudo"]
    assert {picture.group for picture in report.gallery} == {"by chance"}
    assert "AUROC" in report.terms
    assert report.timings["all labels"] == 2.0
    assert report.config == {"method": "ssa"}
    assert report.command == "clipvg adapt 'a b'"


@pytest.mark.usefixtures("undrawn")
def test_scores_that_came_with_the_labels_are_not_called_iou(tmp_path):
    make_curriculum(tmp_path, make_labels(tmp_path / "pictures"))
    summary = json.loads((tmp_path / "summary.json").read_text())
    summary["measurers"][0]["stage"] = None
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    said = "Reliability of each label: the score of measurer."
    assert report_run(tmp_path).figures[0].caption.startswith(said)


@pytest.mark.usefixtures("undrawn")
def test_key_figures_are_those_of_the_resulting_variant(tmp_path):
    make_curriculum(tmp_path, make_labels(tmp_path / "pictures"))
    summary = json.loads((tmp_path / "summary.json").read_text())
    summary |= {"kept": 3, "score": 0.875}  # of a later variant than the search's
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    facts = dict(report_run(tmp_path).facts)
    assert (facts["gain (points)"], facts["labels kept"]) == ("+37.5", "3 of 4")


@pytest.mark.usefixtures("undrawn")
def test_without_truth_nothing_is_called_true_or_correct(tmp_path):
    make_curriculum(tmp_path / "run", make_labels(tmp_path / "pictures", truth=False))
    page = draw_report(tmp_path / "run").read_text()
    assert "true box" not in page
    assert "correct label" not in page


@pytest.mark.usefixtures("undrawn")
def test_pictures_and_labels_that_are_gone_are_left_out(tmp_path):
    folder = tmp_path / "run"
    make_curriculum(folder, make_labels(tmp_path / "pictures"))
    for picture in (tmp_path / "pictures").glob("*.png"):
        picture.unlink()
    assert report_run(folder).gallery == []
    (folder / "labels.parquet").unlink()
    assert len(report_run(folder).figures) == 2
    (folder / "scores" / "abc-measurer.parquet").unlink()
    assert len(report_run(folder).figures) == 1


def test_demo_shows_its_table_and_the_figures_of_its_first_run(tmp_path):
    folder = tmp_path / "demo"
    make_curriculum(folder / "seed0", make_labels(tmp_path / "pictures"))
    summary = {
        "acc_0.5": {"all_labels": [0.5, 0.6], "ssa": [0.7, 0.58], "clean_labels": [0.8, 0.9]},
        "auroc": [0.9, 0.91],
        "threshold": [0.5, 0.6],
        "kept": [10, 20],
        "seconds": 12.5,
        "command": "clipvg demo",
    }
    (folder / "summary.json").write_text(json.dumps(summary))

    page = draw_report(folder).read_text()

    assert "from 55.0\xa0% to 64.0\xa0% (+9.0 points)" in page
    assert "1 of 2" in page
    assert "<h2>Images</h2>" in page
    assert "before → after. Of the run seed0." in page
    assert "12.5 s" in page
    assert "clipvg demo</code>" in page


def test_training(tmp_path):
    rows = [{"epoch": 1, "loss": 2.0, "val_acc_0.5": 0.25}, {"epoch": 2, "loss": 1.0}]
    text = "\n".join(json.dumps(row) for row in rows) + '\n{"epoch": 3, "lo'
    (tmp_path / "metrics.jsonl").write_text(text)
    facts = dict(report_run(tmp_path).facts)
    assert facts == {"epochs": "2", "last loss": "1.0000", "best validation Acc@0.5": "25.0 %"}


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="not the directory of a run"):
        report_run(tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(InputError, match=r"summary\.json is damaged"):
        report_run(tmp_path)


def test_a_damaged_configuration_is_named_and_a_damaged_line_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'\xff\xfe\n{"epoch": 1, "loss": 2.0}\n')
    assert dict(report_run(tmp_path).facts)["epochs"] == "1"
    (tmp_path / "config.yaml").write_text("a: [1")
    with pytest.raises(InputError, match=r"config\.yaml: damaged, or not the options of a run"):
        report_run(tmp_path)


def test_a_summary_that_lacks_something_is_named(tmp_path):
    (tmp_path / "summary.json").write_text('{"method": "ssa"}')
    with pytest.raises(InputError, match=r"summary\.json: damaged, or not the summary of a run"):
        report_run(tmp_path)


def test_gains_have_a_sign_and_the_first_row_is_the_baseline():
    table = gain_table({"all_labels": [0.5], "ssa": [0.4], "clean_labels": [0.6]})
    assert [row[1:] for row in table.rows] == [
        ["50.0 %", ""], ["40.0 %", "-10.0"], ["60.0 %", "+10.0"]
    ]  # fmt: skip


def test_label_picture_says_how_well_the_prediction_fits(tmp_path):
    labels = make_labels(tmp_path)
    picture = label_image(labels, 2, predicted=np.array([40.0, 10.0, 60.0, 30.0]))
    assert picture.detail == "IoU with the true box 100.0 %, with the label 0.0 %"
    picture = label_image(labels, 3, predicted=np.array(BOX))
    assert picture.detail == "nothing in the image fits the expression\nIoU with the label 100.0 %"
