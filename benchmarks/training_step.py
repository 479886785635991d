"""Time a training step of the reference and of our variants, alternating in one run.

python benchmarks/training_step.py --json FILE
python benchmarks/training_step.py --variants own cached --json FILE     some; FILE keeps the others
python benchmarks/training_step.py --device cuda --batch-size 64 --batches 2 --json FILE
python benchmarks/training_step.py --quick                               a tiny model, in seconds

A step is encoding, forward, loss, backward and AdamW on decoded and augmented images: synthetic
photographs of 640 x 480 pixels with expressions of RefCOCO. `baselines/reference_training.py`
back-propagates through the image tower and has 77 text tokens, 275 fusion tokens and one image per
label. On Linux the allocator is told to keep freed memory, for all variants alike: on machines
where fresh pages are expensive, returning it would cost the reference, which needs the most, far
more than the step itself.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import _harness
import numpy as np
import torch
from _rescoring.peak import SECONDS, peak_memory, product_rates
from _rescoring.workload import Workload, make_table, place_boxes

sys.path.insert(0, str(Path(__file__).parent / "baselines"))
from reference_training import ReferenceTrainer

from clipvg.data import Batch, LabelDataset, TrainTransform, collate, group_by_image
from clipvg.features.cache import Encoder
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel, create_model
from clipvg.training import FitConfig
from clipvg.training.order import Order
from clipvg.training.trainer import Trainer

GROUP = 4  # labels that share a picture
REFERENCE = "reference"
VARIANTS = {
    "own": {},
    "own-bf16": {"amp": "bf16"},
    "grouped": {"group_by_image": GROUP},
    "grouped-bf16": {"group_by_image": GROUP, "amp": "bf16"},
    "cached": {"cached": True},
    "cached-bf16": {"cached": True, "amp": "bf16"},
}
Step = Callable[[Batch], Any]


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    args = parse(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    with TemporaryDirectory() as folder:
        labels = make_labels(Path(folder), args.batches * args.batch_size)
        return measure(args, labels)


def measure(args: argparse.Namespace, labels: LabelTable) -> list[dict[str, Any]]:
    """Time every variant beside the reference on the same labels; write each as soon as it is done.

    What takes long on the CPU is done once: augmented images for all variants with the same
    grouping, and one model, of which each variant trains a copy.
    """
    reference = ReferenceTrainer(make_model(args, train_visual_positions=True))
    model = make_model(args)
    groups = {1, *(VARIANTS[name].get("group_by_image", 1) for name in args.variants)}
    made = {group: make_batches(args, model, labels, group) for group in groups}
    own_pictures = made[1]

    def reference_step(batch: Batch) -> None:
        reference.step(batch)
        reference.optimizer.zero_grad()  # as ours does, so that a step's peak includes gradients

    rates = product_rates(args.device, 0.05 if args.quick else SECONDS)
    records = []
    for name in args.variants:
        options = dict(VARIANTS[name])
        batches = made[options.get("group_by_image", 1)]
        step, inputs = ours(args, model, batches, len(labels), **options)
        found = alternate(args, {REFERENCE: (reference_step, own_pictures), name: (step, inputs)})
        for provider, numbers in found.items():
            record = {"operator": "training step", "provider": provider, "baseline": REFERENCE}
            record |= {"case": f"{args.backbone}, batch {args.batch_size}, {name}", **numbers}
            record["speedup"] = round(found[REFERENCE]["ms_50"] / numbers["ms_50"], 2)
            record["samples_per_s"] = round(1e3 * args.batch_size / numbers["ms_50"], 3)
            record["kept_patches"] = share_of_picture(own_pictures)
            record["product_gflops"] = rates
            records.append(record)
            print(
                f"{name:14s} {provider:14s} {record['ms_50']:9.1f} ms  x{record['speedup']:<6}"
                f"{record['samples_per_s']:8.2f} samples/s  {record['peak_mib']:8.0f} MiB",
                flush=True,
            )
        if args.json:
            _harness.write(args.json, records[-len(found) :], args.device)
    return records


def ours(
    args: argparse.Namespace,
    model: GroundingModel,
    batches: list[Batch],
    count: int,
    *,
    cached: bool = False,
    **options: Any,
) -> tuple[Step, Sequence[Any]]:
    """Return our training step, on a copy of the model, and the inputs to call it with."""
    model = copy.deepcopy(model, {id(model.backbone): model.backbone})  # the towers are shared
    config = FitConfig(batch_size=args.batch_size, steps=10_000, history=False, **options)
    order = Order(count, args.batch_size, args.batch_size)
    weight = np.ones(count, np.float32)
    trainer = Trainer(model, order, config, weight, identity={}, validation=None, folder=None)
    trainer.serve(None, progress=False)
    encode = Encoder(model, torch.bfloat16 if config.amp == "bf16" else None)
    if cached:
        return lambda batch: trainer.update([batch]), [encode(batch) for batch in batches]

    def step(batch: Batch) -> None:
        with trainer.autocast:
            features = encode(batch)
        trainer.update([features])

    return step, batches


def alternate(
    args: argparse.Namespace, providers: dict[str, tuple[Step, Sequence[Any]]]
) -> dict[str, dict[str, float]]:
    """Time the providers in turns; return quantiles of a step's milliseconds, and its peak MiB."""
    times: dict[str, list[float]] = {name: [] for name in providers}
    for turn in range(-args.warm_up, args.rounds):
        for name, (step, batches) in providers.items():
            _harness._synchronise(args.device)
            start = time.perf_counter()
            step(batches[turn % len(batches)])
            _harness._synchronise(args.device)
            if turn >= 0:
                times[name].append(1e3 * (time.perf_counter() - start))
    found = {}
    for name, values in times.items():
        quantiles = np.quantile(values, (0.2, 0.5, 0.8))
        found[name] = dict(
            zip(("ms_20", "ms_50", "ms_80"), quantiles.round(2).tolist(), strict=True)
        )
        found[name] |= {"steps_timed": len(values)}
        step, batches = providers[name]
        with peak_memory(args.device) as peak:  # above weights and AdamW's moments
            step(batches[0])
        found[name]["peak_mib"] = round(peak.mib, 1)
    return found


