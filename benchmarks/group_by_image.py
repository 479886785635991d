"""Measure how `group_by_image` affects accuracy: equal trainings, with or without shared images.

python benchmarks/group_by_image.py --seeds 3 --json FILE

The recipe `scenes` trains on clean labels of scenes: first for `--start-steps` without
augmentation, which takes the head past its first plateau in a minute. From these weights every
variant continues for `--steps` with the published augmentation (one without, for comparison), over
the same number of labels in batches of the same size. Acc@0.5 is against the truth, on other scenes
without augmentation. Seeds determine images, weights, order and augmentation. Trainings that are
recorded in FILE already are not repeated.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import _harness
import numpy as np
import torch
from cotraining import fresh

from clipvg.data.scenes import CLEAN, make_labels
from clipvg.demo import TRAINING_SCENES, recipe
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel, create_model
from clipvg.training import FitConfig, evaluate, fit

NUM_TEST = 500  # pictures, about four labels each


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    records = json.loads(args.json.read_text())["records"] if args.resumes else []
    for seed in range(args.seeds):
        with TemporaryDirectory() as folder:
            train = make_labels(
                f"{folder}/train", args.images, source="mixed", seed=2 * seed,
                config=TRAINING_SCENES, noise=CLEAN,
            )  # fmt: skip
            test = make_labels(f"{folder}/test", args.test_images, seed=2 * seed + 1, noise=CLEAN)
            start: GroundingModel | None = None
            for size in args.sizes:
                case = f"seed {seed}, {args.start_steps} + {args.steps} steps, {name_of(size)}"
                if any(record["case"] == case for record in records):
                    continue
                start = start or begin(args, train, seed)
                records.append({"case": case, **run(args, start, train, test, size, seed)})
                print(records[-1], flush=True)
                if args.json:
                    _harness.write(args.json, records[-1:], "cpu")
    report(records, args)
    return records


def name_of(size: int) -> str:
    """Describe a value of group_by_image; 0 stands for no augmentation."""
    return {0: "no augmentation", 1: "a picture a label"}.get(size, f"groups of {size}")


def begin(args: argparse.Namespace, train: LabelTable, seed: int) -> GroundingModel:
    """Train the model from which all variants start."""
    backbone, options, config = recipe()
    torch.manual_seed(seed)
    model = create_model(backbone, **vars(options))
    config = change(config, args, steps=args.start_steps, seed=seed)
    return fit(model, train, config=config, progress=False).model


def run(
    args: argparse.Namespace,
    start: GroundingModel,
    train: LabelTable,
    test: LabelTable,
    size: int,
    seed: int,
) -> dict[str, Any]:
    """Train one variant and return a record with its accuracy."""
    grouped = {"augment": size > 0, "group_by_image": max(1, size), "standardise": False}
    config = change(recipe()[-1], args, steps=args.steps, seed=seed, **grouped)
    began = time.perf_counter()
    done = fit(fresh(start), train, config=config, progress=False)
    seconds = time.perf_counter() - began
    found = evaluate(done.model, test, against="truth")
    return {
        "operator": "group_by_image",
        "provider": name_of(size),
        "group_by_image": size,
        "seed": seed,
        "acc_0.5_start": round(evaluate(start, test, against="truth").accuracy[0.5], 4),
        "steps": args.steps,
        "labels_seen": args.steps * config.batch_size,
        "acc_0.5": round(found.accuracy[0.5], 4),
        "mean_iou": round(found.mean_iou, 4),
        "loss": round(done.metrics[-1]["loss"], 4),
        "seconds": round(seconds, 1),
    }


def change(config: FitConfig, args: argparse.Namespace, **options: Any) -> FitConfig:
    """Return the recipe with other options, and a warm-up of at most a tenth of the steps."""
    warmup = min(config.warmup_steps, options["steps"] // 10)
    options |= {"batch_size": args.batch_size, "warmup_steps": warmup}
    return dataclasses.replace(config, history=False, **options)


def report(records: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """Print mean and standard error of Acc@0.5 by group size, and of the paired differences."""
    run_here = f"{args.start_steps} + {args.steps} steps"
    mine = [r for r in records if run_here in r["case"] and r["seed"] < args.seeds]
    by_size = {
        size: np.array([r["acc_0.5"] for r in mine if r["group_by_image"] == size])
        for size in args.sizes
    }
    base = by_size.get(1, np.zeros(0))
    for size, values in by_size.items():
        error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        seconds = np.mean([r["seconds"] for r in mine if r["group_by_image"] == size])
        line = f"{name_of(size)}: Acc@0.5 {values.mean():.4f} ± {error:.4f}, {seconds:.0f} s"
        if size != 1 and len(values) == len(base) > 1:
            gap = values - base
            line += f", difference {gap.mean():+.4f} ± {gap.std(ddof=1) / len(gap) ** 0.5:.4f}"
        print(line)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seeds", type=int, default=3)
    add("--start-steps", type=int, default=1500, help="steps of the common start")
    add("--steps", type=int, default=600)
    sizes = "values of group_by_image; 0: without augmentation"
    add("--sizes", type=int, nargs="+", default=[0, 1, 4], help=sizes)
    add("--images", type=int, default=2500, help="training pictures, about four labels each")
    add("--test-images", type=int, default=NUM_TEST)
    add("--batch-size", type=int, default=64, help="labels a step")
    add("--threads", type=int, default=1)
    add("--json", type=Path, help="file of the records")
    add("--quick", action="store_true", help="smoke test: a few steps on a few pictures")
    args = parser.parse_args(arguments)
    if args.quick:
        args.seeds, args.start_steps, args.steps, args.batch_size = 2, 2, 2, 8
        args.images, args.test_images = 6, 4
    args.resumes = args.json is not None and args.json.exists()
    return args


if __name__ == "__main__":
    main()
