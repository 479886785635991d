"""Implementation of `GroundingModel.rank`: which of some given boxes an expression means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou

from clipvg.data.inputs import ImageInput
from clipvg.errors import InputError
from clipvg.model.fusion import Features
from clipvg.model.predict import (
    Seen,
    predict,
    refuse_blank,
    see,
    square_of,
    texts_of,
    warn_of_foreign,
)
from clipvg.model.predictions import Predictions
from clipvg.model.quality import MEANT
from clipvg.ops.boxes import iou

if TYPE_CHECKING:
    from clipvg.model.grounder import GroundingModel


def rank(
    model: GroundingModel, image: ImageInput, texts: Sequence[str], boxes: np.ndarray
) -> np.ndarray:
    """Return how likely each of E texts means each box (N, 4) xyxy; see `GroundingModel.rank`.

    A quality head matches the words with each box. Without one, the model's own box is right with
    probability s: if it is, a box is as likely as its IoU with it; if not, it is the likelier the
    lower the training loss between the two.

    Returns:
        (E, N) float32.
    """
    boxes = np.asarray(boxes, np.float32)
    if boxes.ndim != 2 or not np.isfinite(boxes).all():
        raise InputError(f"boxes of shape {boxes.shape}; expected (N, 4) finite numbers")
    if (turned := (boxes[:, 2:] < boxes[:, :2]).any(axis=1)).any():
        raise InputError(
            f"box {turned.argmax()} ends before it begins: {boxes[turned.argmax()].tolist()} as "
            "xyxy; sort its corners, or say box_format='xywh'"
        )
    refuse_blank(texts)
    if model.quality is not None:
        warn_of_foreign(texts)
        square = square_of(image, model=model)
        seen = see(model, [square], scores=True)
        asked = torch.from_numpy(square.box.to_square(boxes)).to(model.device)
        found = [_meant(model, seen, text, asked) for text in texts]
    else:
        (own,) = predict(model, [image], [texts], scores=True, batch_size=None, box_format="xyxy")
        found = [_near(own, place, boxes) for place in range(len(texts))]
    return np.stack(found) if found else np.zeros((0, len(boxes)), np.float32)


def _near(found: Predictions, place: int, boxes: np.ndarray) -> np.ndarray:
    """Return how likely a text means each box, (N,), given the model's own box for it."""
    if not len(boxes):
        return np.zeros(0, np.float32)
    side = max(found.size)
    own = torch.from_numpy(found.boxes[place : place + 1] / side)
    given = torch.from_numpy(boxes / side)
    loss = box_convert(own, "xyxy", "cxcywh") - box_convert(given, "xyxy", "cxcywh")
    energy = loss.abs().sum(1) + 1 - generalized_box_iou(own, given)[0]
    sure = float(found.scores[place])
    return (sure * iou(own, given) + (1 - sure) * (-energy).softmax(0)).clamp(0, 1).numpy()


def _meant(model: GroundingModel, seen: Seen, text: str, asked: Tensor) -> np.ndarray:
    """Return how likely a text means each box (N, 4) of the square, by the quality head, (N,)."""
    features, mask = texts_of(model, [text])
    head, words = model.quality, model.text_projection(features)
    assert head is not None
    assert seen.patches is not None
    state = model.state(Features(seen.features, seen.ignored, features, mask))
    count = len(asked)
    nothing = torch.zeros(count, device=model.device)  # no sign of the image as a whole
    signs = head.signs(
        state.expand(count, -1),
        asked,
        seen.patches.expand(count, -1, -1),
        (words.expand(count, -1, -1), mask.expand(count, -1)),
        nothing,
    )
    return head.judge(signs, MEANT).cpu().numpy()
