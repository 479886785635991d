"""ScoreStore: what is scored again and what is not."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tiny import make_labels, make_model

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel
from clipvg.model.backbone import Backbone
from clipvg.reliability import GroundingMeasurer, ScoreMatrix, score_labels
from clipvg.rescoring import Engine, EngineConfig, plan
from clipvg.runtime.lock import Lock

IMAGES, SHARD = 7, 2  # four shards, the last one smaller


@pytest.fixture
def labels(tmp_path: Path) -> LabelTable:
    (tmp_path / "images").mkdir()
    return make_labels(tmp_path / "images", IMAGES)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(plan, "IMAGES_PER_SHARD", SHARD)
    return tmp_path / "store"


class Counter:
    """Count the images encoded since the last call."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self) -> int:
        images, self.images = self.images, 0
        return images


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Counter:
    counter, levels = Counter(), Backbone.image_levels

    def counting(self: Backbone, pixels: object) -> object:
        counter.images += len(pixels)
        return levels(self, pixels)

    monkeypatch.setattr(Backbone, "image_levels", counting)
    return counter


def same(one: ScoreMatrix, other: ScoreMatrix) -> bool:
    return one.scores.tobytes() == other.scores.tobytes() and one.reasons == other.reasons


def test_what_is_there_is_not_scored_again(
    labels: LabelTable, store: Path, encoded: Counter
) -> None:
    models = {"a": make_model(1), "b": make_model(2)}
    first = score_labels(labels, models, store=store)
    assert encoded() == IMAGES
    again = score_labels(labels, models, store=store)
    assert encoded() == 0
    assert same(first, again)
    assert same(first, score_labels(labels, models))


def test_an_interrupted_call_goes_on(
    labels: LabelTable, store: Path, encoded: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"a": make_model(1), "b": make_model(2)}
    whole = score_labels(labels, models)
    encoded()
    stream = Engine.stream

    def interrupted(self: Engine, *args: object, **options: object) -> Iterator[object]:
        for number, part in enumerate(stream(self, *args, **options)):
            if number == 2:
                raise KeyboardInterrupt
            yield part

    with monkeypatch.context() as cut:
        cut.setattr(Engine, "stream", interrupted)
        with pytest.raises(KeyboardInterrupt):
            score_labels(labels, models, store=store)
    encoded()
    assert same(whole, score_labels(labels, models, store=store))
    assert encoded() == IMAGES - 2 * SHARD


