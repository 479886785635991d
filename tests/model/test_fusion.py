"""The fusion encoder against torch's own attention, written out as the paper says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from clipvg.model.fusion import FusionEncoder, keep_mask


def reference(encoder: FusionEncoder, x: Tensor, position: Tensor, keep: Tensor) -> Tensor:
    for layer in encoder.layers:
        placed = x + position
        mixed, _ = layer.self_attn(placed, placed, x, key_padding_mask=~keep)
        x = layer.norm1(x + mixed)
        x = layer.norm2(x + layer.linear2(F.relu(layer.linear1(x))))
    return x[:, 0]


@pytest.mark.parametrize(("layers", "length"), [(1, 1), (1, 9), (3, 9), (6, 40)])
def test_equals_multihead_attention(layers: int, length: int) -> None:
    torch.manual_seed(0)
    encoder = FusionEncoder(32, layers, 4, 48).double().eval()
    x = torch.randn(5, length, 32, dtype=torch.double, requires_grad=True)
    position = torch.randn(length, 32, dtype=torch.double)
    keep = torch.rand(5, length) < 0.6
    keep[:, 0] = True
    ours, theirs = encoder(x, position, keep), reference(encoder, x, position, keep)
    assert_close(ours, theirs)
    assert_close(
        torch.autograd.grad(ours.square().sum(), x), torch.autograd.grad(theirs.square().sum(), x)
    )


def test_last_state_is_what_the_encoder_returns() -> None:
    torch.manual_seed(0)
    encoder = FusionEncoder(32, 3, 4, 48).eval()
    x, position = torch.randn(2, 7, 32), torch.randn(7, 32)
    keep = torch.ones(2, 7, dtype=torch.bool)
    *_, last = encoder.states(x, position, keep)
    assert_close(encoder(x, position, keep), last[:, 0])


def test_parameters_have_the_names_of_torch() -> None:
    ours = FusionEncoder(32, 1, 4, 48).layers[0].state_dict()
    theirs = nn.TransformerEncoderLayer(32, 4, 48).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_masked_tokens_change_nothing() -> None:
    torch.manual_seed(0)
    encoder = FusionEncoder(32, 2, 4, 48).eval()
    x, position = torch.randn(2, 6, 32), torch.randn(6, 32)
    keep = torch.ones(2, 6, dtype=torch.bool)
    keep[:, 4:] = False
    short = encoder(x[:, :4], position[:4], keep[:, :4])
    x[:, 4:] = 1e4
    assert_close(encoder(x, position, keep), short)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    encoder = FusionEncoder(32, 2, 4, 48, dropout=0.5)
    x, position = torch.randn(2, 6, 32), torch.randn(6, 32)
    keep = torch.ones(2, 6, dtype=torch.bool)
    assert (encoder(x, position, keep) - encoder(x, position, keep)).abs().max() > 0.1
    encoder.eval()
    assert torch.equal(encoder(x, position, keep), encoder(x, position, keep))


def test_initial_weights_are_xavier_with_zero_attention_bias() -> None:
    torch.manual_seed(0)
    encoder = FusionEncoder(64, 1, 4, 256)
    weight = encoder.layers[0].linear1.weight
    assert weight.abs().max() <= (6 / (64 + 256)) ** 0.5
    assert weight.std().item() == pytest.approx((2 / (64 + 256)) ** 0.5, rel=0.05)
    assert not encoder.layers[0].self_attn.in_proj_bias.any()


def test_reg_and_cls_are_always_kept() -> None:
    text = torch.tensor([[True, False]])
    ignored = torch.tensor([[True, True, False]])
    assert keep_mask(text, ignored).tolist() == [[True, True, False, True, False, False, True]]
