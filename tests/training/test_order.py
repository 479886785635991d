from __future__ import annotations

import numpy as np
import pytest

from clipvg.training.distributed import World
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
