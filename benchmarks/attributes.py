"""Measure from which probability on CLIP's colours and patterns are right, on scenes.

    python benchmarks/attributes.py --images 900 --json benchmarks/results/attributes-scenes_v1.json

Classifies the true boxes of rendered scenes with `clipvg.observe.attributes`, and prints for each
category how often the best word is right, and from which probability on 95 in 100 are right.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from clipvg.data.scenes.render import render_scene
from clipvg.data.scenes.world import Scene, sample_scene
from clipvg.observe.attributes import AttributeReader
from clipvg.pseudo import Detection

PRECISION = 0.95


def look(reader: AttributeReader, scene: Scene) -> list[tuple[str, float, bool, bool]]:
    """Return (category, best word's probability, is it right, is it not "") for each object."""
    image = render_scene(scene)
    objects = [Detection(item.shape, item.box) for item in scene.objects]
    found = []
    for item, shares in zip(scene.objects, reader.probabilities(image, objects), strict=True):
        for category, truth in (("colour", item.colour), ("pattern", item.texture)):
            word, share = max(shares[category].items(), key=lambda pair: pair[1])
            found.append((category, share, word == truth.replace("plain", ""), bool(word)))
    return found


def threshold(shares: np.ndarray, right: np.ndarray) -> tuple[float, float, float]:
    """Return the lowest probability that reaches `PRECISION`, its precision and share of rows."""
    order = np.argsort(-shares, kind="stable")
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(precision >= PRECISION)
    if not len(good):
        return 1.0, 1.0, 0.0  # no probability is high enough
    last = int(good[-1])
    return float(shares[order][last]), float(precision[last]), (last + 1) / len(order)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backbone", default="clipvg-tiny")
    parser.add_argument("--pretrained", default="openai")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    reader = AttributeReader(args.backbone, args.pretrained)
    rng = np.random.default_rng(args.seed)
    found = [row for _ in range(args.images) for row in look(reader, sample_scene(rng))]
    result = {}
    for category in ("colour", "pattern"):
        rows = [row for row in found if row[0] == category]
        said = [row for row in rows if row[3]]
        shares, right = (np.array([row[i] for row in said]) for i in (1, 2))
        least, precision, share = threshold(shares, right)
        result[category] = {
            "objects": len(rows),
            "best_word_right": float(np.mean([row[2] for row in rows])),
            "said_right": float(right.mean()) if len(right) else None,
            "least": least,
            "precision": precision,
            "share_said": share * len(said) / len(rows),
        }
        print(category, result[category])
    if args.json:
        facts = {name: str(value) for name, value in vars(args).items() if name != "json"}
        args.json.write_text(json.dumps({"options": facts, **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
