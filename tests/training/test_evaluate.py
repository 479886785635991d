from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import fits
from support.tiny import make_labels

from clipvg.data.letterbox import Letterbox
from clipvg.errors import InputError
from clipvg.features import CacheOptions, FeatureBatch
from clipvg.labels import LabelTable, ReadOptions, read_labels
from clipvg.model.grounder import GroundingModel
from clipvg.model.zoo import load
from clipvg.training import FeatureCache, evaluate, predict_labels


@pytest.fixture(scope="module")
def model() -> GroundingModel:
    return fits.make_model().eval()


def test_boxes_are_in_label_order(model: GroundingModel, labels: LabelTable) -> None:
    shuffled = np.random.default_rng(0).permutation(len(labels))
    boxes = predict_labels(model, labels, batch_size=5).boxes
    assert boxes.shape == (len(labels), 4)
    assert boxes.dtype == np.float32
    other = predict_labels(
        model, labels.select(shuffled), batch_size=7, reading=CacheOptions(num_workers=1)
    ).boxes
    np.testing.assert_allclose(other, boxes[shuffled], atol=1e-6)


def test_a_cache_changes_nothing(model: GroundingModel, labels: LabelTable) -> None:
    cached = predict_labels(model, labels, features=FeatureCache(model)).boxes
    np.testing.assert_allclose(cached, predict_labels(model, labels).boxes, atol=1e-6)
    small = FeatureCache(
        model, options=CacheOptions(max_bytes=10)
    )  # too small: pictures are read in chunks instead
    chunked = predict_labels(model, labels, features=small).boxes
    np.testing.assert_array_equal(chunked, predict_labels(model, labels).boxes)


def test_boxes_are_those_of_predict(model: GroundingModel, labels: LabelTable) -> None:
    found = predict_labels(model, labels)
    for row in (0, 7, 20):
        path = labels.image_path(labels.image_names[row])
        single = model.predict(path, labels.expressions[row])[0]
        frame = Letterbox(*found.sizes[row], model.backbone.image_size)
        np.testing.assert_allclose(frame.to_image(found.boxes[row]), single, atol=1e-3)


def test_published_accuracy(data_dir: Path) -> None:
    folder = data_dir / "official_mini"
    expected = json.loads((folder / "reliability.json").read_text())["sets"]["unc"]
    images = folder / "images" / "other" / "images" / "mscoco" / "images" / "train2014"
    labels = read_labels(
        folder / "unc" / "unc_train_pseudo.pth", images=images, options=ReadOptions(layout="unc")
    )
    result = evaluate(load(folder / "best_checkpoint.pth"), labels)
    iou = [label["iou"] for label in expected["labels"]]
    np.testing.assert_allclose(result.iou, iou, atol=1e-4)
    assert result.count == len(iou)
    assert result.accuracy[0.5] == pytest.approx(np.mean(np.array(iou) >= 0.5))


def test_perfect_boxes_have_accuracy_one(
    model: GroundingModel, labels: LabelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FeatureBatch, "predict", lambda self, model: self.target)
    result = evaluate(model, labels)
    assert result.accuracy == {0.25: 1.0, 0.5: 1.0, 0.75: 1.0, 0.9: 1.0}
    assert result.mean_accuracy == 1
    assert result.mean_iou == pytest.approx(1.0)


