"""Time `predict` against the rescoring engine, in labels per second over the same labels.

python benchmarks/predict.py --json benchmarks/results/predict-PROCESSOR-cpu2-pt214.json
python benchmarks/predict.py --case clipvg-tiny --images 200 --rounds 8
python benchmarks/predict.py --quick

Cases: ViT-B-16 with random weights on 100 synthetic photographs of 640 x 480 pixels; clipvg-tiny
with the head of the recipe `scenes` on 2,000 scenes; 8 expressions per image. The baseline,
*engine*, scores the labels with one model and computes boxes only. *predict* (in Python, all images
in one call) and *table* (what `clipvg predict TABLE` does once the model is loaded, from CSV to
Parquet, keeping shards) also compute confidences with a quality head; *boxes alone* is `predict`
with ``scores=False``. Providers take turns, and each decodes the images. A ratio compares a
provider with the engine in the same turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import _harness
import numpy as np
import torch
from _rescoring.measure import score
from _rescoring.measurers import diversify, make_measurers, predicted_boxes
from _rescoring.workload import Workload, make_table, place_boxes

from clipvg.data.scenes import make_labels
from clipvg.labels import LabelTable
from clipvg.labels.questions import read_questions, write_answers
from clipvg.model import GroundingModel
from clipvg.model.quality import QualityHead
from clipvg.rescoring import Engine, EngineConfig
from clipvg.rescoring.answers import answer_labels
from clipvg.rescoring.store import ScoreStore
from clipvg.training.evaluate import compare

PER_IMAGE = 8
BASELINE = "engine"
IMAGES = {"ViT-B-16": 100, "clipvg-tiny": 2000}
SMALL = {"width": 64, "layers": 2, "heads": 4, "feedforward": 128}  # as the recipe `scenes`
Provider = Callable[[], np.ndarray]


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    args = parse(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    records = []
    for name in IMAGES:
        if args.case in name:
            with TemporaryDirectory() as folder:
                records += measure(make_case(name, Path(folder), args), args)
            if args.json:
                _harness.write(args.json, records, args.device)
    return records


@dataclass(frozen=True)
class Case:
    """A model and the labels to time it on: `PER_IMAGE` consecutive ones for each image.

    The weights of its quality head are zero, which costs the same as any others.
    """

    name: str
    model: GroundingModel
    labels: LabelTable
    folder: Path

    def providers(self) -> dict[str, Provider]:
        """Return what to time: the engine returns reliability (N,), the others boxes (N, 4)."""
        engine = Engine({"m": self.model}, EngineConfig(precision="fp32"))
        paths = [self.labels.image_path(name) for name in self.labels.distinct_images()[0]]
        texts = np.reshape(self.labels.expressions, (-1, PER_IMAGE)).tolist()

        def predict(*, scores: bool) -> np.ndarray:
            return np.concatenate(self.model.predict(paths, texts, scores=scores))

        return {
            BASELINE: lambda: score(engine, self.labels)[0],
            "predict": lambda: predict(scores=True),
            "boxes alone": lambda: predict(scores=False),
            "table": self._table,
        }

    def _table(self) -> np.ndarray:
        with TemporaryDirectory(dir=self.folder) as folder:
            questions = read_questions(self.folder / "questions.csv", images=self.labels.images)
            found = answer_labels(self.model, questions, store=ScoreStore(Path(folder) / "store"))
            columns = found.columns()
            write_answers(Path(folder) / "answers.parquet", questions, columns, found.reasons)
        return columns["box"]


def make_case(name: str, folder: Path, args: argparse.Namespace) -> Case:
    """Make a case, with its images and questions.csv below a folder."""
    tiny = name == "clipvg-tiny"
    images = args.images or (4 if args.quick else IMAGES[name])
    backbone, head = ("clipvg-tiny", SMALL) if tiny or args.quick else (name, {})
    models = make_measurers(1, backbone, "default", own_positions=False, **head)
    if tiny:
        labels = scenes(folder, images)
    else:
        labels = make_table(folder, Workload(images, PER_IMAGE, (640, 480)))
    models = {key: model.to(args.device) for key, model in models.items()}
    diversify(models, labels)
    (model,) = models.values()
    labels = place_boxes(labels, predicted_boxes(models, labels), 0)
    model.keep_quality(QualityHead(model.reg_token.embedding_dim))
    labels.write(folder / "questions.csv")
    return Case(name, model, labels, folder)


def scenes(folder: Path, images: int) -> LabelTable:
    """Render scenes and pair each with `PER_IMAGE` expressions drawn from all scenes."""
    labels = make_labels(folder, images, labels_per_image=4)
    names, image_of = labels.distinct_images()
    first = np.unique(image_of, return_index=True)[1]
    width, height = labels.sizes()[first].repeat(PER_IMAGE, axis=0).T
    texts = np.random.default_rng(0).choice(labels.expressions, len(width))
    return LabelTable.from_columns(
        image=[name for name in names for _ in range(PER_IMAGE)], expression=texts.tolist(),
        box=np.stack([0 * width, 0 * height, width, height], axis=1), source="scenes",
        width=width, height=height, images=labels.images,
    )  # fmt: skip


def measure(case: Case, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the providers in turns; return a record of each.

    `max_difference` is that of reliability from the answers' IoU, or of boxes from those of
    `predict`, in units of the image's longer side.
    """
    providers = case.providers()
    found = {name: provide() for name, provide in providers.items()}  # also warms up
    iou = compare(answer_labels(case.model, case.labels), case.labels, "box").iou
    sides = case.labels.sizes().max(axis=1, keepdims=True)
    seconds: dict[str, list[float]] = {name: [] for name in providers}
    for turn in range(2 if args.quick else args.rounds):
        names = list(providers) if turn % 2 == 0 else list(reversed(providers))
        for name in names:
            start = time.perf_counter()
            providers[name]()
            seconds[name].append(time.perf_counter() - start)
    records = []
    for name, times in seconds.items():
        shares = [base / own for base, own in zip(seconds[BASELINE], times, strict=True)]
        record = {
            "case": f"{case.name}, {len(case.labels) // PER_IMAGE} images x {PER_IMAGE}",
            "provider": name, "baseline": BASELINE, "labels": len(case.labels),
            "seconds": [round(each, 3) for each in times],
            "labels_per_s": round(len(case.labels) / median(times), 2),
            "ratio": round(median(shares), 3), "ratios": [round(share, 3) for share in shares],
            "max_difference": float(
                np.abs(found[name] - iou).max() if name == BASELINE
                else (np.abs(found[name] - found["predict"]) / sides).max()
            ),
        }  # fmt: skip
        records.append(record)
        print(
            f"{record['case']:28s} {name:12s} {record['labels_per_s']:9.1f} labels/s  "
            f"{record['ratio']:6.1%}  ({min(shares):.1%} to {max(shares):.1%})  "
            f"differs by {record['max_difference']:.1e}",
            flush=True,
        )
    return records


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = _harness.options(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--images", type=int, help="so many in place of 100 and 2,000")
    add("--rounds", type=int, default=5)
    add("--threads", type=int, help="of torch")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
