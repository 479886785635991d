"""Answers kept on disk: `predict TABLE` killed or run by two processes, and `evaluate --out`."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.processes import as_two, killed

from clipvg.labels import read_labels

CALL = "support.shards:score"  # four images per shard


def ask(folder: Path, images: int) -> Path:
    """Write two questions about each of some small images, one of them broken and one missing."""
    draw = np.random.default_rng(3)
    lines = ["image,expression"]
    for number in range(images):
        pixels = draw.integers(0, 255, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines += [f"{number}.png,thing {number}", f"{number}.png,the other {number}"]
    (folder / "2.png").write_bytes(b"not an image")
    (folder / "5.png").unlink()
    (folder / "questions.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions about twenty images: five shards."""
    return ask(tmp_path_factory.mktemp("few"), 20)


def words(folder: Path, checkpoint: Path, out: Path) -> list[str]:
    command = ["predict", folder / "questions.csv", "--images", folder, "--checkpoint", checkpoint]
    return [*map(str, command), "--out", str(out), "--quiet", "--json"]


def check_kills(folder: Path, checkpoint: Path, out: Path, kills: list[int]) -> None:
    whole, cut = out / "whole" / "answers.parquet", out / "cut" / "answers.parquet"
    assert killed(CALL, words(folder, checkpoint, whole), writes=[0]) == [0]
    codes = killed(CALL, words(folder, checkpoint, cut), writes=[*kills, 0])
    assert codes == [-9] * len(kills) + [0]
    assert cut.read_bytes() == whole.read_bytes()
    kept = [sorted(p.name for p in each.parent.rglob("*.parquet")) for each in (whole, cut)]
    assert kept[0] == kept[1]  # no partial file is left


def test_killed_it_ends_with_the_same_bytes(few: Path, checkpoint: Path, tmp_path: Path) -> None:
    check_kills(few, checkpoint, tmp_path, [5, 2, 3])


@pytest.mark.slow
def test_killed_ten_times_it_ends_with_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    draw = random.Random(0)
    kills = [draw.randint(1, 5) for _ in range(10)]  # each writes at most two of sixteen files
    check_kills(ask(tmp_path, 60), checkpoint, tmp_path, kills)


