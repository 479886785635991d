"""Fit linear probes to the features that the grounding head sees.

    python tools/probe_features.py --backbone clipvg-tiny

The features are those of the patch at each object's centre, for each level and for all levels
concatenated. Ridge regressions for the object's colour, shape and texture (accuracy) and for the
centre's position (R squared) are fitted on the first half of the objects and tested on the second.
The last row repeats the results of the trial by which the shipped CLIP's recipe was chosen.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from clipvg.data.letterbox import load_square
from clipvg.data.preset import get_preset
from clipvg.data.scenes import Scene, render_scene, sample_scene
from clipvg.data.scenes.world import COLOURS, SHAPES, TEXTURES
from clipvg.model.backbone import Backbone

TRIAL = {"colour": 0.96, "shape": 0.79, "position": 0.28}
_CLASSES = {"colour": list(COLOURS), "shape": list(SHAPES), "texture": list(TEXTURES)}


def centre_features(
    backbone: Backbone, scenes: list[Scene]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return (objects, L * W) features of the patch at each object's centre, and the targets."""
    features: list[torch.Tensor] = []
    targets: dict[str, list[torch.Tensor]] = {}
    preset = get_preset("default", backbone.mean, backbone.std)
    for scene in scenes:
        pixels, _, letterbox = load_square(render_scene(scene), backbone.image_size, preset)
        with torch.no_grad():
            patches = backbone.image_features(pixels[None])[0, 1:]  # (P, L * W)
        boxes = letterbox.to_square(np.array([item.box for item in scene.objects]))
        centre = torch.from_numpy(boxes[:, :2]).float()
        column, row = (centre * backbone.grid).long().clamp(0, backbone.grid - 1).unbind(1)
        features.append(patches[row * backbone.grid + column])
        targets.setdefault("position", []).append(centre)
        for name, values in _CLASSES.items():
            index = torch.tensor([values.index(getattr(item, name)) for item in scene.objects])
            hot = torch.nn.functional.one_hot(index, len(values)).float()
            targets.setdefault(name, []).append(hot)
    return torch.cat(features), {name: torch.cat(parts) for name, parts in targets.items()}


def probe(x: torch.Tensor, y: torch.Tensor, classes: bool) -> float:
    """Return accuracy (classes) or R squared of a ridge regression fitted on the first half."""
    half = len(x) // 2
    x = (x - x[:half].mean(0)) / x[:half].std(0).clamp(min=1e-6)
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1).double()
    y = y.double()
    gram = x[:half].T @ x[:half] + 10 * torch.eye(x.shape[1], dtype=torch.float64)
    predicted = x[half:] @ torch.linalg.solve(gram, x[:half].T @ y[:half])
    if classes:
        return float((predicted.argmax(1) == y[half:].argmax(1)).double().mean())
    error = ((predicted - y[half:]) ** 2).sum()
    return float(1 - error / ((y[half:] - y[:half].mean(0)) ** 2).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="clipvg-tiny")
    parser.add_argument("--pretrained", default="scenes-v1", help="tag, or a weights file")
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    backbone = Backbone.create(options.backbone, options.pretrained)
    rng = np.random.default_rng(options.seed)
    scenes = [sample_scene(rng) for _ in range(options.scenes)]
    features, targets = centre_features(backbone, scenes)
    levels = {
        f"block {i}": x
        for i, x in zip(backbone.levels, features.split(backbone.width, 1), strict=True)
    }
    print(f"{'features':<12}" + "".join(f"{name:>10}" for name in targets))
    for name, x in {**levels, "all levels": features}.items():
        scores = [probe(x, y, target != "position") for target, y in targets.items()]
        print(f"{name:<12}" + "".join(f"{score:>10.3f}" for score in scores))
    trial = "".join(f"{TRIAL[t]:>10.2f}" if t in TRIAL else f"{'':>10}" for t in targets)
    print(f"{'trial, last':<12}{trial}")


if __name__ == "__main__":
    main()