def test_accuracy_counts_at_the_threshold(
    model: GroundingModel, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prediction is half of the box: an IoU of exactly 0.5 counts as right."""
    labels = make_labels(pictures, 1, 1)
    whole, half = torch.tensor([[0.5, 0.5, 0.5, 0.5]]), torch.tensor([[0.5, 0.5, 0.25, 0.5]])
    monkeypatch.setattr(FeatureBatch, "predict", lambda self, model: half)
    monkeypatch.setattr("clipvg.features.cache.square_boxes", lambda *_: whole.numpy())
    result = evaluate(model, labels)
    assert result.mean_iou == 0.5
    assert result.accuracy == {0.25: 1.0, 0.5: 1.0, 0.75: 0.0, 0.9: 0.0}
    assert result.mean_accuracy == pytest.approx(0.1)  # right at 0.5, the first of ten thresholds


def test_groups_add_up(model: GroundingModel, labels: LabelTable) -> None:
    result = evaluate(model, labels)
    for groups in (result.by_size, result.by_pixels, result.by_length, result.by_kind):
        assert sum(group.count for group in groups.values()) == result.count == len(labels)
        total = sum(g.count * g.mean_iou for g in groups.values() if g.count)
        assert total / result.count == pytest.approx(result.mean_iou)
    words = np.array([len(text.split()) for text in labels.expressions])
    assert result.by_length["7+"].count == int((words >= 7).sum())


def test_sizes_are_shares_of_the_picture(model: GroundingModel, tmp_path: Path) -> None:
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    sides = [31, 33, 95, 97]  # around COCO's 32 and 96 pixels
    labels = LabelTable.from_columns(
        image=["a.png"] * 4,
        expression=["thing"] * 4,
        box=[[10, 10, 10 + side, 10 + side] for side in sides],
        images=tmp_path,
    )
    found = evaluate(model, labels)
    for groups in (found.by_size, found.by_pixels):
        assert [groups[name].count for name in ("small", "medium", "large")] == [1, 2, 1]
    Image.new("RGB", (320, 240)).save(tmp_path / "a.png")
    found = evaluate(model, labels)
    assert [group.count for group in found.by_size.values()] == [0, 2, 2]
    assert [group.count for group in found.by_pixels.values()] == [1, 2, 1]


def test_any_box_of_a_phrase_is_right(model: GroundingModel, labels: LabelTable) -> None:
    """The model predicts the second box of each phrase, not the box around both."""
    own = predict_labels(model, labels)
    square = zip(own.boxes, own.sizes, strict=True)
    said = [Letterbox(*size, own.side).to_image(box).tolist() for box, size in square]
    table = labels.with_column("flickr.boxes", [json.dumps([[0, 0, 1, 1], box]) for box in said])
    found = evaluate(model, table)
    assert found.any_box is not None
    # not quite 1: boxes are cut off at the edge of the image
    assert found.any_box.mean_iou > max(2 * found.mean_iou, 0.85)
    assert found.to_dict()["any_box"]["count"] == len(labels)
    assert evaluate(model, labels).any_box is None
    with pytest.raises(InputError, match=r"flickr\.boxes.*lists of boxes as JSON"):
        evaluate(model, labels.with_column("flickr.boxes", ["{"] * len(labels)))


def test_truth_is_compared_where_it_is_known(model: GroundingModel, labels: LabelTable) -> None:
    truth = [box.tolist() for box in labels.boxes()]
    truth[3] = None
    table = labels.with_column("truth", truth)
    result = evaluate(model, table, against="truth")
    assert (result.count, result.skipped) == (len(labels) - 1, 1)
    assert np.isnan(result.iou[3])
    own = evaluate(model, table)
    np.testing.assert_array_equal(np.delete(own.iou, 3), np.delete(result.iou, 3))
    assert own.fingerprint == evaluate(model, labels).fingerprint != result.fingerprint
    with pytest.raises(InputError, match="truth"):
        evaluate(model, labels.drop_columns("truth"), against="truth")


def test_the_result_is_json(model: GroundingModel, labels: LabelTable) -> None:
    plain = json.loads(json.dumps(evaluate(model, labels).to_dict(), allow_nan=False))
    keys = {"acc_0.25", "acc_0.5", "acc_0.75", "mean_iou", "count", "fingerprint"}
    assert keys <= plain.keys()


def test_unreadable_pictures_raise_or_give_no_box(
    model: GroundingModel, labels: LabelTable, tmp_path: Path
) -> None:
    names = labels.image_names
    names[2] = str(tmp_path / "broken.png")
    Path(names[2]).write_bytes(b"no picture")
    broken = labels.with_column("image", names)
    with pytest.raises(InputError, match=r"broken\.png"):
        predict_labels(model, broken)
    found = predict_labels(model, broken, reading=CacheOptions(on_error="null"))
    assert np.isnan(found.boxes[2]).all()
    assert "broken.png" in (found.reasons[2] or "")
    rest = np.arange(len(labels)) != 2
    np.testing.assert_allclose(
        found.boxes[rest], predict_labels(model, labels).boxes[rest], atol=1e-6
    )


def test_no_labels(model: GroundingModel, labels: LabelTable) -> None:
    result = evaluate(model, labels.select(np.zeros(0, dtype=np.int64)))
    assert result.count == 0
    assert result.to_dict()["acc_0.5"] is None


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": -3}, {"num_workers": -1}])
def test_senseless_options_are_refused(
    model: GroundingModel, labels: LabelTable, options: dict[str, int]
) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))} is .*expected at least"):
        evaluate(model, labels, **options)
