"""Where a model looks: `GroundingModel.attention`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from clipvg.errors import InputError
from clipvg.model import GroundingModel, attention

Make = Callable[..., GroundingModel]
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def test_each_expression_has_a_map_of_the_whole_image(make_model: Make) -> None:
    model = make_model()  # its square has 32 x 32 pixels
    texts = [f"dog {number}" for number in range(attention._AT_ONCE + 2)]
    maps = model.attention(IMAGE, texts)
    assert maps.shape == (len(texts), 21, 32)
    np.testing.assert_allclose(maps.sum((1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(model.attention(IMAGE, texts[-1])[0], maps[-1], atol=1e-7)
    assert model.attention(IMAGE, []).shape == (0, 21, 32)
    with pytest.raises(InputError, match="blank"):
        model.attention(IMAGE, " ")


def test_a_map_shows_the_patch_that_is_looked_at(
    make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()  # four by four patches of 8 pixels, the image in the middle two rows
    weights = torch.zeros(1, 1, 99)
    weights[0, 0, -16 + 4 * 2 + 3] = 0.5  # third row, fourth column
    monkeypatch.setattr(model.fusion, "reg_attention", lambda *_, **__: weights)
    heat = model.attention(IMAGE, "dog")[0]
    rows, columns = np.nonzero(heat == heat.max())
    assert columns.min() >= 26  # the right end
    assert 12 <= rows.mean() <= 16  # 5 rows of padding above, then 16 + 4 - 5
