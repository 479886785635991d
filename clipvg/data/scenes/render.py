"""Render scenes: textured, shaded and anti-aliased objects on a cluttered background."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from clipvg.data.scenes.world import COLOURS, Scene, SceneObject

_SUPERSAMPLE = 3


def render_scene(scene: Scene, *, scale: int = 1) -> Image.Image:
    """Render a scene to an RGB image of (scene.width, scene.height) pixels, deterministically.

    `scale` multiplies the sides of the image, its objects and their textures, so that an object
    lies at `scale` times its `box`.
    """
    rng = np.random.default_rng(scene.seed)
    canvas = _background(rng, scene.width, scene.height)
    if scale > 1:
        small = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
        large = small.resize((scale * scene.width, scale * scene.height), Image.Resampling.BICUBIC)
        canvas = np.asarray(large, dtype=np.float64).copy()
    for item in scene.objects:
        _paint(canvas, item, rng, scale)
    canvas += rng.normal(0, 3, canvas.shape)
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))


def _background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Return (height, width, 3) float: a muted colour with smooth variation and thin clutter."""
    base = rng.uniform(95, 165) + rng.uniform(-12, 12, 3)
    coarse = rng.normal(0, 14, (5, 5))
    smooth = Image.fromarray(coarse.astype(np.float32), mode="F").resize(
        (width, height), Image.Resampling.BICUBIC
    )
    image = Image.fromarray(np.clip(base + np.asarray(smooth)[..., None], 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 7))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        dx, dy = rng.uniform(-14, 14, 2)
        shade = tuple(int(v) for v in np.clip(base + rng.uniform(-45, 45, 3), 0, 255))
        draw.line((x, y, x + dx, y + dy), fill=shade, width=int(rng.integers(1, 3)))
    return np.asarray(image, dtype=np.float64).copy()


def _paint(canvas: np.ndarray, item: SceneObject, rng: np.random.Generator, scale: int) -> None:
    height, width = canvas.shape[:2]
    x1, y1, x2, y2 = item.box
    item = replace(item, box=(scale * x1, scale * y1, scale * x2, scale * y2))
    left, top = int(item.box[0]), int(item.box[1])
    right, bottom = min(width, int(item.box[2]) + 1), min(height, int(item.box[3]) + 1)
    mask = _mask(item, left, top, right - left, bottom - top)[..., None]
    rows, columns = slice(top, bottom), slice(left, right)
    fill = _texture(item, rng, bottom - top, right - left, scale)
    canvas[rows, columns] = canvas[rows, columns] * (1 - mask) + fill * mask


def _mask(item: SceneObject, left: int, top: int, width: int, height: int) -> np.ndarray:
    """Return (height, width) coverage in [0, 1] of the shape over its pixel region."""
    scale = _SUPERSAMPLE
    big = Image.new("L", (width * scale, height * scale), 0)
    draw = ImageDraw.Draw(big)
    x1, y1, x2, y2 = (
        (value - origin) * scale
        for value, origin in zip(item.box, (left, top, left, top), strict=True)
    )
    for outline, ink in _OUTLINES[item.shape]:
        points = [(x1 + u * (x2 - x1), y1 + v * (y2 - y1)) for u, v in outline]
        draw.polygon(points, fill=ink)
    return np.asarray(big.reduce(scale), dtype=np.float64) / 255


def _ellipse(radius: float) -> list[tuple[float, float]]:
    angles = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    return [(0.5 + radius * np.cos(a), 0.5 + radius * np.sin(a)) for a in angles]


def _star() -> list[tuple[float, float]]:
    angles = -np.pi / 2 + np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.45)
    points = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    low, high = points.min(axis=0), points.max(axis=0)
    return [(float(u), float(v)) for u, v in (points - low) / (high - low)]


_CROSS = [
    (0.33, 0), (0.67, 0), (0.67, 0.33), (1, 0.33), (1, 0.67), (0.67, 0.67),
    (0.67, 1), (0.33, 1), (0.33, 0.67), (0, 0.67), (0, 0.33), (0.33, 0.33),
]  # fmt: skip
_OUTLINES: dict[str, list[tuple[list[tuple[float, float]], int]]] = {
    "circle": [(_ellipse(0.5), 255)],
    "square": [([(0, 0), (1, 0), (1, 1), (0, 1)], 255)],
    "triangle": [([(0.5, 0), (1, 1), (0, 1)], 255)],
    "star": [(_star(), 255)],
    "cross": [(_CROSS, 255)],
    "ring": [(_ellipse(0.5), 255), (_ellipse(0.27), 0)],
}


def _texture(
    item: SceneObject, rng: np.random.Generator, height: int, width: int, scale: int
) -> np.ndarray:
    """Return (height, width, 3) colour of the object before masking."""
    y, x = np.mgrid[0:height, 0:width] / scale  # in pixels of the unscaled scene
    colour = np.array(COLOURS[item.colour], dtype=np.float64) + rng.normal(0, 8, 3)
    slope = rng.uniform(-0.25, 0.25, 2)
    across, down = x / (width / scale) - 0.5, y / (height / scale) - 0.5
    light = 1 + slope[0] * across + slope[1] * down
    # Marks are darker on bright colours and brighter on dark ones, so that all colours show them.
    mark = colour * 0.45 if colour.mean() > 100 else colour * 0.5 + 105
    phase, period = rng.uniform(0, 6), rng.uniform(6, 8)
    if item.texture == "striped":
        ink = (x + y + phase) % period < 0.4 * period
    elif item.texture == "dotted":
        ink = ((x + phase) % period - period / 2) ** 2 + ((y + phase) % period - period / 2) ** 2
        ink = ink < (0.3 * period) ** 2
    else:
        ink = np.zeros(x.shape, dtype=bool)
    return np.where(ink[..., None], mark, colour) * light[..., None]
