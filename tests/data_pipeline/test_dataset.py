import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from clipvg.data import LabelDataset, Preset, TrainTransform, collate
from clipvg.data import dataset as dataset_module
from clipvg.data.dataset import shuffle_rows
from clipvg.errors import InputError
from clipvg.labels import LabelTable

PRESET = Preset("halves", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def tokenize(expressions):
    ids = torch.zeros(len(expressions), 5, dtype=torch.int64)
    for i, expression in enumerate(expressions):
        ids[i, : len(expression.split())] = 1
    return ids, ids > 0


@pytest.fixture
def labels(tmp_path, rng) -> LabelTable:
    for i in range(4):
        size = (20 + 5 * i, 30, 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return LabelTable.from_columns(
        image=[f"{i // 3}.png" for i in range(12)],
        expression=["the red dog"[: 3 + i] for i in range(12)],
        box=[[i, 1.9, 10 + i, 15.2] for i in range(12)],
        weight=np.arange(12) / 4,
        images=tmp_path,
    )


def make(labels, preset=PRESET, **options):
    return LabelDataset(labels, tokenize, 32, preset, **options)


def test_batch_holds_each_image_once(labels, monkeypatch):
    opened = []
    load = dataset_module.load_square
    monkeypatch.setattr(
        dataset_module,
        "load_square",
        lambda path, *a, **k: opened.append(path.name) or load(path, *a, **k),
    )
    rows = [0, 1, 5, 2, 4, 11]
    batch = collate(make(labels).__getitems__(rows))
    assert opened == ["0.png", "1.png", "3.png"]
    assert batch.images.shape == (3, 3, 32, 32)
    assert batch.pixel_mask.shape == (3, 32, 32)
    assert batch.image_index.tolist() == [0, 0, 1, 0, 1, 2]
    assert batch.row.tolist() == rows
    assert batch.tokens.shape == (6, 5)
    assert batch.text_mask.sum(1).tolist() == [len("the red dog"[: 3 + r].split()) for r in rows]
    assert len(batch) == 6


def test_each_row_alone_equals_the_batch(labels):
    data = make(labels)
    batch = collate(data.__getitems__([3, 4, 7]))
    for i, row in enumerate([3, 4, 7]):
        sample = data[row]
        assert torch.equal(sample.pixels, batch.images[batch.image_index[i]])
        assert torch.equal(sample.target, batch.target[i])


def test_integer_boxes(labels):
    cut = make(labels, dataclasses.replace(PRESET, integer_boxes=True))[0].target
    plain = make(labels)[0].target
    scale = 32 / 30
    assert plain[3].item() == pytest.approx((15.2 - 1.9) * scale / 32, abs=1e-6)
    assert cut[3].item() == pytest.approx((15 - 1) * scale / 32, abs=1e-6)


def augmented(labels, **options):
    return make(labels, transform=TrainTransform(32, PRESET), **options)


def epoch(data, workers, batch_size=5, number=0):
    data.set_epoch(number)
    rows = shuffle_rows(len(data), seed=3, epoch=number).tolist()
    batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    loader = DataLoader(data, batch_sampler=batches, collate_fn=collate, num_workers=workers)
    images, targets = {}, {}
    for batch in loader:
        for i, row in enumerate(batch.row.tolist()):
            images[row] = batch.images[batch.image_index[i]]
            targets[row] = batch.target[i]
    return images, targets


def test_augmentation_is_independent_of_workers_and_batches(labels):
    data = augmented(labels, seed=7)
    images, targets = epoch(data, workers=0)
    assert sorted(images) == list(range(12))
    for other, others in (epoch(data, workers=2), epoch(data, workers=0, batch_size=2)):
        assert all(torch.equal(images[row], other[row]) for row in images)
        assert all(torch.equal(targets[row], others[row]) for row in images)


def test_augmentation_changes_with_epoch_seed_and_row(labels):
    data = augmented(labels, seed=7)
    first, _ = epoch(data, workers=0)
    second, _ = epoch(data, workers=0, number=1)
    other, _ = epoch(augmented(labels, seed=8), workers=0)
    assert not any(torch.equal(first[row], second[row]) for row in first)
    assert not any(torch.equal(first[row], other[row]) for row in first)


def test_persistent_workers_see_a_new_epoch(labels):
    data = augmented(labels)
    loader = DataLoader(
        data, batch_size=4, collate_fn=collate, num_workers=1, persistent_workers=True
    )
    first, other, again = ([data.set_epoch(e), list(loader)][1][0] for e in (0, 1, 0))
    assert not torch.equal(first.images, other.images)
    assert torch.equal(first.images, again.images)


def test_augmented_batches_have_an_image_a_row(labels):
    batch = collate(augmented(labels).__getitems__([0, 1, 2]))
    assert batch.images.shape[0] == 3
    assert batch.image_index.tolist() == [0, 1, 2]


def test_missing_image_is_one_line_from_workers_too(labels, tmp_path):
    (tmp_path / "2.png").unlink()
    loader = DataLoader(make(labels), batch_size=4, collate_fn=collate)
    expected = "2.png: no such file; check the image root and the name"
    with pytest.raises(InputError) as caught:
        list(loader)
    assert str(caught.value) == f"{tmp_path}/{expected}"
    # As a worker process wraps it; torch takes five seconds to shut a real one down.
    wrapped = ExceptionWrapper(
        (caught.type, caught.value, caught.tb), where="in DataLoader worker process 0"
    )
    with pytest.raises(InputError) as caught:
        wrapped.reraise()
    assert str(caught.value) == f"{tmp_path}/{expected}"


def test_batch_moves(labels):
    batch = collate(make(labels).__getitems__([0, 1]))
    moved = batch.to("meta")
    assert moved.images.device.type == moved.row.device.type == "meta"
    assert batch.images.device.type == "cpu"


def test_truth_never_enters_a_batch(labels):
    noisy = labels.with_column("truth", np.random.default_rng(1).uniform(0, 9, (12, 4)))
    plain, other = (collate(make(table).__getitems__(range(12))) for table in (labels, noisy))
    for name in vars(plain):
        assert torch.equal(getattr(plain, name), getattr(other, name))


def test_a_group_shares_one_picture(labels):
    data = augmented(labels, seed=7)
    leader = np.arange(12)
    leader[[0, 1, 2]] = 1
    data.set_epoch(0, leader)
    samples = data.__getitems__([0, 5, 1, 2])
    assert [sample.image_key for sample in samples] == [-2, -6, -2, -2]
    assert samples[0].pixels is samples[2].pixels is samples[3].pixels
    alone = augmented(labels, seed=7)[5]
    assert torch.equal(alone.pixels, samples[1].pixels)
    assert torch.equal(alone.target, samples[1].target)
