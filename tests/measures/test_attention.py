"""[REG]'s attention against torch's own attention module, mass and entropy by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.one_label import one_row
from support.tiny import make_labels, make_model

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.measures import AttentionEntropy, AttentionMass
from clipvg.measures.attention import entropy, patch_coverage
from clipvg.model import GroundingModel
from clipvg.reliability import Context, measure


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelTable:
    return make_labels(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def model() -> GroundingModel:
    return make_model(layers=3)


def weights_by_torch(model: GroundingModel, labels: LabelTable, row: int) -> list[torch.Tensor]:
    """Return the attention (S,) of [REG] in every layer, from nn.MultiheadAttention itself."""
    tokens, position, keep = one_row(model, labels, row)[:3]
    found, x = [], tokens
    states = list(model.fusion.states(tokens, position, keep))
    for layer, after in zip(model.fusion.layers, states, strict=True):
        _, weights = layer.self_attn(
            x + position, x + position, x, key_padding_mask=~keep, need_weights=True
        )
        found.append(weights[0, 0])
        x = after
    return found


@pytest.mark.parametrize("layers", ["last", "all"])
def test_reg_attention_equals_torch(model: GroundingModel, labels: LabelTable, layers: str) -> None:
    row = labels.image_names.index("2.png")  # with patches of padding
    with torch.no_grad():
        expected = weights_by_torch(model, labels, row)
        tokens, position, keep = one_row(model, labels, row)[:3]
        found = model.fusion.reg_attention(tokens, position, keep, last_only=layers == "last")
    wanted = expected[-1:] if layers == "last" else expected
    torch.testing.assert_close(found[:, 0], torch.stack(wanted))
    assert found[:, ~keep].abs().max() == 0


@pytest.mark.parametrize("adjust", [False, True])
def test_mass_and_entropy_equal_one_label_at_a_time(
    model: GroundingModel, labels: LabelTable, adjust: bool
) -> None:
    mass = measure(AttentionMass(model, adjust=adjust), labels, Context()).values
    narrow = measure(AttentionEntropy(model), labels, Context()).values
    for row in range(len(labels)):
        with torch.no_grad():
            _, _, keep, target = one_row(model, labels, row)
            patches = model.backbone.grid**2
            weights = weights_by_torch(model, labels, row)[-1][-patches:]
        weights = weights / weights.sum()
        real = keep[0, -patches:]
        inside = patch_coverage(target, model.backbone.grid)[0]
        expected = float((weights * inside).sum())
        if adjust:
            expected /= expected + float(inside[real].sum() / real.sum())
        assert mass[row] == pytest.approx(expected, abs=1e-5)
        spread = -(weights[real] * weights[real].log()).sum() / math.log(int(real.sum()))
        assert narrow[row] == pytest.approx(1 - float(spread), abs=1e-5)


def test_a_box_over_everything_holds_all_attention(
    model: GroundingModel, labels: LabelTable
) -> None:
    whole = labels.with_column("box", np.tile([-500, -500, 900, 900], (len(labels), 1)))
    np.testing.assert_allclose(measure(AttentionMass(model), whole, Context()).values, 1, atol=1e-5)
    half = measure(AttentionMass(model, adjust=True), whole, Context()).values
    np.testing.assert_allclose(half, 0.5, atol=1e-5)


def test_entropy_by_hand() -> None:
    shares = torch.tensor([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0], [1, 0, 0, 0]])
    found = entropy(shares, torch.tensor([4, 4, 4, 1]))
    torch.testing.assert_close(found, torch.tensor([1, 0, 0.5, 0]))


def test_unknown_layers_are_refused(model: GroundingModel) -> None:
    with pytest.raises(InputError, match="layers is 'lst', expected one of 'last', 'all'"):
        AttentionMass(model, layers="lst")
