import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipvg.data.dataset import group_by_image, shuffle_rows


def test_an_order_holds_every_row_once_and_depends_on_seed_and_epoch_alone():
    first = shuffle_rows(20, seed=1, epoch=0).tolist()
    assert sorted(first) == list(range(20))
    assert first == shuffle_rows(20, seed=1, epoch=0).tolist()
    assert first != shuffle_rows(20, seed=1, epoch=1).tolist()
    assert first != shuffle_rows(20, seed=2, epoch=0).tolist()
    assert shuffle_rows(0).tolist() == []


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.integers(1, 7),
    st.integers(1, 20),
    st.integers(0, 3),
)
def test_every_label_once_in_groups_of_one_picture(images, size, batch, seed):
    image_of = np.array(images)
    rows, leader = group_by_image(image_of, size, batch, seed=seed, epoch=2)
    assert sorted(rows) == list(range(len(images)))
    assert (image_of[leader] == image_of).all()
    assert (leader[leader] == leader).all()
    assert np.bincount(leader).max() <= min(size, batch)
    groups = leader[rows]
    runs = 1 + np.count_nonzero(np.diff(groups))
    assert runs == len(np.unique(groups))  # the rows of a group are adjacent
    for start in range(0, len(rows), batch):
        inside = np.isin(rows, rows[start : start + batch])
        assert not np.isin(groups[inside], groups[~inside]).any()  # no group spans two batches


def test_groups_are_as_large_as_batches_allow():
    image_of = np.repeat(np.arange(20), 4)
    _, leader = group_by_image(image_of, 4, 8, seed=1)
    assert len(np.unique(leader)) == 20
    mixed = np.repeat(np.arange(30), np.tile([1, 2, 3, 4, 5], 6))
    _, leader = group_by_image(mixed, 5, 8, seed=1)
    assert len(np.unique(leader)) <= 33  # 30 pictures, few of them split by a batch's end
    assert len(np.unique(group_by_image(mixed, 1, 8)[1])) == len(mixed)


def test_groups_change_with_epoch_and_seed_alone():
    image_of = np.repeat(np.arange(10), 5)
    first, again, later, other = (
        group_by_image(image_of, 2, 8, seed=seed, epoch=epoch)
        for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], later[0])
    assert not np.array_equal(first[1], later[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("count", [0, 1])
def test_few_labels(count):
    rows, leader = group_by_image(np.zeros(count, dtype=np.int64), 4, 8)
    assert rows.tolist() == leader.tolist() == list(range(count))
