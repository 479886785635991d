"""Time rescoring by the reference, the engine and the engine without each optimisation.

All of them score the same labels in one run; the reference has the published access pattern.

python benchmarks/rescoring.py --n 3 --k 8 --preset published --precision fp32 bf16 --ablate
python benchmarks/rescoring.py --k real --image-size real
python benchmarks/rescoring.py --device cuda --decoded --labels 8192 --precision bf16 fp32
python benchmarks/rescoring.py --model runs/x/model --scenes --precision fp32 bf16 fp16
python benchmarks/rescoring.py --sweep        cost per label over k = 1 … 32 and n = 1 … 8
python benchmarks/rescoring.py --memory       peak memory of 1 000 … 100 000 labels
python benchmarks/rescoring.py --quick        all of it on a tiny model, in seconds
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _harness import conditions
from _rescoring.charts import draw_bars, draw_memory, draw_sweep
from _rescoring.compare import BASELINE, Amounts, Comparison
from _rescoring.measure import Save, decode_all
from _rescoring.measurers import diversify, load_measurers, make_measurers, predicted_boxes
from _rescoring.memory import COUNTS, run_memory
from _rescoring.peak import SECONDS, product_rates
from _rescoring.sweep import MEASURERS, Sweep
from _rescoring.table import print_table
from _rescoring.workload import Workload, make_table, mean_expressions, place_boxes

from clipvg.data.scenes import NoiseConfig, make_labels
from clipvg.labels import LabelTable
from clipvg.model import GroundingModel
from clipvg.runtime.files import atomic_path

# Defaults under --quick; the command line overrides them.
QUICK = {"backbone": "clipvg-tiny", "labels": 24, "baseline_labels": 16, "ablation_labels": 8}
QUICK |= {"slow_labels": 8, "image_size": (160, 120), "baseline_batch": 8}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    args = parse(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    about = {"conditions": machine(args), "settings": settings(args)}

    def save(records: list[dict[str, Any]], **headline: Any) -> dict[str, Any]:
        """Write the records so far, so that an interrupted run keeps them."""
        found = {**about, "complete": False, **headline, "records": records}
        if args.json:
            with atomic_path(args.json) as part:
                part.write_text(json.dumps(found, indent=1, default=str) + "\n")
        return found

    if args.memory:
        found, draw = save(run_memory(args.memory_counts, save), complete=True), draw_memory
        title = "Memory of scoring: clipvg-tiny, 3 measurers"
    elif args.sweep:
        found, draw = save(sweep(args, save), complete=True), draw_sweep
        title = f"Cost of a label: {describe(args)}"
    else:
        found, draw = save(**compare(args, save), complete=True), draw_bars
        title = f"Rescoring: {describe(args)}"
    if args.plot:
        draw(found["records"], args.plot, title)
    return found


def compare(args: argparse.Namespace, save: Save) -> dict[str, Any]:
    """Run reference, engine and ablations; the first precision gives the headline numbers."""
    models = measurers(args, args.n)
    with TemporaryDirectory() as folder:
        labels = make_labels_of(args, Path(folder), models)
        memory, extra = None, {}
        if args.decoded:
            workers = os.cpu_count() or 1
            memory, rate = decode_all(models, labels, workers)
            extra = {"decoded_images_per_s": rate, "decoding_threads": workers}
            print(f"decoding: {rate:.0f} images/s in {workers} threads, not measured below")
        amounts = Amounts(
            args.baseline_labels,
            args.ablation_labels,
            args.slow_labels,
            args.baseline_batch,
            args.baseline_workers,
        )
        run = Comparison(models, labels, amounts, save, memory, 0.05 if args.quick else SECONDS)
        run.run(args.precision, baseline=not args.no_baseline, ablate=args.ablate)
    print_table(run.records)
    engine = {r["precision"]: r for r in run.records if r["kind"] == "engine"}
    first = engine[args.precision[0]]
    keys = ("labels_per_s", "ratio", "max_abs_delta_r")
    return {
        "baseline": BASELINE,
        "precision": first["precision"],
        **{key: first.get(key) for key in keys},
        "by_precision": {p: {key: r.get(key) for key in keys} for p, r in engine.items()},
        "matmul_peak_gflops": run.peaks,
        "num_images": labels.num_images,
        **extra,
        "records": run.records,
    }


def sweep(args: argparse.Namespace, save: Save) -> list[dict[str, Any]]:
    models = measurers(args, max(args.n, *MEASURERS))
    k = 8 if args.k == "real" else args.k
    size = (640, 480) if args.image_size == "real" else args.image_size
    options = {"labels": args.labels, "size": size, "baseline": args.baseline_labels}
    points = Sweep(models, args.n, k, batch=args.baseline_batch, seed=args.seed, **options)
    return points.run(args.precision, save)


def measurers(args: argparse.Namespace, n: int) -> dict[str, GroundingModel]:
    if args.model:
        models = load_measurers(args.model, n, own_positions=args.own_positions, seed=args.seed)
    else:
        models = make_measurers(
            n, args.backbone, args.preset, own_positions=args.own_positions, seed=args.seed
        )
    return {name: model.to(args.device) for name, model in models.items()}


def make_labels_of(
    args: argparse.Namespace, folder: Path, models: dict[str, GroundingModel]
) -> LabelTable:
    images = args.images or max(1, round(args.labels / mean_expressions(args.k)))
    if args.scenes:
        noise = NoiseConfig()
        count = args.images or -(-args.labels // 4)
        return make_labels(folder, count, source="mixed", noise=noise, seed=args.seed)
    labels = make_table(folder, Workload(images, args.k, args.image_size, args.seed))
    if not args.model:
        diversify(models, labels)
    return place_boxes(labels, predicted_boxes(models, labels), args.seed)


def machine(args: argparse.Namespace) -> dict[str, Any]:
    rates = product_rates(args.device, 0.05 if args.quick else SECONDS)
    return {**conditions(args.device), "product_gflops": rates}


def settings(args: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(args).items() if name not in ("json", "plot")}


def describe(args: argparse.Namespace) -> str:
    """Describe the workload in a few words, for the title of a chart."""
    size = args.image_size if args.image_size == "real" else "×".join(map(str, args.image_size))
    backbone = "trained model" if args.model else args.backbone
    where = "GPU" if args.device == "cuda" else f"CPU, threads: {torch.get_num_threads()}"
    if args.sweep:
        return f"{backbone}, {size} pictures, {where}"
    expressions = "real numbers of" if args.k == "real" else args.k
    return f"{backbone}, n = {args.n}, {expressions} expressions per image, {size}, {where}"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--backbone", default="ViT-B-16", help="random weights, but for clipvg-tiny")
    add("--model", nargs="+", help="trained measurers; more than given are disturbed copies")
    add("--n", type=int, default=3, help="measurers")
    add("--k", type=number_or_real, default=8, help="expressions an image, or real")
    add("--labels", type=int, default=256, help="about so many")
    add("--images", type=int, help="so many images instead")
    add("--image-size", type=size_or_real, default=(640, 480), help="WxH, or real")
    add("--scenes", action="store_true", help="rendered scenes with the demo's noisy labels")
    add("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", nargs="+", choices=("fp32", "bf16", "fp16"), default=["fp32"])
    add("--preset", choices=("default", "published"), default="default")
    add("--own-positions", action="store_true", help="no two measurers share an image pass")
    add("--threads", type=int, help="of torch")
    add("--decoded", action="store_true", help="images decoded beforehand, for both")
    add("--no-baseline", action="store_true")
    add("--baseline-labels", type=int, default=128)
    add("--baseline-batch", type=int, default=128)
    add("--baseline-workers", type=int, default=0, help="decoding processes of the reference")
    add(
        "--ablate",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="also without each optimisation",
    )
    add("--ablation-labels", type=int, default=128)
    add("--slow-labels", type=int, default=32, help="where each label encodes its image")
    add("--sweep", action="store_true")
    add("--memory", action="store_true")
    add("--memory-counts", type=int, nargs="+", default=COUNTS, help=argparse.SUPPRESS)
    add("--quick", action="store_true", help="smoke test")
    add("--seed", type=int, default=0)
    add("--json", type=Path)
    add("--plot", type=Path)
    if "--quick" in (sys.argv[1:] if arguments is None else arguments):
        parser.set_defaults(**QUICK, ablate=True)
    args = parser.parse_args(arguments)
    if args.model and "--n" not in (sys.argv if arguments is None else arguments):
        args.n = len(args.model)
    return args


def number_or_real(text: str) -> int | str:
    return text if text == "real" else int(text)


def size_or_real(text: str) -> tuple[int, int] | str:
    if text == "real":
        return text
    width, height = text.split("x")
    return int(width), int(height)


if __name__ == "__main__":
    main()
