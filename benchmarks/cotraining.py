"""Time the trainings of one search step, done one by one or in one pass.

python benchmarks/cotraining.py cached      the recipe `scenes` on cached features
python benchmarks/cotraining.py encoding    the same head, augmenting and encoding in each step
python benchmarks/cotraining.py published   ViT-B-16 (random), published head, encoding in each step
python benchmarks/cotraining.py cached --quick

The candidates are nested subsets of 70, 60 and 50 % of the labels: about what thresholds 0.4, 0.5
and 0.6 keep if 40 % of the labels are wrong. A training takes `--steps` optimizer steps, so "three
on their subsets" is the published search with a fixed number of steps. The published batch of 64
is reduced to what a CPU does in seconds: the cost of encoder and head is proportional to it.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import _harness
import numpy as np
import torch

from clipvg.data.scenes import NoiseConfig, make_labels
from clipvg.demo import recipe
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel, create_model
from clipvg.training import FeatureCache, Fit, FitConfig, fit, fit_many

SHARES = (0.7, 0.6, 0.5)
STEPS = {"cached": 16, "encoding": 4, "published": 1}
TOLERANCE = 1e-3  # relative, of the loss after training


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    args = parse(arguments)
    with TemporaryDirectory() as folder:
        model, config = model_and_config(args)
        labels = make_labels(folder, args.images, source="mixed", noise=NoiseConfig(), seed=0)
        torch.manual_seed(0)
        records = measure(args, model, labels, config)
    if not args.quick:
        file = _harness.RESULTS / f"cotraining-{_harness.place(args.device)}.json"
        _harness.write(file, records, args.device)
    return records


def measure(
    args: argparse.Namespace, model: GroundingModel, labels: LabelTable, config: FitConfig
) -> list[dict[str, Any]]:
    """Time all ways to train, the first as the baseline."""
    features = FeatureCache(model, labels) if args.case == "cached" else None
    options: dict[str, Any] = {"config": config, "features": features, "progress": False}
    order = np.random.default_rng(0).random(len(labels))
    keep = np.stack([order < share for share in SHARES])

    def one(**changes: Any) -> Fit:
        return fit(fresh(model), changes.pop("labels", labels), **options, **changes)

    providers: dict[str, Callable[[], Any]] = {
        "three on their subsets": lambda: [one(labels=labels.select(kept)) for kept in keep],
        "three by weights": lambda: [one(weights=kept) for kept in keep],
        "three in one pass": lambda: fit_many(model, labels, keep, **options),
        "three in one pass, all kept": lambda: fit_many(
            model, labels, np.ones_like(keep), **options
        ),
        "one on all labels": one,
    }
    check(providers["three by weights"](), providers["three in one pass"]())
    if args.case == "published":  # these two take too long for what they add
        del providers["three by weights"], providers["three in one pass"]
    case = _harness.Case(f"{args.case}, batch {config.batch_size}, {config.steps} steps")
    records = _harness.compare("cotraining", case, providers, args.device)
    single = records[-1]["ms_50"]
    for record in records:
        record["cost_in_trainings"] = round(record["ms_50"] / single, 3)
        print(f"{record['provider']:32s} costs {record['cost_in_trainings']:.2f} trainings")
    return records


def check(apart: list[Fit], together: list[Fit]) -> None:
    """Assert that trainings done apart and together agree.

    Only losses are compared: without warm-up, AdamW's first steps turn rounding errors into whole
    steps of single weights. The tests compare the weights, on one thread.
    """
    for one, other in zip(apart, together, strict=True):
        losses = one.metrics[-1]["loss"], other.metrics[-1]["loss"]
        assert abs(losses[0] - losses[1]) < TOLERANCE * losses[0], losses


def fresh(model: GroundingModel) -> GroundingModel:
    """Return a copy with a head of its own on the shared backbone, as trainings get it."""
    return copy.deepcopy(model, {id(model.backbone): model.backbone})


def model_and_config(args: argparse.Namespace) -> tuple[GroundingModel, FitConfig]:
    torch.manual_seed(0)
    if args.case == "published":
        model = create_model("ViT-B-16", None)
        config = FitConfig(batch_size=args.batch_size or 4)
    else:
        backbone, options, config = recipe()
        model = create_model(backbone, **vars(options))
        size = args.batch_size or config.batch_size
        changes = {"augment": args.case == "encoding", "warmup_steps": 0, "batch_size": size}
        config = dataclasses.replace(config, **changes)
    config = dataclasses.replace(config, steps=args.steps or STEPS[args.case])
    return model.to(args.device), config


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("case", choices=list(STEPS))
    add("--images", type=int, default=500, help="pictures, about four labels each")
    add("--batch-size", type=int, help="labels a step; the case's own by default")
    add("--steps", type=int, help="optimizer steps of a call; the case's own by default")
    add("--threads", type=int, help="CPU threads; torch's own by default")
    add("--device", default="cpu")
    add("--quick", action="store_true", help="smoke test: little of everything, nothing written")
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.quick:
        args.images, args.batch_size, args.steps = 8, 8, 2
        _harness.WARM_UP_S, _harness.MEASURE_S, _harness.MIN_RUNS = 0.0, 0.0, 1
    return args


if __name__ == "__main__":
    main()
