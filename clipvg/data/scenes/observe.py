"""What imperfect machines see in a scene: a detector's boxes and a scene graph's triplets."""

from __future__ import annotations

import numpy as np

from clipvg.boxes import iou
from clipvg.data.scenes.language import RELATIONS, is_related
from clipvg.data.scenes.world import Box, Scene


def detected_box(scene: Scene, index: int, rng: np.random.Generator, jitter: float = 0.05) -> Box:
    """Object `index` as a good detector sees it: each edge off by N(0, jitter) of its side."""
    x1, y1, x2, y2 = scene.objects[index].box
    edges = np.array([x1, y1, x2, y2]) + rng.normal(0, jitter, 4) * np.array([x2 - x1, y2 - y1] * 2)
    return _inside(scene, edges)


def loose_box(
    scene: Scene, index: int, rng: np.random.Generator, low: float = 0.2, high: float = 0.5
) -> Box:
    """A badly placed box whose IoU with object `index` lies in [low, high)."""
    truth = np.array(scene.objects[index].box)
    side = np.array([truth[2] - truth[0], truth[3] - truth[1]] * 2)
    for spread in np.linspace(0.25, 0.6, 200):
        box = _inside(scene, truth + rng.normal(0, spread, 4) * side)
        overlap = float(iou(np.array([box]), truth[None])[0])
        if box[2] - box[0] > 4 and box[3] - box[1] > 4 and low <= overlap < high:
            return box
    # A box twice as wide and high around the same centre: IoU 0.25 unless the border cuts it.
    centre = np.array([*scene.objects[index].centre] * 2)
    return _inside(scene, centre + (truth - centre) * 1.7)


def scene_graph(scene: Scene) -> list[tuple[int, str, int]]:
    """Every (subject, relation, object) that holds, by object index."""
    indices = range(len(scene.objects))
    return [
        (i, relation, j)
        for i in indices
        for j in indices
        for relation in RELATIONS
        if is_related(scene, i, relation, j)
    ]


def _inside(scene: Scene, edges: np.ndarray) -> Box:
    x1, x2 = np.sort(np.clip(edges[[0, 2]], 0, scene.width))
    y1, y2 = np.sort(np.clip(edges[[1, 3]], 0, scene.height))
    return round(float(x1), 1), round(float(y1), 1), round(float(x2), 1), round(float(y2), 1)
