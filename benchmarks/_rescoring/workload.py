"""Make labels to score: synthetic images with a photograph's spectrum, and real expressions.

Expressions, their number per image and image sizes come from a committed sample of RefCOCO,
RefCOCO+ and RefCOCOg (`benchmarks/data/refcoco_sample.json`).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from clipvg.labels import LabelTable

SAMPLE = Path(__file__).parents[1] / "data" / "refcoco_sample.json"
JPEG_QUALITY = 92  # about 130 kB at 640 x 480, like COCO's images
DISTINCT_PICTURES = 128  # further files are hard links to these: another path, the same work


@dataclass(frozen=True)
class Workload:
    """Properties of the labels to make.

    Attributes:
        images: number of images.
        k: expressions per image, or "real": as many as an image of the sample has.
        size: (width, height) of the images, or "real": as in the sample.
        seed: fixes everything.
    """

    images: int
    k: int | Literal["real"]
    size: tuple[int, int] | Literal["real"]
    seed: int = 0


@cache
def sample() -> list[dict[str, Any]]:
    """Return the images of the sample: their sizes and expressions."""
    return json.loads(SAMPLE.read_text())["images"]


def mean_expressions(k: int | Literal["real"]) -> float:
    """Return the mean number of expressions per image."""
    return np.mean([len(image["expressions"]) for image in sample()]) if k == "real" else k


def make_table(folder: Path, load: Workload) -> LabelTable:
    """Write images below a folder and label them; every box is the whole image.

    Args:
        folder: receives the images.
        load: properties of the labels.
    """
    rng = np.random.default_rng(load.seed)
    pool = _Pool(rng)
    rows: list[tuple[str, str, int, int]] = []
    for number in range(load.images):
        image = pool.image()
        width, height = image["size"] if load.size == "real" else load.size
        texts = image["expressions"] if load.k == "real" else pool.expressions(load.k)
        name = f"{number:06d}.jpg"
        rows += [(name, text, width, height) for text in texts]
        original = f"{number % DISTINCT_PICTURES:06d}.jpg"
        if name == original or load.size == "real":
            make_picture(width, height, rng).save(folder / name, quality=JPEG_QUALITY)
        else:
            os.link(folder / original, folder / name)
    names, texts, widths, heights = zip(*rows, strict=True)
    boxes = np.array([(0, 0, width, height) for _, _, width, height in rows], dtype=np.float64)
    return LabelTable.from_columns(
        image=names,
        expression=texts,
        box=boxes,
        width=np.array(widths, dtype=np.int32),
        height=np.array(heights, dtype=np.int32),
        source="real",
        images=folder,
    )


def place_boxes(labels: LabelTable, near: np.ndarray, seed: int) -> LabelTable:
    """Give every label a box near another one, so that reliability covers [0, 1].

    Args:
        labels: N labels.
        near: (N, 4) xyxy pixels, a box that a measurer predicts for each label.
        seed: fixes the boxes.
    """
    rng = np.random.default_rng((seed, 1))
    centre, extent = (near[:, :2] + near[:, 2:]) / 2, np.maximum(near[:, 2:] - near[:, :2], 4)
    strength = rng.uniform(0, 0.6, (len(labels), 1))  # from nearly exact to mostly missed
    centre = centre + extent * rng.normal(0, 1, (len(labels), 2)) * strength
    extent = extent * np.exp(rng.normal(0, 1, (len(labels), 2)) * strength)
    boxes = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
    columns = {c: labels.table.column(c).to_pylist() for c in ("image", "expression", "source")}
    widths, heights = labels.sizes().T
    return LabelTable.from_columns(
        **columns, box=boxes, width=widths, height=heights, images=labels.images
    )


def make_picture(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Make an image whose JPEG decodes like a photograph's: 1/f amplitude, edges, little colour."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0
    planes = []
    for power in (1.15, 1.6, 1.6):  # luma and two chroma planes, smoother
        phase = np.exp(2j * np.pi * rng.random(frequency.shape))
        plane = np.fft.irfft2(phase / frequency**power, (height, width))
        planes.append(plane / plane.std())
    scale = np.array([52.0, 14.0, 14.0])
    ycc = np.clip(128 + np.stack(planes, axis=-1) * scale, 0, 255).astype(np.uint8)
    picture = Image.fromarray(ycc, "YCbCr").convert("RGB")
    draw = ImageDraw.Draw(picture, "RGBA")
    for _ in range(8):  # outlines of objects
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        w, h = rng.uniform(0.05, 0.3, 2) * (width, height)
        colour = (*rng.integers(0, 256, 3).tolist(), 90)
        draw.ellipse((x - w, y - h, x + w, y + h), fill=colour)
    return picture


class _Pool:
    """Images and expressions of the sample in random order, reshuffled when all have been taken."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._images: list[dict[str, Any]] = []
        self._texts: list[str] = []

    def image(self) -> dict[str, Any]:
        if not self._images:
            self._images = [sample()[i] for i in self._rng.permutation(len(sample()))]
        return self._images.pop()

    def expressions(self, count: int) -> list[str]:
        if len(self._texts) < count:
            texts = [text for image in sample() for text in image["expressions"]]
            self._texts = [texts[i] for i in self._rng.permutation(len(texts))]
        return [self._texts.pop() for _ in range(count)]
