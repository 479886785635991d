"""The rescoring engine: every optimisation exact, precisions, shards, memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny import WORDS, make_labels, make_model, one_by_one
from torch.utils.flop_counter import FlopCounterMode

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel
from clipvg.model.fast.tokens import ranges
from clipvg.ops import linear
from clipvg.reliability import histogram
from clipvg.rescoring import Engine, EngineConfig, Optimisations, Plan


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    return make_labels(tmp_path_factory.mktemp("images"), images=7, per_image=5)


def scores_of(
    models: dict[str, GroundingModel], labels: LabelTable, **options: object
) -> np.ndarray:
    engine = Engine(models, EngineConfig(**options))
    (part,) = engine.stream(Plan(labels))
    found = np.empty_like(part.scores)
    found[:, part.rows] = part.scores
    return found


def by_the_model(models: dict[str, GroundingModel], labels: LabelTable) -> np.ndarray:
    """Score by the models themselves: one label, image and model at a time, with all padding."""
    return np.stack([one_by_one(model, labels) for model in models.values()])


def without(off: str) -> Optimisations:
    """Return all optimisations but one; "" leaves out none, "all" leaves out all."""
    if off == "all":
        return Optimisations.none()
    return Optimisations().without(off) if off else Optimisations()


@pytest.fixture
def stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stack measurers on a CPU too."""
    monkeypatch.setattr("clipvg.rescoring.views._STACKING", {"cpu", "cuda"})


@pytest.fixture(scope="module", params=["default", "published"])
def pair(request: pytest.FixtureRequest) -> dict[str, GroundingModel]:
    return {name: make_model(seed, preset=request.param) for seed, name in enumerate("ab")}


@pytest.fixture(scope="module")
def expected(pair: dict[str, GroundingModel], labels: LabelTable) -> np.ndarray:
    return by_the_model(pair, labels)


@pytest.mark.parametrize("off", ["", *Optimisations.names(), "all"])
def test_every_optimisation_is_exact(
    pair: dict[str, GroundingModel], expected: np.ndarray, labels: LabelTable, off: str
) -> None:
    found = scores_of(pair, labels, optimisations=without(off), images_per_chunk=3, batch_size=4)
    assert expected.std() > 0.05
    np.testing.assert_allclose(found, expected, atol=2e-6, rtol=0)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
@pytest.mark.parametrize("off", ["", "pack"])
def test_products_of_another_library_are_exact(
    pair: dict[str, GroundingModel],
    expected: np.ndarray,
    labels: LabelTable,
    off: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linear, "_LEAST", 0)  # otherwise products this small would stay in PyTorch
    does = without(off)
    products = torch.ops.mkldnn._linear_pointwise
    with FlopCounterMode(display=False, custom_mapping={products: lambda *_, **__: 1}) as counter:
        found = scores_of(pair, labels, optimisations=does)
    assert counter.get_flop_counts()["Global"][products] > 50
    np.testing.assert_allclose(found, expected, atol=2e-6, rtol=0)


@pytest.mark.usefixtures("stacked")
@pytest.mark.parametrize("off", ["", "pack"])
def test_a_stack_equals_its_members(labels: LabelTable, off: str) -> None:
    models = {str(seed): make_model(seed, layers=3) for seed in range(3)}
    does = without(off)
    engine = Engine(models, EngineConfig(optimisations=does))
    assert [stack.members for view in engine._views for stack in view.stacks] == [[0, 1, 2]]
    found = scores_of(models, labels, optimisations=does)
    np.testing.assert_allclose(found, by_the_model(models, labels), atol=2e-6, rtol=0)


@pytest.mark.usefixtures("stacked")
def test_one_stack_of_measurers_with_image_towers_of_their_own(labels: LabelTable) -> None:
    models = {}
    for seed in range(3):
        model = models[str(seed)] = make_model(seed, train_visual_positions=True)
        if seed:
            with torch.no_grad():
                model.backbone.clip.visual.positional_embedding.add_(0.3 * seed)
    engine = Engine(models)
    (part,) = engine.stream(Plan(labels))
    assert engine.stats.images == 3 * labels.num_images
    assert engine.stats.texts == len(WORDS)
    np.testing.assert_allclose(
        part.scores[:, np.argsort(part.rows)], by_the_model(models, labels), atol=2e-6, rtol=0
    )


def test_what_measurers_share_is_encoded_once(labels: LabelTable) -> None:
    models = {"a": make_model(1), "b": make_model(2, layers=1), "c": make_model(3, width=16)}
    engine = Engine(models, EngineConfig(images_per_chunk=2))
    list(engine.stream(Plan(labels)))
    assert engine.stats.images == labels.num_images
    assert engine.stats.texts == len(WORDS)
    assert engine.stats.labels == len(labels)


@pytest.mark.parametrize("options", [{"layers": 1}, {"visual": "last"}, {"levels": [2]}])
def test_unusual_architectures(labels: LabelTable, options: dict[str, object]) -> None:
    models = {"m": make_model(4, **options)}
    expected = by_the_model(models, labels)
    np.testing.assert_allclose(scores_of(models, labels), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.08), ("fp16", 0.01)])