def test_two_processes_give_the_bytes_of_one(few: Path, checkpoint: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    assert killed(CALL, words(few, checkpoint, one), writes=[0]) == [0]
    codes, out, err = as_two(CALL, words(few, checkpoint, two))
    assert codes == [0, 0], err
    assert json.loads(out)["answered"] == 36
    assert two.read_bytes() == one.read_bytes()


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of answers, without nulls."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".json":
        return json.loads(path.read_text())
    is_parquet = path.suffix == ".parquet"
    table = pq.read_table(path) if is_parquet else read_labels(path, on_error="keep").table
    rows = table.to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv", "tsv", "json"])
def test_a_missing_image_is_null_with_the_reason(
    clipvg: Any, few: Path, checkpoint: Path, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / f"answers.{ending}"
    result = clipvg(*words(few, checkpoint, out)).json
    assert result["answered"] == 36
    rows = rows_of(out)
    assert len(rows) == 40
    for number, row in enumerate(rows):
        assert row["image"] == f"{number // 2}.png"
        assert row["expression"] == f"{'the other' if number % 2 else 'thing'} {number // 2}"
        lacks = number // 2 in (2, 5)
        assert (("box" in row), ("score" in row), ("present" in row)) == (not lacks,) * 3
        assert row.get("reason", "").startswith(str(few / row["image"])) == lacks


def test_coco_results(clipvg: Any, few: Path, checkpoint: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "results.json", ("--store", tmp_path / "store")
    typed = words(few, checkpoint, out)
    done = clipvg(*typed, "--format", "coco", *store)
    assert done.code == 0
    assert "left out 4 rows without an answer" in done.err
    results = json.loads(out.read_text())
    numbers = [n for n in range(1, 41) if n not in (5, 6, 11, 12)]
    assert [each["image_id"] for each in results] == numbers
    assert [each["annotation_id"] for each in results] == numbers
    clipvg(*words(few, checkpoint, tmp_path / "a.jsonl"), *store)
    known = [row for row in rows_of(tmp_path / "a.jsonl") if "box" in row]
    for each, row in zip(results, known, strict=True):
        x, y, width, height = each["bbox"]
        np.testing.assert_allclose([x, y, x + width, y + height], row["box"], rtol=1e-6)
        assert (each["category_id"], each["score"]) == (1, row["score"])
    lines = (few / "questions.csv").read_text().splitlines()
    own = [f"{line},{7 * n},a{n}" for n, line in enumerate(lines)]
    own[0] = f"{lines[0]},image_id,annotation_id"
    (tmp_path / "own.csv").write_text("\n".join(own))
    clipvg(typed[0], tmp_path / "own.csv", *typed[2:], "--format", "coco", *store)
    first = json.loads(out.read_text())[0]
    assert (first["image_id"], first["annotation_id"]) == (7, "a1")


def test_label_studio_predictions(clipvg: Any, few: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "tasks.json"
    clipvg(*words(few, checkpoint, out), "--format", "label-studio")
    tasks = json.loads(out.read_text())
    assert len(tasks) == 20
    assert tasks[3]["data"]["image"].endswith("?d=3.png")
    (prediction,) = tasks[3]["predictions"]
    assert len(prediction["result"]) == 4  # a rectangle and its text for each expression
    assert prediction["score"] == min(part["score"] for part in prediction["result"])
    (missing,) = tasks[5]["predictions"]
    assert missing["result"] == []
    assert "5.png" in tasks[5]["meta"]["clipvg"][0]["reason"]
    assert "width" not in tasks[5]["meta"]["clipvg"][0]  # the image cannot be read
    again = read_labels(out)
    assert len(again) == 36
    assert again.sizes()[0].tolist() == [30, 20]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision(
    clipvg: Any, few: Path, checkpoint: Path, tmp_path: Path, precision: str
) -> None:
    tolerance = 30 * {"bf16": 0.03, "fp16": 0.004}[precision]  # docs/predict.md
    store = ("--store", tmp_path / "store")
    for name in ("fp32", precision):
        out = tmp_path / f"{name}.jsonl"
        result = clipvg(*words(few, checkpoint, out), *store, "--precision", name).json
        assert result["found"] == 0
    pairs = zip(rows_of(tmp_path / "fp32.jsonl"), rows_of(out), strict=True)
    for exact, row in pairs:
        if "box" in exact:
            np.testing.assert_allclose(row["box"], exact["box"], atol=tolerance)
    image = few / "0.png"
    command = ("predict", image, "thing 0", "--checkpoint", checkpoint, "--precision", precision)
    np.testing.assert_allclose(clipvg(*command, "--json").json["boxes"][0], row_of(out), atol=0.01)


def row_of(path: Path) -> list[float]:
    return rows_of(path)[0]["box"]


def test_evaluate_keeps_answers(
    clipvg: Any, checkpoint: Path, labels: Path, pictures: Path, tmp_path: Path
) -> None:
    command = ("evaluate", labels, "--images", pictures, "--checkpoint", checkpoint, "--json")
    for against in ("box", "truth"):
        out = tmp_path / f"{against}.parquet"
        plain = clipvg(*command, "--against", against).json
        kept = clipvg(*command, "--against", against, "--out", out).json
        assert kept.pop("out") == str(out)
        assert kept.pop("mean_iou") == pytest.approx(plain.pop("mean_iou"), abs=1e-5)
        names = ("by_size", "by_pixels", "by_length", "by_kind")  # each with its own mean IoU
        groups = [each.pop(name) for each in (plain, kept) for name in names]
        assert len(groups) == 8
        assert kept == plain
        table = pq.read_table(out)
        assert table.column_names == [
            "image", "expression", "box", "score", "present", "iou", "reason",
        ]  # fmt: skip
        iou = table["iou"].to_numpy()
        assert (iou >= 0.5).mean() == plain["acc_0.5"]
        assert table["expression"].to_pylist() == read_labels(labels).expressions
    asked = tmp_path / "asked.csv"
    read_labels(labels).write(asked)
    clipvg("predict", asked, *command[2:], "--out", tmp_path / "predicted.parquet")
    predicted = pq.read_table(tmp_path / "predicted.parquet")
    for name in ("image", "expression", "box", "score", "present", "reason"):
        assert predicted[name].to_pylist() == table[name].to_pylist()
    assert "give --out FILE" in clipvg(*command, "--format", "coco").error
    assert "change the ending" in clipvg(*command, "--format", "coco", "--out", "a.csv").error
    assert "which is read" in clipvg(*command, "--out", labels).error
