"""Compare zero-shot grounders with chance and the mean box, on scenes with simulated detections.

python benchmarks/zero_shot.py --json FILE

In each scene, each kind of expression describes a random object if it can identify it uniquely.
CLIP is `clipvg-tiny`, which was trained on captions of such scenes, but on no boxes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import _harness
import numpy as np

from clipvg.boxes import iou
from clipvg.data.scenes.language import KINDS, describe, to_text
from clipvg.data.scenes.observe import observe_scenes
from clipvg.grounders import GradCam, HeatMap, ReCLIP
from clipvg.labels import LabelTable
from clipvg.pseudo import ObservationTable

CLIP = {"backbone": "clipvg-tiny", "prompt": "{}", "device": "cpu"}


class Questions(NamedTuple):
    """N expressions with true boxes, the kind of each (N,), and simulated detections."""

    labels: LabelTable
    kinds: np.ndarray
    seen: ObservationTable


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    args = parse(arguments)
    right: list[Mapping[str, np.ndarray]] = []
    kinds = []
    for seed in args.seeds:
        with TemporaryDirectory() as folder:
            questions = ask(Path(folder), args.images, seed)
            right.append(chance(questions) | answers(questions))
            kinds.append(questions.kinds)
    records = [summarise(name, [each[name] for each in right], kinds) for name in right[0]]
    for record in records:
        print(f"{record['case']:26}", *(f"{record[kind]:6.1%}" for kind in ("all", *KINDS)))
    if args.json:
        _harness.write(args.json, records, "cpu")
    return records


def ask(folder: Path, images: int, seed: int) -> Questions:
    """Render scenes; describe a random object of each in each kind of expression that fits it."""
    seen, scenes = observe_scenes(folder, images, seed=seed)
    draw = np.random.default_rng((seed, 3))
    rows = []
    for image, scene in scenes.items():
        for kind in KINDS:
            number = int(draw.integers(len(scene.objects)))
            if (said := describe(scene, number, kind, draw)) is not None:
                rows.append((image, to_text(said, draw), scene.objects[number].box, kind))
    names, texts, boxes, kinds = map(list, zip(*rows, strict=True))
    labels = LabelTable.from_columns(
        images=folder / "images", image=names, expression=texts, box=boxes
    )
    return Questions(labels, np.array(kinds), seen)


def chance(questions: Questions) -> dict[str, np.ndarray]:
    """Return P(right), (N,) each, of the best and a random detection and of the mean box."""
    seen = {one.image: one for one in questions.seen}
    true = questions.labels.boxes().astype(float)  # (N, 4) xyxy pixels
    of = [seen[name] for name in questions.labels.image_names]
    good = []
    for one, box in zip(of, true, strict=True):
        boxes = np.array([each.box for each in one.detections], float).reshape(-1, 4)
        good.append(iou(np.broadcast_to(box, boxes.shape), boxes) >= 0.5)
    sides = np.array([(one.width, one.height) * 2 for one in of], float)  # (N, 4)
    mean_box = (true / sides).mean(axis=0) * sides
    return {
        "the best detection": np.array([each.any() for each in good], float),
        "a random detection": np.array([each.mean() if len(each) else 0 for each in good]),
        "the mean box": (iou(mean_box, true) >= 0.5).astype(float),
    }


def answers(questions: Questions) -> dict[str, np.ndarray]:
    """Return whether each grounder's box is right, (N,) each."""
    seen = questions.seen
    grounders = {
        "reclip": ReCLIP(**CLIP, observations=seen),
        "reclip, relations=false": ReCLIP(**CLIP, observations=seen, relations=False),
        "gradcam, of detections": GradCam(**CLIP, observations=seen),
        "heatmap, of detections": HeatMap(**CLIP, observations=seen),
        "gradcam": GradCam(**CLIP),
        "heatmap": HeatMap(**CLIP),
    }
    found = {name: one.evaluate(questions.labels).iou for name, one in grounders.items()}
    return {name: (np.nan_to_num(iou) >= 0.5).astype(float) for name, iou in found.items()}


def summarise(name: str, right: list[np.ndarray], kinds: list[np.ndarray]) -> dict[str, Any]:
    """Return the mean Acc@0.5 over the seeds, of all expressions and of each kind."""
    shares = [float(np.mean(each)) for each in right]
    of_kind = {
        kind: round(
            float(np.mean([np.mean(r[k == kind]) for r, k in zip(right, kinds, strict=True)])), 4
        )
        for kind in KINDS
    }
    return {
        "case": name, "labels": sum(map(len, right)),
        "all": round(float(np.mean(shares)), 4), "of_seeds": [round(share, 4) for share in shares],
    } | of_kind  # fmt: skip


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