def test_reduced_precision_is_close(labels: LabelTable, precision: str, tolerance: float) -> None:
    models = {"a": make_model(1), "b": make_model(2)}
    exact = scores_of(models, labels, precision="fp32")
    found = scores_of(models, labels, precision=precision)
    assert 0 < np.abs(found - exact).max()
    assert np.median(np.abs(found - exact)) < tolerance
    assert models["a"].backbone.clip.visual.proj.dtype == torch.float32
    np.testing.assert_array_equal(scores_of(models, labels), exact)  # "auto" is fp32 on a CPU


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.08)])
def test_a_gpu_gives_the_scores_of_the_cpu(
    labels: LabelTable, precision: str, tolerance: float
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    models = {"a": make_model(1), "b": make_model(2), "c": make_model(3, layers=3)}
    expected = scores_of(models, labels)
    found = scores_of({n: m.cuda() for n, m in models.items()}, labels, precision=precision)
    assert np.median(np.abs(found - expected)) < tolerance


def test_the_histogram_counts_the_scores_by_source(labels: LabelTable) -> None:
    engine = Engine({"a": make_model(1), "b": make_model(2)}, EngineConfig(batch_size=3))
    (part,) = engine.stream(Plan(labels))
    sources = np.array(labels.sources())[part.rows]
    for i, scores in enumerate(part.scores):
        for j, source in enumerate(dict.fromkeys(labels.sources())):
            expected = histogram(scores[sources == source], 1000)
            np.testing.assert_array_equal(engine.histogram[i, j].numpy(), expected)


def test_a_shard_depends_on_nothing_outside_it(labels: LabelTable) -> None:
    models = {"a": make_model(1), "b": make_model(2)}
    engine = Engine(models, EngineConfig(images_per_chunk=2))
    shards = [(0, 3), (3, 6), (6, 7)]
    together = list(engine.stream(Plan(labels), shards))
    again = Engine(models, EngineConfig(images_per_chunk=2))
    for shard, part in zip(shards[::-1], together[::-1], strict=True):
        (alone,) = again.stream(Plan(labels), [shard])
        assert alone.shard == part.shard == shard
        np.testing.assert_array_equal(alone.rows, part.rows)
        assert alone.scores.tobytes() == part.scores.tobytes()
    rows = np.concatenate([part.rows for part in together])
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(labels)))


def test_no_labels_have_no_shards(labels: LabelTable) -> None:
    assert (
        list(Engine({"a": make_model(1)}).stream(Plan(labels.select(np.array([], dtype=int)))))
        == []
    )


def test_the_text_cache_keeps_to_its_size(labels: LabelTable) -> None:
    models = {"a": make_model(1)}
    without = Engine(models, EngineConfig(images_per_chunk=1, text_cache_mib=0))
    list(without.stream(Plan(labels)))
    with_cache = Engine(models, EngineConfig(images_per_chunk=1))
    list(with_cache.stream(Plan(labels)))
    assert with_cache.stats.texts == len(WORDS) < without.stats.texts
    assert with_cache.stats.text_hits == without.stats.texts - len(WORDS)


def test_an_unreadable_image_is_found_among_others(labels: LabelTable, tmp_path: Path) -> None:
    names = dict.fromkeys(labels.image_names)
    for name in names:
        Image.open(labels.image_path(name)).save(tmp_path / name)
    lost = list(names)[2]
    (tmp_path / lost).write_bytes(b"no picture")
    moved = labels.with_images(tmp_path)
    engine = Engine({"a": make_model(1)}, EngineConfig(images_per_chunk=2))
    (part,) = engine.stream(Plan(moved))
    unscored = np.array([name == lost for name in moved.image_names])[part.rows]
    np.testing.assert_array_equal(np.isnan(part.scores[0]), unscored)
    assert set(part.reasons) == set(part.rows[unscored])
    with pytest.raises(InputError, match="not an image"):
        list(engine.stream(Plan(moved), on_error="raise"))


def test_turned_pictures_follow_the_preset(tmp_path: Path) -> None:
    """One picture with an EXIF orientation, scored by both presets in one pass."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (40, 64, 3), dtype=np.uint8))
    exif = picture.getexif()
    exif[274] = 6  # turned by 90 degrees
    picture.save(tmp_path / "a.jpg", exif=exif)
    labels = LabelTable.from_columns(
        image=["a.jpg"], expression=["dog"], box=[[3, 3, 30, 30]], images=tmp_path
    )
    models = {"d": make_model(1), "p": make_model(1, preset="published")}
    found = scores_of(models, labels)
    alone = [scores_of({name: model}, labels)[0] for name, model in models.items()]
    np.testing.assert_allclose(found, alone, atol=1e-6)
    np.testing.assert_allclose(found, by_the_model(models, labels), atol=2e-6)


def test_plan_and_ranges() -> None:
    labels = LabelTable.from_columns(
        image=["b", "a", "b", "c", "a"], expression=["x"] * 5, box=[[0, 0, 1, 1]] * 5
    )
    first, second = Plan(labels).chunks(2)
    assert first.images == ["b", "a"]
    assert first.rows.tolist() == [0, 2, 1, 4]
    assert first.image_of_row.tolist() == [0, 0, 1, 1]
    assert second.images == ["c"]
    assert ranges(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert ranges(np.array([], dtype=int), np.array([], dtype=int)).tolist() == []


@pytest.mark.parametrize(
    "options",
    [{"precision": "fp8"}, {"batch_size": 0}, {"images_per_chunk": 0}, {"text_cache_mib": -1}],
)
def test_senseless_settings_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        EngineConfig(**options)


def test_optimisations_have_names() -> None:
    assert Optimisations().without("pack") == dataclasses.replace(Optimisations(), pack=False)
    assert not any(dataclasses.asdict(Optimisations.none()).values())
