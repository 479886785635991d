"""Heat-map grounders, which need no proposals: the box with the most heat for its area."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipvg.errors import MissingExtraError
from clipvg.grounders.located import Located
from clipvg.grounders.tower import before_last, pooled
from clipvg.grounders.zeroshot import ZeroShotGrounder
from clipvg.runtime.fields import ABOVE_ZERO

if TYPE_CHECKING:
    from collections.abc import Callable

SCALES = tuple(range(100, 601, 50))  # superpixels per image, as in adapting-CLIP
_RASTER = 32  # cells per side of the raster on which boxes are tried: 278,784 boxes


class _HeatGrounder(ZeroShotGrounder):
    """Base class of heat-map grounders, which choose the best of the observed boxes, or of all.

    Args:
        alpha: penalty on the area of a box: boxes are ranked by heat / area^alpha.
    """

    alpha: Annotated[float, (0, 1)] = 0.5

    def heat(self, image: Image.Image, expressions: Sequence[str]) -> np.ndarray:
        """Return a heat map of the image for each expression, (N, h, w) in [0, 1]."""
        raise NotImplementedError

    def _place(
        self, image: Image.Image, expressions: Sequence[str], boxes: np.ndarray | None, why: str
    ) -> Located:
        if boxes is not None and not len(boxes):
            return Located.nothing(len(expressions), why)
        if not expressions:
            return Located.nothing(0)
        found = Located.nothing(len(expressions))
        for place, heat in enumerate(self.heat(image, expressions)):
            box, share = best_box(heat, image.size, self.alpha, boxes)
            found.put([place], box[None], np.array([share]), image.size)
        return found


class HeatMap(_HeatGrounder):
    """Superpixels that CLIP matches with the expression, after adapting-CLIP.

    The patches of the tower overlap by half. In its last block, [CLS] pools each superpixel alone,
    for eleven segmentations of the image. The heat is exp(cosine with the text / T), averaged over
    the segmentations and scaled from 0 to 1; the score is the box's share of all heat.

    Li, Shakhnarovich and Yeh, Adapting CLIP for phrase localization without further training, 2022.

    Args:
        temperature: temperature T.

    Raises:
        MissingExtraError: scikit-image, which makes the superpixels, is not installed.
    """

    alpha: Annotated[float, (0, 1)] = 0.75
    temperature: Annotated[float, (ABOVE_ZERO, None)] = 0.02
    name: str = "heatmap"

    def __post_init__(self) -> None:
        super().__post_init__()
        _slic()

    def heat(self, image: Image.Image, expressions: Sequence[str]) -> np.ndarray:
        """Return the mean over the segmentations, (N, S, S)."""
        tower, side = self._towers.clip.visual, self._towers.image_size
        with torch.no_grad():
            dense = before_last(tower, self._pixels(image), finer=2)
            texts = self._texts(expressions)
            seen = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
            divided: list[tuple[Tensor, Tensor]] = []
            for count in SCALES:
                part = torch.from_numpy(_slic()(seen, n_segments=count, start_label=0))
                shares = _shares(part, dense.grid).to(self.place)  # (K, P)
                masked = torch.cat([torch.zeros_like(shares[:, :1]), shares], 1).log()
                found = pooled(tower, dense, partial(_softmax, masked=masked))
                divided.append((part, (texts @ found.T / self.temperature).cpu()))  # (N, K)
        most = torch.cat([fits for _, fits in divided], 1).amax(1, True)  # so that no exp overflows
        total = torch.zeros(len(expressions), side, side)
        for part, fits in divided:
            total += (fits - most).exp()[:, part]
        low, high = total.amin((1, 2), True), total.amax((1, 2), True)
        return ((total - low) / (high - low).clamp(min=1e-12)).numpy()


class GradCam(_HeatGrounder):
    """Attention of CLIP's last block, weighted by the gradient of the similarity to the text.

    The heat is the mean over heads of the positive part of attention × gradient, from [CLS] to each
    patch: the baseline of gScoreCAM and ReCLIP in its simplest form. The score is the box's share
    of the heat.

    Selvaraju et al., Grad-CAM, ICCV 2017; Chefer et al., ICCV 2021.
    """

    name: str = "gradcam"

    def heat(self, image: Image.Image, expressions: Sequence[str]) -> np.ndarray:
        """Return the weighted attention, (N, rows, columns) of the patches."""
        tower = self._towers.clip.visual
        with torch.no_grad():
            dense = before_last(tower, self._pixels(image))
            texts = self._texts(expressions)
        kept: list[Tensor] = []

        def weigh(logits: Tensor) -> Tensor:
            kept.append(logits.detach().softmax(-1).requires_grad_())
            return kept[0]

        with torch.enable_grad():
            fits = texts @ pooled(tower, dense, weigh)  # (N,)
            slopes = [torch.autograd.grad(fit, kept[0], retain_graph=True)[0] for fit in fits]
        warm = (torch.stack(slopes) * kept[0].detach()).relu().mean(1)[:, 1:]  # (N, P)
        peak = warm.amax(1, True).clamp(min=1e-12)
        return (warm / peak).unflatten(1, dense.grid).cpu().numpy()


def best_box(
    heat: np.ndarray, size: tuple[int, int], alpha: float, boxes: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Return the box with the most heat for its area, and its share of all heat.

    Boxes are ranked by heat / area^alpha: with 0 the whole image is best, with 1 the hottest spot.

    Args:
        heat: (h, w) non-negative map of the whole image.
        size: width and height of the image in pixels.
        alpha: penalty on the area, 0 to 1.
        boxes: (K, 4) xyxy pixels, to choose among; None tries all boxes of a raster.

    Returns:
        xyxy pixels (4,) float32, and a number in [0, 1].
    """
    total = np.zeros((heat.shape[0] + 1, heat.shape[1] + 1))
    total[1:, 1:] = heat.cumsum(0).cumsum(1)
    if boxes is None:
        boxes, inside = _of_raster(total)
        boxes = boxes * np.tile(size, 2)
    else:
        scale = np.array([heat.shape[1] / size[0], heat.shape[0] / size[1]] * 2)
        x1, y1, x2, y2 = (boxes * scale).T
        inside = _at(total, x2, y2) - _at(total, x1, y2) - _at(total, x2, y1) + _at(total, x1, y1)
    area = ((boxes[:, 2:] - boxes[:, :2]) / size).prod(1).clip(min=1e-12)
    best = int(np.argmax(inside.clip(min=0) / area**alpha))
    share = float(inside[best] / max(total[-1, -1], 1e-12))
    return boxes[best].astype(np.float32), min(max(share, 0.0), 1.0)


