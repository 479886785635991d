from __future__ import annotations

import numpy as np
import pytest

from clipvg.reliability.histogram import auroc


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([0.9, 0.8, 0.2, 0.1], 1.0), ([0.1, 0.2, 0.8, 0.9], 0.0), ([0.5, 0.5, 0.5, 0.5], 0.5)],
)
def test_auroc(scores: list[float], expected: float) -> None:
    positive = np.array([True, True, False, False])
    assert auroc(np.array(scores), positive) == expected
