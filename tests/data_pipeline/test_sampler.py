import itertools

import pytest

from clipvg.data.sampler import EpochOrder
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