def _slic() -> Callable[..., np.ndarray]:
    """Return the function that divides an image into superpixels."""
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise MissingExtraError.for_extra("grounder 'heatmap'", "heatmap") from error
    return slic


def _shares(part: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the share of each superpixel of (S, S) in each patch, (K, P), scaled to maximum 1."""
    rows, columns = (
        torch.arange(side) * n // side for side, n in zip(part.shape, grid, strict=True)
    )
    patch = rows[:, None] * grid[1] + columns  # (S, S)
    count, patches = int(part.max()) + 1, grid[0] * grid[1]
    pairs = (part * patches + patch).flatten()
    shares = pairs.bincount(minlength=count * patches).view(count, patches).float()
    return shares / shares.amax(1, True)


def _softmax(logits: Tensor, masked: Tensor) -> Tensor:
    """Return weights (K, H, 1 + P) from logits (H, 1 + P) masked with log shares (K, 1 + P)."""
    return (logits + masked[:, None]).softmax(-1)


def _of_raster(total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all boxes (K, 4) on the lines of a raster, xyxy in the unit square, and their heat."""
    lines = np.linspace(0, 1, _RASTER + 1)
    x, y = np.meshgrid(lines * (total.shape[1] - 1), lines * (total.shape[0] - 1))
    at = _at(total, x, y)  # (lines, lines)
    low, high = np.triu_indices(_RASTER + 1, 1)
    across = at[:, high] - at[:, low]  # (lines, pairs)
    inside = across[high] - across[low]  # (pairs of y, pairs of x)
    down, right = (axis.reshape(-1) for axis in np.indices(inside.shape))
    corners = low[right], low[down], high[right], high[down]
    return lines[np.stack(corners, 1)], inside.reshape(-1)


def _at(total: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the bilinearly interpolated values of a cumulative map."""
    x, y = x.clip(0, total.shape[1] - 1), y.clip(0, total.shape[0] - 1)
    left = x.astype(int).clip(max=total.shape[1] - 2)
    top = y.astype(int).clip(max=total.shape[0] - 2)
    right, down = x - left, y - top
    upper = total[top, left] * (1 - right) + total[top, left + 1] * right
    lower = total[top + 1, left] * (1 - right) + total[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down
