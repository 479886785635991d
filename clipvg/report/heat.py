"""Heat maps over images: where a model looks, with the box it finds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image

from clipvg.report.drawing import Mark, draw_boxes

_LEAST = 320  # pixels of the long side; a smaller image is enlarged
_FAINTEST, _STRONGEST = 0.1, 0.75  # opacity of the map where it is lowest and highest


def draw_heat(
    image: Image.Image, maps: np.ndarray, marks: Sequence[Mark], *, gap: int = 8
) -> Image.Image:
    """Return a column of panels: the image in grey under one heat map each, with one box.

    Args:
        image: any Pillow image.
        maps: (E, h, w) over the whole image, at any resolution, >= 0; for example those of
            `GroundingModel.attention`. The colours go from 0 to each map's largest value.
        marks: E boxes in pixels of the image, with their labels.
        gap: pixels between panels.
    """
    panels = [
        draw_boxes(_heated(image, heat), [mark], min_size=_LEAST)
        for heat, mark in zip(maps, marks, strict=True)
    ]
    width = max(panel.width for panel in panels)
    height = sum(panel.height + gap for panel in panels) - gap
    sheet, y = Image.new("RGB", (width, height), "white"), 0
    for panel in panels:
        sheet.paste(panel, (0, y))
        y += panel.height + gap
    return sheet


def _heated(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """Return an image in grey with a map (h, w) over it, in eight bits to save memory."""
    share = heat / max(float(heat.max()), 1e-30)
    levels = Image.fromarray(np.rint(255 * share).astype(np.uint8))
    levels = levels.resize(image.size, Image.Resampling.BILINEAR)
    opacity = levels.point([round(255 * o) for o in np.linspace(_FAINTEST, _STRONGEST, 256)])
    colours = levels.copy()
    colours.putpalette(_palette())
    grey = image.convert("L").convert("RGB")
    return Image.composite(colours.convert("RGB"), grey, opacity)


@cache
def _palette() -> bytes:
    """Return 256 RGB colours as bytes, from dark to light in perceptually even steps."""
    from matplotlib import colormaps

    return (255 * colormaps["inferno"](np.linspace(0, 1, 256))[:, :3]).astype(np.uint8).tobytes()