def test_a_shard_is_bounded_in_labels(
    labels: LabelTable, store: Path, encoded: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded = LabelTable.concat([labels, *[labels.select(labels.boxes()[:, 0] >= 0)] * 3])
    counts = np.bincount(crowded.distinct_images()[1])
    monkeypatch.setattr(plan, "IMAGES_PER_SHARD", 128)
    assert plan.Plan(crowded).shards() == [(0, IMAGES)]  # one shard, as there are few labels
    whole = score_labels(crowded, {"a": make_model(1)}, store=store)
    for most in (1, int(counts.max()) * 2 + 1):
        monkeypatch.setattr(plan, "LABELS_PER_SHARD", most)
        shards = plan.Plan(crowded).shards()
        assert [first for first, _ in shards] == [0, *(last for _, last in shards[:-1])]
        assert shards[-1][1] == IMAGES
        for first, last in shards:
            assert counts[first:last].sum() <= most or last == first + 1
            assert last == IMAGES or counts[first : last + 1].sum() > most
        encoded()
        cut = score_labels(crowded, {"a": make_model(1)}, store=store)
        assert encoded() >= IMAGES - 1  # the last image may be a shard by itself in both
        np.testing.assert_allclose(cut.scores, whole.scores, atol=1e-6)
        assert same(cut, score_labels(crowded, {"a": make_model(1)}, store=store))
        assert encoded() == 0


def test_another_measurer_is_scored_alone(
    labels: LabelTable, store: Path, encoded: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = make_model(1), make_model(2)
    first = score_labels(labels, {"a": a}, store=store)
    scored, init = [], Engine.__init__

    def recording(self: Engine, models: dict, *args: object, **options: object) -> None:
        scored.append(sorted(models))
        init(self, models, *args, **options)

    monkeypatch.setattr(Engine, "__init__", recording)
    both = score_labels(labels, {"a": a, "b": b}, store=store)
    assert scored == [["b"]]
    np.testing.assert_array_equal(both["a"], first["a"])
    np.testing.assert_allclose(both["b"], score_labels(labels, {"b": b})["b"], atol=1e-6)
    encoded()
    assert same(both, score_labels(labels, {"a": a, "b": b}, store=store))
    score_labels(labels, {"b": b}, store=store)
    assert encoded() == 0


def test_names_order_and_training_sources_do_not_matter(
    labels: LabelTable, store: Path, encoded: Counter
) -> None:
    a, b = make_model(1), make_model(2)
    first = score_labels(labels, {"a": a, "b": b}, store=store)
    encoded()
    other = {
        "y": GroundingMeasurer(b, "y", trained_on=["caption"]),
        "x": GroundingMeasurer(make_model(1, dropout=0.3), "x", trained_on=["relation"]),
    }
    again = score_labels(labels.with_column("source", ["s"] * len(labels)), other, store=store)
    assert encoded() == 0
    assert again.names == ("y", "x")
    assert again.trained_on == (("caption",), ("relation",))
    np.testing.assert_array_equal(again["x"], first["a"])
    np.testing.assert_array_equal(again["y"], first["b"])


def test_equal_measurers_are_scored_once(labels: LabelTable, encoded: Counter) -> None:
    alone = score_labels(labels, {"a": make_model(1)})
    twice = score_labels(labels, {"a": make_model(1), "b": make_model(1)})
    np.testing.assert_array_equal(twice["a"], alone["a"])
    np.testing.assert_array_equal(twice["b"], alone["a"])


@pytest.mark.parametrize("options", [{"batch_size": 3}, {"precision": "bf16"}])
def test_another_way_to_run_is_scored_apart(
    labels: LabelTable, store: Path, encoded: Counter, options: dict
) -> None:
    model = {"a": make_model(1)}
    first = score_labels(labels, model, store=store)
    encoded()
    score_labels(labels, model, store=store, engine=EngineConfig(**options))
    assert encoded() == IMAGES
    assert same(first, score_labels(labels, model, store=store))
    assert encoded() == 0


def test_other_weights_or_rules_are_scored_apart(
    labels: LabelTable, store: Path, encoded: Counter
) -> None:
    score_labels(labels, {"a": make_model(1)}, store=store)
    encoded()
    for options in ({"preset": "published"}, {"prompt": "find {}"}, {"heads": 2}):
        score_labels(labels, {"a": make_model(1, **options)}, store=store)
        assert encoded() == IMAGES, options


def changed(labels: LabelTable, name: str, row: int, value: object) -> LabelTable:
    values = labels.table.column(name).to_pylist()
    values[row] = value
    return labels.with_column(name, values)


def test_a_changed_label_scores_its_shard_again(
    labels: LabelTable, store: Path, encoded: Counter
) -> None:
    model = {"a": make_model(1)}
    first = score_labels(labels, model, store=store)
    row = len(labels) // 2
    others = {
        "expression": changed(labels, "expression", row, "something else"),
        "box": changed(labels, "box", row, [1.0, 2.0, 9.0, 9.5]),
        "format": labels.with_column("box_format", ["xyxy"] * 3 + ["xywh"] * (len(labels) - 3)),
    }
    for what, table in others.items():
        encoded()
        scores = score_labels(table, model, store=store)
        assert encoded() == (IMAGES if what == "format" else SHARD), what
        assert same(scores, score_labels(table, model))
    truth = labels.with_column("truth", np.zeros((len(labels), 4)))
    encoded()
    assert same(first, score_labels(truth, model, store=store))
    assert encoded() == 0


def test_a_changed_picture_scores_its_shard_again(
    labels: LabelTable, store: Path, encoded: Counter
) -> None:
    model = {"a": make_model(1)}
    first = score_labels(labels, model, store=store)
    encoded()
    path = labels.image_path(labels.image_names[0])
    Image.new("RGB", (30, 20), "red").save(path)
    second = score_labels(labels, model, store=store)
    assert encoded() == SHARD
    assert not same(first, second)
    status = os.stat(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert same(second, score_labels(labels, model, store=store))
    assert encoded() == SHARD


def test_unreadable_pictures_are_finished_until_they_are_repaired(
    labels: LabelTable, store: Path, encoded: Counter
) -> None:
    model = {"a": make_model(1)}
    names = labels.distinct_images()[0]
    gone, broken = labels.image_path(names[1]), labels.image_path(names[4])
    picture = gone.read_bytes()
    gone.unlink()
    broken.write_bytes(b"not an image")
    first = score_labels(labels, model, store=store)
    assert encoded() == IMAGES - 2
    assert {labels.image_names[row] for row in first.reasons} == {names[1], names[4]}
    assert "no such file" in first.reasons[labels.image_names.index(names[1])]
    assert same(first, score_labels(labels, model, store=store))
    assert encoded() == 0
    with pytest.raises(InputError, match=names[1]):
        score_labels(labels, model, store=store, on_error="raise")
    assert encoded() == 0
    gone.write_bytes(picture)
    second = score_labels(labels, model, store=store)
    assert encoded() == SHARD
    assert {labels.image_names[row] for row in second.reasons} == {names[4]}


def test_raise_keeps_the_shards_before(labels: LabelTable, store: Path, encoded: Counter) -> None:
    model = {"a": make_model(1)}
    path = labels.image_path(labels.distinct_images()[0][SHARD])
    picture = path.read_bytes()
    path.write_bytes(b"not an image")
    with pytest.raises(InputError, match=path.name):
        score_labels(labels, model, store=store, on_error="raise")
    path.write_bytes(picture)
    encoded()
    scores = score_labels(labels, model, store=store, on_error="raise")
    assert encoded() == IMAGES - SHARD
    assert same(scores, score_labels(labels, model))


def test_damaged_files_are_scored_again_and_foreign_ones_left_alone(
    labels: LabelTable, store: Path, encoded: Counter
) -> None:
    model = {"a": make_model(1)}
    first = score_labels(labels, model, store=store)
    encoded()
    files = sorted(store.glob("*/*.parquet"))
    assert len(files) == 4
    files[0].write_bytes(files[0].read_bytes()[:-20])
    data = bytearray(files[1].read_bytes())
    data[30] ^= 255  # inside a page
    files[1].write_bytes(bytes(data))
    foreign = [store / "notes.txt", store / "elsewhere" / "measurers.json", store / "x.parquet"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("nothing of ours")
    (files[0].parent / ".half.tmp.parquet").write_text("half")
    with pytest.warns(UserWarning, match="2 file"):
        assert same(first, score_labels(labels, model, store=store))
    assert SHARD < encoded() <= 2 * SHARD
    assert all(path.read_text() == "nothing of ours" for path in foreign)
    assert not (files[0].parent / ".half.tmp.parquet").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(first, score_labels(labels, model, store=store))
    assert encoded() == 0


def test_a_lost_list_of_measurers_is_written_again(
    labels: LabelTable, store: Path, encoded: Counter
) -> None:
    model = {"a": make_model(1)}
    first = score_labels(labels, model, store=store)
    (path,) = store.glob("*/measurers.json")
    assert list(json.loads(path.read_text()).values()) == ["a"]
    path.write_text("[")
    assert same(first, score_labels(labels, model, store=store))
    assert list(json.loads(path.read_text()).values()) == ["a"]


def test_one_call_at_a_time(labels: LabelTable, store: Path, tmp_path: Path) -> None:
    store.mkdir()
    with Lock(store), pytest.raises(InputError, match=rf"in use by process {os.getpid()}.*--store"):
        score_labels(labels, {"a": make_model(1)}, store=store)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        score_labels(labels, {"a": make_model(1)}, store=tmp_path / "file")


def test_labels_by_rows_in_any_order(labels: LabelTable, store: Path, encoded: Counter) -> None:
    model: dict[str, GroundingModel] = {"a": make_model(1)}
    first = score_labels(labels, model, store=store)
    order = np.argsort([int(Path(name).stem) for name in labels.image_names], kind="stable")
    place = np.concatenate([np.flatnonzero(labels.distinct_images()[1] == i) for i in range(7)])
    encoded()
    grouped = score_labels(labels.select(place), model, store=store)
    assert encoded() == 0  # the same labels of the same shards, elsewhere in the table
    np.testing.assert_array_equal(grouped["a"], first["a"][place])
    shuffled = score_labels(labels.select(order[::-1]), model, store=store)
    np.testing.assert_allclose(shuffled["a"], first["a"][order[::-1]], atol=2e-6)


def test_no_labels(labels: LabelTable, store: Path) -> None:
    nothing = score_labels(labels.select([]), {"a": make_model(1)}, store=store)
    assert nothing.scores.shape == (1, 0)
