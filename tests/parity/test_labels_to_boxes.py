"""From label files and pictures to the reference's targets, boxes, reliabilities and counts."""

from __future__ import annotations

import json
import operator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.tolerances import TOLERANCES
from torch.testing import assert_close

from clipvg.data.dataset import LabelDataset, collate
from clipvg.labels import LabelTable, read_labels
from clipvg.model import GroundingModel
from clipvg.ops import box_reliability
from clipvg.training.losses import box_losses

ROOTS = {
    "unc": "images/other/images/mscoco/images/train2014",
    "flickr": "images/Flickr30k/flickr30k-images",
    "referit": "images/referit/images",
}


def read(mini: Path, name: str) -> LabelTable:
    file = mini / name / f"{name}_train_pseudo.pth"
    return read_labels(file, images=mini / ROOTS[name])


def dataset(model: GroundingModel, labels: LabelTable) -> LabelDataset:
    return LabelDataset(labels, model.tokenize, model.backbone.image_size, model.preset)


def run(model: GroundingModel, labels: LabelTable) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the predictions and targets of all labels."""
    samples = dataset(model, labels)
    boxes, targets = [], []
    with torch.no_grad():
        for start in range(0, len(samples), 24):
            batch = collate(samples.__getitems__(range(start, min(start + 24, len(samples)))))
            boxes.append(model(batch))
            targets.append(batch.target)
    return torch.cat(boxes), torch.cat(targets)


@pytest.fixture(scope="module")
def stored(mini: Path) -> dict[str, Any]:
    return json.loads((mini / "reliability.json").read_text(encoding="utf-8"))["sets"]


@pytest.mark.parametrize("name", list(ROOTS))
def test_targets_boxes_and_reliabilities(
    published: GroundingModel, mini: Path, stored: dict[str, Any], name: str
) -> None:
    truth = stored[name]
    boxes, targets = run(published, read(mini, name))
    column = {k: torch.tensor([row[k] for row in truth["labels"]]) for k in ("pred_cxcywh", "iou")}
    assert_close(boxes, column["pred_cxcywh"], **TOLERANCES["golden_boxes"])
    theirs = torch.tensor([row["target_cxcywh"] for row in truth["labels"]])
    assert_close(targets, theirs, rtol=0.0, atol=1e-6)
    iou = box_reliability(boxes, targets)[0][0]
    assert_close(iou, column["iou"], **TOLERANCES["golden_reliability"])
    compare = {">": operator.gt, "==": operator.eq}
    for rule, count in truth["kept_at_threshold"].items():
        sign, threshold = rule.split()
        kept = compare[sign](iou.double().numpy(), float(threshold))
        assert int(np.sum(kept)) == count, rule
    accuracy = float((iou >= 0.5).double().mean())
    assert accuracy == pytest.approx(truth["acc_at_0.5"])


def test_boxes_with_whole_sides_need_no_cut(published: GroundingModel, mini: Path) -> None:
    """Cutting to integers changes nothing where coordinates are whole, and does elsewhere."""
    labels = read(mini, "unc")
    xyxy, cut = labels.boxes(), labels.boxes(integer=True)
    whole = (xyxy == np.trunc(xyxy)).all(axis=1)
    assert 0 < whole.sum() < len(labels)
    np.testing.assert_array_equal(xyxy[whole], cut[whole])
    assert (xyxy != cut).any(axis=1)[~whole].all()


def test_losses_and_gradients(published: GroundingModel, mini: Path) -> None:
    """Losses of a batch of 16 against random targets, and the gradient norm of each parameter."""
    stored = json.loads((mini / "losses.json").read_text(encoding="utf-8"))
    samples = dataset(published, read(mini, "unc"))
    batch = collate(samples.__getitems__(stored["indices_in_unc_train_pseudo"]))
    published.zero_grad()
    boxes = published(batch)
    target = torch.tensor(stored["random_targets_cxcywh"])
    assert_close(boxes, torch.tensor(stored["pred_cxcywh"]), **TOLERANCES["golden_boxes"])
    l1, giou = box_losses(boxes, target)
    assert l1.mean().item() == pytest.approx(stored["loss_bbox"], abs=1e-5)
    assert giou.mean().item() == pytest.approx(stored["loss_giou"], abs=1e-5)
    (l1.mean() + giou.mean()).backward()
    norms = stored["param_grad_norm"]
    names = {"text_projection": "text_proj", "visual_projection": "ml_visu_proj"}
    for ours, theirs in names.items():
        weight = published.get_submodule(ours).weight
        assert float(weight.grad.norm()) == pytest.approx(norms[f"{theirs}.weight"], rel=1e-4)
    for name, parameter in published.fusion.named_parameters():
        norm = norms[f"vl_transformer.encoder.{name}"]
        assert float(parameter.grad.norm()) == pytest.approx(norm, rel=1e-3, abs=1e-5), name
    published.zero_grad()
