"""Scoring on a one-machine Ray cluster with two actors equals scoring in one process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from support.tiny import make_labels, make_model

from clipvg.cli import main
from clipvg.errors import InputError, MissingExtraError
from clipvg.labels import LabelTable
from clipvg.measures import find_measure
from clipvg.model import GroundingModel
from clipvg.reliability import GroundingMeasurer, ScoreMatrix, score_labels
from clipvg.reliability.measurer import OnError
from clipvg.reliability.ray import parts
from clipvg.reliability.ray.cluster import RayOptions
from clipvg.reliability.ray.parquet import TableScorer, score_parquet_with_ray
from clipvg.reliability.ray.runner import EngineSetup, RayPool, score_with_ray
from clipvg.rescoring import EngineConfig, plan, shards
from clipvg.rescoring.store import ScoreStore


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    folder = tmp_path_factory.mktemp("images")
    labels = make_labels(folder, images=7)
    (folder / "3.png").write_bytes(b"not an image")
    return labels


@pytest.fixture(scope="module")
def models() -> dict[str, GroundingModel]:
    models = {"a": make_model(1, trained_on=["template"]), "b": make_model(2, preset="published")}
    return {**models, "again": models["a"]}


@pytest.fixture(scope="module")
def alone(labels: LabelTable, models: dict[str, GroundingModel]) -> ScoreMatrix:
    """The scores of a single process, on as many threads as an actor has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plan, "IMAGES_PER_SHARD", 2)
            return score_labels(labels, models)
    finally:
        torch.set_num_threads(threads)


def assert_same(found: ScoreMatrix, wanted: ScoreMatrix) -> None:
    assert found.names == wanted.names
    assert found.trained_on == wanted.trained_on
    assert found.sources == wanted.sources
    assert found.reasons == wanted.reasons
    np.testing.assert_array_equal(np.isnan(found.scores), np.isnan(wanted.scores))
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-6)


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_scores_are_those_of_one_process_and_are_kept(
    labels: LabelTable,
    models: dict[str, GroundingModel],
    alone: ScoreMatrix,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "IMAGES_PER_SHARD", 2)
    models["a"].save_pretrained(tmp_path / "a" / "model")
    mixed = {**models, "a": tmp_path / "a" / "model"}
    found = score_with_ray(labels, mixed, store=tmp_path / "store")
    assert len(alone.reasons) == 4
    assert np.nanstd(alone.scores) > 0.05
    assert_same(found, alone)
    # The store is that of a single process: neither way has anything left to score.
    monkeypatch.setattr(RayPool, "stream", None)
    monkeypatch.setattr(shards, "Engine", None)
    store = ScoreStore(tmp_path / "store")
    for again in (
        score_with_ray(labels, models, store=store),
        score_labels(labels, models, store=store),
    ):
        assert again.scores.tobytes() == found.scores.tobytes()
        assert again.reasons == found.reasons
    assert store.found == store.asked > 0


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_the_command_stops_at_an_unreadable_image(
    labels: LabelTable,
    models: dict[str, GroundingModel],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    labels.write(tmp_path / "labels.parquet")
    models["a"].save_pretrained(tmp_path / "model")
    out = tmp_path / "scored.parquet"
    words = ["score", tmp_path / "labels.parquet", "--images", labels.images, "--out", out]
    words += ["--measurer", f"a={tmp_path / 'model'}", "--unreadable_images", "raise", "--ray", 1]
    assert main(list(map(str, words))) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if "core_worker" not in x]
    assert len(lines) == 1
    assert lines[0].startswith(f"clipvg score: error: {labels.images}/3.png: not an image")
    assert not out.exists()


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_parquet_keeps_rows_and_columns(
    labels: LabelTable,
    models: dict[str, GroundingModel],
    alone: ScoreMatrix,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "LABELS_PER_FILE", 10)
    boxes = labels.boxes()
    boxes[0] = [9, 9, 3, 3]
    given = labels.with_column("box", boxes).with_column("id", 100 + np.arange(len(labels)))
    given = given.with_column("reliability.a", np.ones(len(labels)))
    (tmp_path / "in").mkdir()
    given.write(tmp_path / "in" / "labels.parquet")
    written = score_parquet_with_ray(
        tmp_path / "in",
        tmp_path / "out",
        models,
        images=labels.images,
        ray=RayOptions(num_cpus=0.5, labels_per_task=4),
    )
    assert (written.num_labels, written.num_unscored) == (28, 4 + (0 not in alone.reasons))
    assert len(list((tmp_path / "out").glob("*.parquet"))) > 1
    table = pq.read_table(tmp_path / "out")
    new = ["reliability.b", "reliability.again", "unscored"]
    assert table.column_names == [*given.table.column_names, *new]
    for name in ("id", "image", "expression", "box", "truth"):
        assert table[name].to_pylist() == given.table[name].to_pylist()
    found = ScoreMatrix.from_labels(LabelTable(table))
    assert found.trained_on == alone.trained_on
    reasons = dict(found.reasons)
    assert "x2 < x1" in reasons.pop(0)
    assert reasons == {row: reason for row, reason in alone.reasons.items() if row}
    for name in models:
        np.testing.assert_allclose(found[name][1:], alone[name][1:], atol=1e-6)


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("slow", ["first", "last"])
def test_rows_keep_their_order_whichever_actor_ends_first(
    labels: LabelTable, models: dict[str, GroundingModel], tmp_path: Path, slow: str
) -> None:
    """Two files in several blocks each; the images of the slow block are large."""
    folder = tmp_path / "images"
    folder.mkdir()
    count = len(labels)
    for name in ("quick", "slow"):
        size = (40, 30) if name == "quick" else (3000, 3000)
        Image.new("RGB", size).save(folder / f"{name}.png")
    number = np.arange(count)
    is_slow = number < 4 if slow == "first" else number >= count - 4
    given = labels.with_column("image", [f"{'slow' if s else 'quick'}.png" for s in is_slow])
    (tmp_path / "in").mkdir()
    for place, half in enumerate(np.array_split(number, 2)):
        rows = given.select(half).with_column("id", half)
        pq.write_table(rows.table, tmp_path / "in" / f"{place}.parquet", row_group_size=5)
    ray = RayOptions(num_cpus=0.5, labels_per_task=3)
    one = {"a": models["a"]}
    score_parquet_with_ray(tmp_path / "in", tmp_path / "out", one, images=folder, ray=ray)
    assert pq.read_table(tmp_path / "out")["id"].to_pylist() == number.tolist()
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert len(names) > 4
    assert all(name.startswith("part-") for name in names)


