"""From distances and ranks to [0, 1]; geometry of boxes and patches."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
import torch

from clipvg.errors import InputError, MissingExtraError
from clipvg.measures.attention import patch_coverage
from clipvg.measures.common.scales import conformal, extra, halving, ranks
from clipvg.ops.boxes import overlap


def test_halving_gives_half_at_the_scale() -> None:
    values = halving([0, 1, 2, np.inf, np.nan], scale=1.0)
    np.testing.assert_array_equal(values, np.float32([1, 0.5, 0.25, 0, np.nan]))


def test_halving_takes_the_median_and_survives_zeros() -> None:
    assert halving([1.0, 2.0, 9.0])[1] == 0.5
    assert halving([0.0, 0.0, 0.0, 4.0]).tolist() == [1, 1, 1, 0.5]
    assert halving([0.0, 0.0]).tolist() == [1, 1]
    assert halving([]).shape == (0,)
    with pytest.raises(InputError, match="scale is -1"):
        halving([1.0], scale=-1)


def test_conformal_counts_what_lies_further_out() -> None:
    reference = [1.0, 2.0, 3.0, 4.0]
    found = conformal(reference, [0.0, 2.0, 5.0, np.nan], own=False)
    np.testing.assert_allclose(found, [5 / 5, 4 / 5, 1 / 5, np.nan])
    np.testing.assert_allclose(conformal(reference, reference, own=True), [1, 0.75, 0.5, 0.25])


def test_ranks_share_ties_and_skip_what_is_not_scored() -> None:
    found = ranks([[3.0, 1.0, np.nan, 1.0], [np.nan] * 4])
    np.testing.assert_allclose(found[0], [1, 0.5, np.nan, 0.5])
    assert np.isnan(found[1]).all()


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(MissingExtraError, match=r"clusters needs .* 'clipvg\[measures\]'"):
        extra("sklearn.cluster", "clusters")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0.5, 0.5, 1, 1], [0.5, 0.5, 1, 1], 1),
        ([0.5, 0.5, 1, 1], [0.25, 0.25, 0.5, 0.5], 0.25),
        ([0.25, 0.5, 0.5, 1], [0.75, 0.5, 0.5, 1], 0),
        ([1.0, 0.5, 1, 1], [0.75, 0.5, 0.5, 1], 1),  # clamped to the square
        ([0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], 0),
    ],
)
def test_overlap(a: list[float], b: list[float], expected: float) -> None:
    assert overlap(torch.tensor(a), torch.tensor(b)).item() == pytest.approx(expected)


def test_patch_coverage_by_hand() -> None:
    # Left half and a quarter of a patch: columns 0 full, column 1 half, rows 0 only.
    box = torch.tensor([[0.375, 0.25, 0.75, 0.5]])
    assert patch_coverage(box, 2).tolist() == [[1, 0.5, 0, 0]]
    outside = torch.tensor([[1.5, 1.5, 0.5, 0.5]])
    assert patch_coverage(outside, 2).sum() == 0


def test_patch_coverage_adds_up_to_the_area() -> None:
    torch.manual_seed(0)
    boxes = torch.rand(50, 4) * 0.4 + torch.tensor([0.3, 0.3, 0.0, 0.0])
    area = boxes[:, 2] * boxes[:, 3]
    torch.testing.assert_close(patch_coverage(boxes, 7).sum(1) / 49, area)
