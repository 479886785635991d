"""Initial projections that see the frozen towers' features as if they were standardised."""

import torch
from torch import Tensor, nn

from clipvg.features import FeatureBatch
from clipvg.model.grounder import GroundingModel
from clipvg.training.batches import AnyBatch


def standardise_projections(model: "GroundingModel", batch: AnyBatch) -> None:
    """Fold the mean and deviation of a batch's features into the two fresh projections, in place.

    Raw CLIP tokens have channels whose mean is many times their deviation; projected as they are,
    all tokens look alike to the layer norms, and training starts with a long plateau. This is
    data-dependent initialisation in the spirit of Salimans & Kingma (arXiv 1602.07868): the
    model's form does not change.
    """
    with torch.no_grad():
        if isinstance(batch, FeatureBatch):
            image = batch.image_features
            text = batch.text if batch.text.is_floating_point() else model.encode_text(batch.text)
        else:
            image = model.encode_images(batch.images)
            text = model.encode_text(batch.tokens)
        _standardise(model.visual_projection, image.flatten(0, 1))
        _standardise(model.text_projection, text[batch.text_mask])


def _standardise(projection: nn.Linear, inputs: Tensor) -> None:
    """W(x - mean) / deviation + b, written as weights and bias for x of shape (rows, channels)."""
    inputs = inputs.float()
    mean = inputs.mean(dim=0)
    deviation = (inputs - mean).square().mean(dim=0).sqrt().clamp(min=1e-3)
    projection.weight.div_(deviation)
    projection.bias.sub_(projection.weight @ mean)