def test_parts_hold_every_row_once_and_in_order(tmp_path: Path) -> None:
    for name, count, group in (("a", 23, 10), ("b", 0, 10), ("c", 7, 2)):
        table = pa.table({"id": [f"{name}{i:02}" for i in range(count)]})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=group)
    planned = parts.plan_parts([str(tmp_path)], actors=2, least=4)
    assert [part.name for part in planned] == sorted(part.name for part in planned)
    rows = [row for part in planned for t in part.read(3) for row in t["id"].to_pylist()]
    assert rows == [f"a{i:02}" for i in range(23)] + [f"c{i:02}" for i in range(7)]
    (tmp_path / "d.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match=r"cannot be read as Parquet"):
        parts.plan_parts([str(tmp_path)], actors=2, least=4)


def test_a_table_in_an_actor(
    labels: LabelTable,
    models: dict[str, GroundingModel],
    alone: ScoreMatrix,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    models["a"].save_pretrained(tmp_path / "model")
    paths = {"a": str(tmp_path / "model")}
    setup = EngineSetup(("a",), paths, None, EngineConfig(precision="fp32"), "cpu", 1, os.getcwd())
    scorers = [TableScorer(setup, {"m": ("s",)}, [0], labels.images, e) for e in get_args(OnError)]
    readable = labels.select(~np.isnan(alone["a"]))
    for scorer in scorers:
        table = scorer(readable.table)
        assert table["unscored"].null_count == len(readable)
        assert table["unscored"].type == pa.string()
        np.testing.assert_allclose(
            table["reliability.m"].to_numpy(), alone["a"][~np.isnan(alone["a"])], atol=1e-5
        )
        assert scorer(table.slice(0, 0)).schema == table.schema
    with pytest.raises(InputError, match=r"3\.png: not an image"):
        scorers[1](labels.table)
    wrong = readable.with_column("box", [[9, 9, 3, 3]] * len(readable))
    with pytest.raises(InputError, match=r"a label on '\d\.png': .* x2 < x1.*on_error='null'"):
        scorers[1](wrong.table)
    assert scorers[0](wrong.table)["unscored"].null_count == 0


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_shares_of_actors() -> None:
    pool = RayPool()
    assert (pool.num_cpus, pool.device.type) == (0.5, "cpu")
    assert RayPool(RayOptions(num_gpus=1)).device.type == "cuda"
    for wrong in ({"actors": 0}, {"num_cpus": 0}, {"num_cpus": -1.0}, {"num_gpus": -1}):
        with pytest.raises(InputError, match="options of Ray"):
            RayOptions(**wrong)


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_what_fails_leaves_no_folder(
    labels: LabelTable, models: dict[str, GroundingModel], tmp_path: Path
) -> None:
    labels.write(tmp_path / "labels.parquet")
    with pytest.raises(InputError, match="actors is 0, expected at least 1"):
        score_parquet_with_ray(
            tmp_path / "labels.parquet", tmp_path / "out", models, ray=RayOptions(actors=0)
        )
    assert [path.name for path in tmp_path.iterdir()] == ["labels.parquet"]


@pytest.mark.ray
def test_refused_before_anything_starts(
    labels: LabelTable,
    models: dict[str, GroundingModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="no such file"):
        score_parquet_with_ray(tmp_path / "none.parquet", out, models)
    hygiene = find_measure("hygiene")()
    with pytest.raises(InputError, match="grounding models alone"):
        score_parquet_with_ray(tmp_path, out, {"m": GroundingMeasurer(models["a"]), "h": hygiene})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    with pytest.raises(InputError, match="already exists"):
        score_parquet_with_ray(tmp_path, out, models)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="torchrun and Ray"):
        score_with_ray(labels, models)


def test_without_ray(
    labels: LabelTable, models: dict[str, GroundingModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'clipvg\[ray\]'"):
        score_with_ray(labels, models)
