from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import fits
from support.tiny import make_labels

from clipvg.data.dataset import LabelDataset, collate
from clipvg.errors import InputError
from clipvg.features import CacheOptions
from clipvg.labels import LabelTable
from clipvg.model.grounder import GroundingModel
from clipvg.model.tokenizer import real_lengths
from clipvg.training import FeatureCache, FitConfig
from clipvg.training.batches import open_features


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    """24 labels on 8 images."""
    return make_labels(tmp_path_factory.mktemp("images"), 8, 3)


@pytest.fixture(scope="module")
def model() -> GroundingModel:
    return fits.make_model().eval()


def by_pictures(model: GroundingModel, labels: LabelTable) -> torch.Tensor:
    """Return the boxes of all labels, computed without a cache."""
    dataset = LabelDataset(labels, model.tokenize, model.backbone.image_size, model.preset)
    with torch.no_grad():
        return model(collate(dataset.__getitems__(range(len(labels)))))


def by_features(model: GroundingModel, cache: FeatureCache, labels: LabelTable) -> torch.Tensor:
    with torch.no_grad():
        return cache.view(labels).batch(np.arange(len(labels))).predict(model)


def test_cached_features_give_the_same_boxes(model: GroundingModel, labels: LabelTable) -> None:
    cached = by_features(model, FeatureCache(model, labels), labels)
    torch.testing.assert_close(cached, by_pictures(model, labels), atol=1e-6, rtol=0)


def test_targets_are_those_of_the_dataset(model: GroundingModel, labels: LabelTable) -> None:
    dataset = LabelDataset(labels, model.tokenize, 96, model.preset)
    expected = collate(dataset.__getitems__(range(len(labels)))).target
    torch.testing.assert_close(FeatureCache(model, labels).view(labels).target, expected)


def test_each_picture_and_expression_is_encoded_once(
    model: GroundingModel, labels: LabelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"image_features": 0, "text_features": 0}

    def count(name: str) -> None:
        encode = getattr(model.backbone, name)

        def counted(rows: torch.Tensor, *prefix: Any) -> Any:
            counts[name] += len(rows)
            return encode(rows, *prefix)

        monkeypatch.setattr(model.backbone, name, counted)

    for name in counts:
        count(name)
    cache = FeatureCache(model, labels.select(np.arange(10)))
    cache.view(labels)
    cache.view(labels.select([3, 1]))
    assert counts["image_features"] == labels.num_images
    assert counts["text_features"] == len(set(labels.expressions))


def test_labels_over_several_blocks(model: GroundingModel, labels: LabelTable) -> None:
    cache = FeatureCache(model, labels.select(np.arange(9)))
    cache.cover(labels)
    expected = by_features(model, FeatureCache(model, labels), labels)
    torch.testing.assert_close(by_features(model, cache, labels), expected, atol=1e-6, rtol=0)


def test_a_folder_serves_the_next_run(
    model: GroundingModel, labels: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = by_features(model, FeatureCache(model, labels, CacheOptions(folder=tmp_path)), labels)
    files = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.setattr(model, "encode_images", lambda images: pytest.fail("encoded again"))
    again = FeatureCache(model, labels, CacheOptions(folder=tmp_path))
    assert torch.equal(first, by_features(model, again, labels))
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    assert len(files) == 2


def test_a_changed_picture_is_encoded_anew(model: GroundingModel, tmp_path: Path) -> None:
    labels = make_labels(tmp_path / "a", 2)
    cache = FeatureCache(model, labels, CacheOptions(folder=tmp_path / "cache"))
    first = by_features(model, cache, labels)
    for name in set(labels.image_names):
        (tmp_path / "a" / name).unlink()
    changed = make_labels(tmp_path / "a", 2, seed=5).image_names
    assert set(changed) == set(labels.image_names)
    again = FeatureCache(model, labels, CacheOptions(folder=tmp_path / "cache"))
    second = by_features(model, again, labels)
    assert not torch.equal(first, second)


def test_an_interrupted_file_leaves_nothing(
    model: GroundingModel, labels: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(images: torch.Tensor) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model, "encode_images", stop)
        with pytest.raises(KeyboardInterrupt):
            FeatureCache(model, labels, CacheOptions(folder=tmp_path))
    assert list(tmp_path.iterdir()) == []
    FeatureCache(model, labels, CacheOptions(folder=tmp_path))


def test_half_precision_takes_half_the_space(model: GroundingModel, labels: LabelTable) -> None:
    full, half = (
        FeatureCache(model, labels),
        FeatureCache(model, labels, CacheOptions(dtype="float16")),
    )
    assert half.nbytes * 2 == full.nbytes
    difference = by_features(model, half, labels) - by_features(model, full, labels)
    assert 0 < difference.abs().max() < 1e-2


def test_too_large_is_refused_or_done_without(model: GroundingModel, labels: LabelTable) -> None:
    with pytest.raises(InputError, match="above the limit of 1e-06 GB"):
        FeatureCache(model, labels, CacheOptions(max_bytes=1000))
    plain = FitConfig(augment=False)
    small = replace(plain, cache_bytes=1000)
    with pytest.warns(UserWarning, match="encoded again in every epoch"):
        assert open_features(model, labels, small, None, progress=False) is None
    insisting = replace(small, cache_features=True)
    with pytest.raises(InputError):
        open_features(model, labels, insisting, None, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_features(model, labels, plain, None, progress=False) is not None


def test_only_equal_towers_and_rules_share_features(
    model: GroundingModel, labels: LabelTable
) -> None:
    cache = FeatureCache(model, labels)
    assert cache.fits(fits.make_model(seed=3))
    assert not cache.fits(fits.make_model(preset="published"))
    assert not cache.fits(fits.make_model(levels=[2]))
    assert not cache.fits(fits.make_model(prompt="a {}"))
    assert not cache.fits(fits.make_model(train_visual_positions=True))


def test_an_unreadable_picture_is_named(model: GroundingModel, labels: LabelTable) -> None:
    names = labels.image_names
    names[4] = "missing.png"
    broken = labels.with_column("image", names)
    with pytest.raises(InputError, match=r"missing\.png") as caught:
        FeatureCache(model, broken)
    assert "\n" not in str(caught.value)
    reasons = FeatureCache(model, broken, CacheOptions(on_error="null")).view(broken).reasons()
    assert [row for row, why in enumerate(reasons) if why] == [4]


def test_real_lengths_end_at_the_last_real_token() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
    assert real_lengths(mask).tolist() == [2, 3, 0]