def make_labels(folder: Path, count: int) -> LabelTable:
    """Make labels, four per image, with boxes of 40 to 240 pixels a side."""
    labels = make_table(folder, Workload(-(-count // GROUP), GROUP, (640, 480)))
    rng = np.random.default_rng(0)
    centre = rng.uniform(0.2, 0.8, (len(labels), 2)) * (640, 480)
    extent = rng.uniform(40, 240, (len(labels), 2))
    boxes = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
    return place_boxes(labels, boxes.clip(0, (640, 480, 640, 480)), 0)


def make_batches(
    args: argparse.Namespace, model: GroundingModel, labels: LabelTable, group: int
) -> list[Batch]:
    """Make augmented batches in which up to `group` labels share an image."""
    preset, size = model.preset, model.backbone.image_size
    data = LabelDataset(
        labels, model.tokenizer, size, preset, transform=TrainTransform(size, preset)
    )
    rows, leader = group_by_image(labels.distinct_images()[1], group, args.batch_size)
    data.set_epoch(0, leader)
    starts = range(0, args.batches * args.batch_size, args.batch_size)
    chunks = [rows[start : start + args.batch_size].tolist() for start in starts]
    return [collate(data.__getitems__(chunk)).to(args.device) for chunk in chunks]


def share_of_picture(batches: Sequence[Batch]) -> float:
    """Return the share of the input squares that is image rather than padding."""
    return round(
        float(np.mean([(~batch.pixel_mask).float().mean().item() for batch in batches])), 3
    )


def make_model(args: argparse.Namespace, **options: Any) -> GroundingModel:
    """Make the model with random towers: the cost does not depend on the weights."""
    torch.manual_seed(0)
    return create_model(args.backbone, None, **options).to(args.device)


def keep_memory() -> None:
    """Let glibc keep freed memory, and use one arena for all threads."""
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-8, 1)):  # M_MMAP_MAX, TRIM, ARENAS
            libc.mallopt(parameter, value)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--backbone", default="ViT-B-16")
    add("--batch-size", type=int, default=8)
    add("--batches", type=int, default=4, help="different batches, taken in turn")
    add("--rounds", type=int, default=4, help="timed steps of each")
    add("--warm-up", type=int, default=1, help="steps of each that are not timed")
    add("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    add("--threads", type=int, help="CPU threads; torch's own by default")
    add("--device", default="cpu")
    add("--json", type=Path, help="file of the records")
    add("--quick", action="store_true", help="smoke test on clipvg-tiny")
    args = parser.parse_args(arguments)
    if args.quick:
        args.backbone, args.batches, args.rounds = "clipvg-tiny", 2, 2
    return args


if __name__ == "__main__":
    keep_memory()
    main()
