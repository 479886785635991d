"""Faster computations on a CPU equal the plain ones, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from clipvg.data import Batch
from clipvg.features.cache import Encoder
from clipvg.model import GroundingModel, create_model, grounder
from clipvg.model.fast.fusion import dropout
from clipvg.ops.linear import fast_cpu, linear, takes_onednn
from clipvg.training.losses import box_losses


@pytest.fixture(autouse=True)
def packs_small_encoders_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grounder, "LEAST_PACKED_WIDTH", 0)


def make_model(**options) -> GroundingModel:
    torch.manual_seed(0)
    small = {"width": 32, "layers": 3, "heads": 4, "feedforward": 64, "dropout": 0.0}
    return create_model("clipvg-tiny", None, **small | options)


def make_batch(model: GroundingModel) -> Batch:
    """Return seven labels on three pictures that fill all, half and a corner of their squares."""
    torch.manual_seed(1)
    size = model.backbone.image_size
    mask = torch.zeros(3, size, size, dtype=torch.bool)
    mask[1, size // 2 :] = True
    mask[2, size // 4 :] = mask[2, :, size // 3 :] = True
    texts = ["red", "the blue ring left of the square", "a", "", "ring", "bar on the left", "dog"]
    tokens, text_mask = model.tokenize(texts)
    return Batch(
        images=torch.randn(3, 3, size, size) * ~mask[:, None],
        pixel_mask=mask,
        image_index=torch.tensor([0, 2, 1, 1, 0, 2, 2]),
        tokens=tokens,
        text_mask=text_mask,
        target=torch.rand(7, 4),
        row=torch.arange(7),
    )


def outcome(model: GroundingModel, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    boxes = model(batch)
    sum(box_losses(boxes, batch.target)).mean().backward()
    learning = {n: p for n, p in model.named_parameters() if p.requires_grad}
    return boxes.detach(), {n: p.grad.clone() for n, p in learning.items()}


@pytest.mark.parametrize("options", [{}, {"visual": "last"}, {"train_visual_positions": True}])
def test_packed_sequences_give_the_boxes_and_gradients_of_padded_ones(options) -> None:
    model = make_model(**options)
    batch = make_batch(model)
    expected, wanted = outcome(model, batch)
    with fast_cpu():
        boxes, gradients = outcome(model, batch)
    torch.testing.assert_close(boxes, expected)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-6, rtol=1e-4, msg=name)


def test_packed_training_with_dropout_has_the_same_mean() -> None:
    model = make_model(dropout=0.2).train()
    encoded = Encoder(model)(make_batch(model))
    with torch.no_grad():
        padded = torch.stack([encoded.predict(model) for _ in range(200)])
        with fast_cpu():
            packed = torch.stack([encoded.predict(model) for _ in range(200)])
    error = (packed.var(0) + padded.var(0)).div(200).sqrt()
    assert ((packed.mean(0) - padded.mean(0)).abs() < 5 * error).all()
    assert (packed.std(0) / padded.std(0) - 1).abs().mean() < 0.15


def test_encoded_batches_give_the_same_boxes() -> None:
    model = make_model().eval()
    batch = make_batch(model)
    with torch.no_grad():
        expected = model(batch)
        with fast_cpu():
            torch.testing.assert_close(Encoder(model)(batch).predict(model), expected)
        with torch.autocast("cpu", torch.bfloat16):
            reduced = Encoder(model, torch.bfloat16)(batch)
            boxes = reduced.predict(model)
    assert reduced.image_features.dtype == reduced.text.dtype == torch.bfloat16
    assert (boxes - expected).abs().max() < 0.02


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_pytorchs(bias: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 90, 256, requires_grad=True)
    weight = torch.randn(192, 256, requires_grad=True)
    offset = torch.randn(192, requires_grad=True) if bias else None
    given = [t for t in (x, weight, offset) if t is not None]
    with fast_cpu():
        out = linear(x, weight, offset)
    assert out.grad_fn is not None
    assert "OneDnn" in type(out.grad_fn).__name__ or not torch.backends.mkldnn.is_available()
    towards = torch.randn_like(out)
    found = torch.autograd.grad(out, given, towards)
    precise = F.linear(*(t if t is None else t.double() for t in (x, weight, offset)))
    wanted = torch.autograd.grad(precise, given, towards.double())
    torch.testing.assert_close(out.double(), precise, atol=1e-4, rtol=1e-5)
    for gradient, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("rows", [0, 1])
def test_linear_of_few_rows(rows: int) -> None:
    x, weight = torch.randn(rows, 8), torch.randn(4, 8)
    with fast_cpu():
        found = linear(x, weight)
    assert torch.equal(found, F.linear(x, weight))


def test_linear_of_one_row_and_many_weights() -> None:
    x, weight = torch.randn(1, 2048), torch.randn(2048, 2048)
    with fast_cpu():
        assert takes_onednn(x, weight) or not torch.backends.mkldnn.is_available()
        found = linear(x, weight)
    torch.testing.assert_close(found, F.linear(x, weight), atol=1e-3, rtol=1e-5)


def test_linear_on_onednn_refuses_a_second_derivative() -> None:
    x, weight = torch.randn(90, 256, requires_grad=True), torch.randn(192, 256, requires_grad=True)
    with fast_cpu():
        if not takes_onednn(x, weight):
            pytest.skip("this PyTorch has no oneDNN")
        out = linear(x, weight).square().sum()
        (first,) = torch.autograd.grad(out, x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            first.sum().backward()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(1000, 1001), (3,)])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(rate: float, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.ones(shape, requires_grad=True)
    y = dropout(x, rate)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    kept = y[y != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)), rtol=2e-4, atol=0)
    if y.numel() > 1000:
        share = (y == 0).float().mean().item()
        assert share == pytest.approx(rate, abs=5 * (rate * (1 - rate) / y.numel()) ** 0.5 + 1e-5)
        flat = (y.detach() == 0).float().flatten()
        for lag in (1, 2, 3, 4, 1001):  # within one 64-bit draw, and beyond
            together = (flat[:-lag] * flat[lag:]).mean().item()
            assert together == pytest.approx(rate**2, abs=2e-3)


def test_dropout_at_a_rate_next_to_one_keeps_a_few() -> None:
    torch.manual_seed(0)
    y = dropout(torch.ones(1 << 20), 1 - 2**-20)
    assert set(y.unique().tolist()) == {0, 2.0**16}
    assert 0 < (y != 0).sum() < 64  # 16 expected


def test_dropout_follows_the_generator() -> None:
    x = torch.randn(100)
    torch.manual_seed(3)
    first = dropout(x, 0.3)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x, 0.3))
    assert not torch.equal(first, dropout(x, 0.3))
    assert dropout(x, 0.0) is x
