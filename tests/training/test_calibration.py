"""Calibrate a quality head on foreign expressions, some of which fit the image after all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipvg.training.calibration import Foreign, _weigh_present

SAID = ["red dog", "the red dog on the left", "cat", "left", "dog", "a cat"]
IMAGE_OF = np.array([0, 0, 0, 1, 1, 2])


def test_what_is_said_of_an_image_fits_it() -> None:
    foreign = Foreign(SAID, IMAGE_OF)
    rows, images = np.array([3, 4, 0, 2, 4]), np.array([0, 0, 1, 2, 1])
    assert foreign.fits(rows, images).tolist() == [True, True, False, True, False]


def test_what_is_missed_is_estimated_among_expressions_as_long() -> None:
    foreign = Foreign(["dog", "dog", "cat", "red dog", "black cat"], np.array([0, 0, 0, 0, 1]))
    # Two of three labels of one word fit another label of their image; of two words, none does.
    rows, found = np.array([0, 1, 2, 3, 3]), np.array([True, True, False, True, False])
    assert foreign.missed(rows, found) == pytest.approx(min(2 * (3 / 2 - 1) / 2, 0.5))
    assert foreign.missed(rows, np.zeros(5, bool)) == 0


def test_foreign_expressions_that_fit_make_nothing_less_present() -> None:
    torch.manual_seed(0)
    share, count = 0.2, 4000
    own, fits = torch.arange(2 * count) < count, torch.rand(2 * count) < share
    signs = torch.randn(2 * count, 1) + 2.0 * torch.where(own | fits, 1, -1)[:, None]
    weights, bias = _weigh_present(signs, own, share)
    assert 3 < weights.item() < 4.5  # 4, for two normal distributions this far apart
    assert abs(bias.item()) < 0.3
    naive, _ = _weigh_present(signs, own, 0.0)
    assert naive.item() < 2
