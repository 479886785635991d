"""The training step of the reference code: the baseline of the training benchmark.

Every label has its own image; the image tower's position table is trained, so that gradients go
back through the whole tower; 77 text tokens and 1 + 77 + 1 + P fusion tokens (275 for ViT-B/16);
post-norm layers whose `nn.MultiheadAttention` returns its weights; dropout 0.1; float32; one AdamW
over all trained parameters. The loss is L1 (sum over coordinates) + GIoU, the latter as the
diagonal of all pairs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou

from clipvg.data import Batch
from clipvg.model import GroundingModel

sys.path.insert(0, str(Path(__file__).parent))
from reference_rescoring import ReferenceModel, Stats

LR, WEIGHT_DECAY = 2.5e-4, 1e-4


class ReferenceTrainer:
    """Model and optimizer of the reference.

    Args:
        model: has `train_visual_positions`; its weights are the start, its layers are copied.
    """

    def __init__(self, model: GroundingModel) -> None:
        assert not model.frozen_images
        self.model = ReferenceModel(model).train()
        copied = {id(p) for p in model.fusion.parameters()}  # the copies: `self.model.layers`
        self.parameters: list[nn.Parameter] = []
        for parameter in self.model.parameters():
            if parameter.requires_grad and id(parameter) not in copied:
                self.parameters.append(parameter)
        self.parameters += self._shared(model)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=LR, weight_decay=WEIGHT_DECAY)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss with one image per label: an image that labels share is repeated."""
        index = batch.image_index
        boxes = self.model(
            batch.images[index], batch.pixel_mask[index], batch.tokens, batch.text_mask, Stats()
        )
        pairs = (box_convert(b, "cxcywh", "xyxy") for b in (boxes, batch.target))
        giou = 1 - torch.diag(generalized_box_iou(*pairs))
        return F.l1_loss(boxes, batch.target, reduction="none").sum() / len(boxes) + giou.mean()

    def step(self, batch: Batch) -> float:
        """Take one optimizer step; return the loss."""
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def _shared(self, model: GroundingModel) -> list[nn.Parameter]:
        """Return the parameters of linear layers and norms that the copies share with `model`."""
        mine = {id(p) for p in self.parameters}
        own = [p for layer in self.model.layers for p in layer.parameters()]
        return [p for p in own if id(p) not in mine]
