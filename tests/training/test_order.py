from __future__ import annotations

import numpy as np
import pytest

from clipvg.runtime.distributed import World
from clipvg.training.order import Order


def test_an_epoch_visits_every_label_once() -> None:
    order = Order(num_labels=23, effective_batch=5, batch_size=5, drop_last=False)
    rows = np.concatenate([order.rows(step) for step in range(order.steps_per_epoch)])
    assert sorted(rows) == list(range(23))
    later = np.concatenate([order.rows(step) for step in range(5, 10)])
    assert sorted(later) == list(range(23))
    assert not np.array_equal(rows, later)


def test_drop_last_leaves_out_the_rest_and_small_sets_are_one_batch() -> None:
    assert Order(num_labels=23, effective_batch=5, batch_size=5).steps_per_epoch == 4
    small = Order(num_labels=3, effective_batch=5, batch_size=5)
    assert small.steps_per_epoch == 1
    assert len(small.rows(0)) == 3


@pytest.mark.parametrize(("world", "batch_size"), [(1, 8), (1, 3), (2, 4), (4, 1), (3, 8)])
def test_processes_and_parts_share_the_same_batch(world: int, batch_size: int) -> None:
    whole = Order(num_labels=30, effective_batch=8, batch_size=8, seed=7)
    seen = []
    for rank in range(world):
        order = Order(30, 8, batch_size, seed=7, world=World(rank, world))
        seen += [part.rows for part in order.parts(5)]
    assert sorted(np.concatenate(seen)) == sorted(whole.rows(5))


def test_a_process_without_rows_takes_part_without_counting() -> None:
    order = Order(9, 8, 4, drop_last=False, world=World(1, 2))
    (part,) = order.parts(1)
    assert not part.counts
    assert len(part.rows) == 1


def test_the_order_depends_on_the_seed_alone() -> None:
    first, again, other = (Order(50, 10, 10, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.rows(7), again.rows(7))
    assert not np.array_equal(first.rows(7), other.rows(7))


@pytest.mark.parametrize(("world", "batch_size"), [(1, 12), (1, 4), (2, 6), (3, 4), (12, 1)])
def test_groups_stay_whole_however_the_batch_is_split(world: int, batch_size: int) -> None:
    image_of = np.repeat(np.arange(10), 5)
    options = {"seed": 7, "image_of": image_of, "group": 3}
    whole = Order(50, 12, 12, **options)
    for step in range(9):  # into the third epoch
        seen, leader = [], whole.leader(step // whole.steps_per_epoch)
        assert leader is not None
        for rank in range(world):
            order = Order(50, 12, batch_size, world=World(rank, world), **options)
            seen += [part for part in order.parts(step) if part.counts]
        assert sorted(np.concatenate([part.rows for part in seen])) == sorted(whole.rows(step))
        groups = [set(leader[part.rows]) for part in seen]
        assert sum(map(len, groups)) == len(set.union(*groups))
        assert all(len(part.rows) <= batch_size + 3 for part in seen)


def test_groups_of_one_are_the_published_order() -> None:
    image_of = np.repeat(np.arange(10), 5)
    plain, one = Order(50, 8, 8, seed=3), Order(50, 8, 8, seed=3, image_of=image_of, group=1)
    assert np.array_equal(plain.rows(9), one.rows(9))
    assert one.leader(0) is None
