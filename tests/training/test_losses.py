from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torchvision.ops import box_convert, generalized_box_iou_loss

from clipvg.labels import ReadOptions, read_labels
from clipvg.model.zoo import load
from clipvg.training import FeatureCache, box_losses


@pytest.fixture(scope="module")
def published(data_dir: Path) -> dict:
    return json.loads((data_dir / "official_mini" / "losses.json").read_text())


def published_boxes(published: dict) -> tuple[torch.Tensor, torch.Tensor]:
    pred = torch.tensor(published["pred_cxcywh"], requires_grad=True)
    return pred, torch.tensor(published["random_targets_cxcywh"])


def test_published_losses_per_label(published: dict) -> None:
    l1, giou = box_losses(*published_boxes(published))
    for values, name in ((l1, "loss_bbox"), (giou, "loss_giou")):
        expected = torch.tensor([sample[name] for sample in published["per_sample"]])
        torch.testing.assert_close(values, expected, atol=1e-5, rtol=0)


def test_published_mean_losses_and_gradient(published: dict) -> None:
    pred, target = published_boxes(published)
    l1, giou = box_losses(pred, target)
    assert l1.mean().item() == pytest.approx(published["loss_bbox"], abs=1e-5)
    assert giou.mean().item() == pytest.approx(published["loss_giou"], abs=1e-5)
    loss = (l1 + giou).mean()
    assert loss.item() == pytest.approx(published["total"], abs=1e-5)
    loss.backward()
    expected = torch.tensor(published["grad_wrt_pred"])
    torch.testing.assert_close(pred.grad, expected, atol=1e-5, rtol=0)


def test_giou_is_torchvisions(seeded: int) -> None:
    pred = (torch.rand(200, 4, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()
    target = torch.rand(200, 4, dtype=torch.float64) * 0.8 + 0.1
    ours = box_losses(pred, target)[1]
    corners = (box_convert(boxes, "cxcywh", "xyxy") for boxes in (pred, target))
    theirs = generalized_box_iou_loss(*corners, eps=1e-16)
    torch.testing.assert_close(ours, theirs.float(), atol=1e-5, rtol=1e-5)
    mine, reference = (torch.autograd.grad(v.sum(), pred)[0] for v in (ours, theirs))
    torch.testing.assert_close(mine, reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("pred", "target", "expected"),
    [
        ([0.5, 0.5, 0.2, 0.4], [0.5, 0.5, 0.2, 0.4], 0.0),  # identical
        ([0.5, 0.5, 1.0, 1.0], [0.5, 0.5, 0.5, 0.5], 0.75),  # nested quarter
        ([0.25, 0.5, 0.5, 1.0], [0.75, 0.5, 0.5, 1.0], 1.0),  # side by side
        ([0.25, 0.25, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5], 1.5),  # diagonal
        ([0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], 1.0),  # two empty boxes at one place
        ([0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 1.0, 1.0], 1.0),  # an empty box in the whole square
    ],
)
def test_giou_by_hand(pred: list[float], target: list[float], expected: float) -> None:
    boxes = torch.tensor([pred], requires_grad=True)
    giou = box_losses(boxes, torch.tensor([target]))[1]
    assert giou.item() == pytest.approx(expected, abs=1e-6)
    giou.sum().backward()
    assert torch.isfinite(boxes.grad).all()


def test_no_labels_and_half_precision() -> None:
    l1, giou = box_losses(torch.zeros(0, 4), torch.zeros(0, 4))
    assert l1.shape == giou.shape == (0,)
    box = torch.rand(3, 4).half()
    assert box_losses(box, box)[0].dtype == torch.float32


def test_published_gradients_of_the_parameters(data_dir: Path, published: dict) -> None:
    """Labels, pictures, features, boxes and loss together give the published gradients."""
    folder = data_dir / "official_mini"
    images = folder / "images" / "other" / "images" / "mscoco" / "images" / "train2014"
    labels = read_labels(
        folder / "unc" / "unc_train_pseudo.pth", images=images, options=ReadOptions(layout="unc")
    )
    labels = labels.select(published["indices_in_unc_train_pseudo"])
    model = load(folder / "best_checkpoint.pth").eval()
    batch = FeatureCache(model, labels).view(labels).batch(range(len(labels)))
    boxes = batch.predict(model)
    torch.testing.assert_close(boxes, torch.tensor(published["pred_cxcywh"]), atol=1e-5, rtol=0)
    l1, giou = box_losses(boxes, torch.tensor(published["random_targets_cxcywh"]))
    (l1 + giou).mean().backward()
    norms = published["param_grad_norm"]
    pairs = {
        "text_proj": model.text_projection.weight,
        "reg_token": model.reg_token.weight,
        "vl_pos_embed": model.position.weight,
    }
    for name, parameter in pairs.items():
        assert parameter.grad.norm().item() == pytest.approx(norms[f"{name}.weight"], rel=1e-4)
