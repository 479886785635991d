"""The report of `clipvg adapt` with three sources, on tiny scenes with a tiny untrained model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from clipvg.cli import main
from clipvg.data.scenes import NoiseConfig, make_labels
from clipvg.labels import LabelTable
from clipvg.report.run import report_run
from clipvg.report.selection import (
    Curve,
    PrecisionRecall,
    performance_figure,
    precision_recall_figure,
)

SOURCES = ("template", "relation", "caption")
MODEL = """
--backbone clipvg-tiny --model.pretrained null --model.width 16 --model.layers 1 --model.heads 2
--model.feedforward 16 --training.steps 2 --training.batch_size 16 --training.augment false
--training.quality false --search.start 0.1 --search.step 0.4 --search.h0 0.1 --quiet --json
--allow_outside_root
""".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without validation labels, so that held-out labels decide."""
    out = tmp_path_factory.mktemp("three")
    noise = NoiseConfig(rate=0.3)
    tables = [
        make_labels(out / source, 10, source=source, noise=noise, seed=seed)
        for seed, source in enumerate(SOURCES)
    ]
    LabelTable.concat(tables).write(out / "labels.parquet")
    words = ["adapt", str(out / "labels.parquet"), "--images", "/", "--out", str(out / "run")]
    assert main([*words, *MODEL]) == 0
    return out / "run"


@pytest.mark.usefixtures("undrawn")  # from here on; the run has drawn its own page
def test_the_page_shows_every_decision(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["method"] == "msa"
    assert summary["order"][0] == "template"
    page = (folder / "report.html").read_text()
    assert "Grid of 3 × 3 reliability histograms" in page
    assert "Precision-recall curves of the kept labels" in page
    assert "one panel a source" in page
    assert "agreement of other" in page or "measurers of other sources agree" in page
    assert len(re.findall("<img", page)) > 3 + 4
    report = report_run(folder)
    said = "by each measurer (rows): IoU of the measurer's box with the label's box. Framed"
    assert said in report.figures[0].caption
    decisions, choices, models = report.tables
    assert [row[0][3:] for row in decisions.rows] == summary["order"]
    assert [row[3] for row in decisions.rows] == [f"{s['threshold']:g}" for s in summary["steps"]]
    assert all(sum("★" in cell for cell in row) == 1 for row in choices.rows)
    assert models.rows[-1][1] == f"{summary['kept']:,}"
    assert dict(report.facts)["labels kept"].endswith(f"of {summary['labels']['count']:,}")


@pytest.mark.usefixtures("undrawn")
def test_what_is_gone_is_left_out(folder: Path) -> None:
    scores = sorted((folder / "scores").iterdir())[0]
    content = scores.read_bytes()
    for path in (folder / "scores").glob("*.parquet"):
        if path.name.endswith("template.parquet"):
            content, scores = path.read_bytes(), path
    scores.unlink()
    try:
        assert len(report_run(folder).figures) == 1
    finally:
        scores.write_bytes(content)
    assert len(report_run(folder).figures) == 3


def test_precision_and_recall_by_hand() -> None:
    reliability = np.float32([0.9, 0.8, 0.8, 0.3, np.nan])
    correct = np.array([True, True, False, True, True])
    curve = PrecisionRecall.of(reliability, correct)
    assert curve is not None
    np.testing.assert_allclose(curve.recall, [1 / 4, 2 / 4, 3 / 4])
    np.testing.assert_allclose(curve.precision, [1, 2 / 3, 3 / 4])
    assert curve.average == pytest.approx(1 / 4 * (1 + 2 / 3 + 3 / 4))
    assert curve.at(0.5) == pytest.approx((2 / 4, 2 / 3))
    assert curve.at(0.95) is None
    assert PrecisionRecall.of(reliability[3:], np.array([False, True])) is None


def test_a_panel_a_source() -> None:
    curves = [Curve(name, [0.4, 0.5], [0.1, 0.2 * i], 0.5) for i, name in enumerate("abcd")]
    figure = performance_figure(curves, metric="accuracy", baseline="before")
    assert [axes.get_title() for axes in figure.axes] == [f"{n}: h = 0.5" for n in "abcd"]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    line = PrecisionRecall.of(np.float32([0.9, 0.1]), np.array([True, False]))
    assert line is not None
    drawn = precision_recall_figure(
        {"a": {"a": line, "b": line}}, chosen={"a": ("b", 0.5)}, specific={"a": ["a"]}
    )
    styles = [item.get_linestyle() for item in drawn.axes[0].lines]
    assert styles[:2] == ["-", "--"]


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_scored_labels_and_a_finished_run_are_starts(folder: Path, tmp_path: Path) -> None:
    labels = folder.parent / "labels.parquet"
    run = ["adapt", str(labels), "--images", "/", "--validation", str(labels)]
    scored = tmp_path / "scored.parquet"
    stages = json.loads((folder / "summary.json").read_text())["measurers"]
    measurers = [f"m{i}={folder}/stages/{m['stage']}/model" for i, m in enumerate(stages[:2])]
    words = ["score", str(labels), "--images", "/", "--out", str(scored), "--quiet"]
    words.append("--allow_outside_root")
    assert main([*words, "--measurer", measurers[0], "--measurer", measurers[1]]) == 0
    run[1] = str(scored)
    out = tmp_path / "run"
    assert main([*run, "--scored_by", "m0", "m1", "--out", str(out), *MODEL]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert [m["name"] for m in summary["measurers"]] == ["m0", "m1"]
    assert "Grid of 2 × 3" in (out / "report.html").read_text()

    new = make_labels(tmp_path / "new", 10, source="template", seed=7)
    new.with_images("/").with_column(
        "image", [str(new.image_path(name)) for name in new.image_names]
    ).with_column("source", ["vlm"] * len(new)).write(tmp_path / "new.parquet")
    run[1], out = str(tmp_path / "new.parquet"), tmp_path / "next"
    run = [word for word in run if word not in ("--validation", str(labels))]
    assert main([*run, "--continue_from", str(folder), "--out", str(out), *MODEL]) == 0
    page = (out / "report.html").read_text()
    assert "(earlier run)" in page
    assert "Grid of 4 × 4" in page
