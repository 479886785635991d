import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipvg.data.sampler import EpochOrder, group_by_image
from clipvg.errors import InputError


def rows(order):
    return list(itertools.chain.from_iterable(order))


@pytest.mark.parametrize("n", [0, 1, 7, 12, 13])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_once_over_all_processes(n, world, shuffle):
    orders = [
        EpochOrder(n, 4, seed=1, rank=rank, world=world, shuffle=shuffle) for rank in range(world)
    ]
    assert sorted(itertools.chain.from_iterable(map(rows, orders))) == list(range(n))
    for order in orders:
        assert len(order) == len(list(order))
        assert all(0 < len(batch) <= 4 for batch in order)


def test_epochs_differ_and_repeat():
    first = rows(EpochOrder(20, 4, seed=1, epoch=0))
    assert first == rows(EpochOrder(20, 4, seed=1, epoch=0))
    assert first != rows(EpochOrder(20, 4, seed=1, epoch=1))
    assert first != rows(EpochOrder(20, 4, seed=2, epoch=0))
    order = EpochOrder(20, 4, seed=1)
    order.epoch = 1
    assert rows(order) == rows(EpochOrder(20, 4, seed=1, epoch=1))


def test_global_batch_does_not_depend_on_the_number_of_processes():
    one = list(EpochOrder(40, 12, seed=5, drop_last=True))
    three = zip(
        *(EpochOrder(40, 4, seed=5, rank=rank, world=3, drop_last=True) for rank in range(3)),
        strict=True,
    )
    assert one == [list(itertools.chain(*parts)) for parts in three]


def test_drop_last_gives_equal_counts():
    for n in range(0, 30):
        orders = [EpochOrder(n, 4, rank=rank, world=2, drop_last=True) for rank in range(2)]
        counts = {len(order) for order in orders}
        assert counts == {n // 8}
        assert all(len(batch) == 4 for order in orders for batch in order)


def test_resumes_at_a_batch():
    whole = list(EpochOrder(22, 4, seed=2))
    assert list(EpochOrder(22, 4, seed=2, start=3)) == whole[3:]
    assert len(EpochOrder(22, 4, seed=2, start=3)) == len(whole) - 3
    assert len(EpochOrder(22, 4, start=99)) == 0


def test_in_order_processes_get_contiguous_ranges():
    assert rows(EpochOrder(7, 2, shuffle=False, rank=0, world=2)) == [0, 1, 2, 3]
    assert rows(EpochOrder(7, 2, shuffle=False, rank=1, world=2)) == [4, 5, 6]


def test_bad_arguments():
    for options in ({"batch_size": 0}, {"batch_size": 1, "rank": 2, "world": 2}):
        with pytest.raises(InputError, match="expected a batch size >= 1"):
            EpochOrder(5, **options)


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
    assert runs == len(np.unique(groups))  # side by side
    for start in range(0, len(rows), batch):
        inside = np.isin(rows, rows[start : start + batch])
        assert not np.isin(groups[inside], groups[~inside]).any()  # no group in two batches


def test_groups_are_as_large_as_batches_allow():
    image_of = np.repeat(np.arange(20), 4)
    _, leader = group_by_image(image_of, 4, 8, seed=1)
    assert len(np.unique(leader)) == 20
    mixed = np.repeat(np.arange(30), np.tile([1, 2, 3, 4, 5], 6))
    _, leader = group_by_image(mixed, 5, 8, seed=1)
    assert len(np.unique(leader)) <= 33  # 30 pictures, hardly any cut by a batch's end
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
