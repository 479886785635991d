"""Times box_reliability: reference, native kernels, and separate passes with torchvision.

python benchmarks/ops/box_reliability.py [--device cpu|cuda] [--write]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torchvision.ops import box_convert

from clipvg.ops import backend, backends, box_reliability, box_reliability_numpy

sys.path.insert(0, str(Path(__file__).parents[1]))
from _harness import compare, write

CASES = [(1, 10_000), (1, 1_000_000), (3, 1_000_000)]  # measurers, labels
BINS = 1000


def eager(pred: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Separate passes: convert, clamp, IoU of matched boxes, histogram."""
    pred = box_convert(pred, "cxcywh", "xyxy").clamp(0, 1)
    target = box_convert(target, "cxcywh", "xyxy")
    low = torch.maximum(pred[..., :2], target[..., :2])
    high = torch.minimum(pred[..., 2:], target[..., 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (pred, target)]
    iou = inter / (areas[0] + areas[1] - inter + 1e-16)
    return iou, torch.stack([row.histc(BINS, 0, 1) for row in iou])


def on(name: str, function: Callable, *args: object) -> Callable[[], object]:
    def call() -> object:
        with backend(name):
            return function(*args, bins=BINS)

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--write", action="store_true", help="record under benchmarks/results")
    args = parser.parse_args()
    usable = {(row["device"], row["backend"]) for row in backends() if row["available"]}
    records = []
    for measurers, labels in CASES:
        generator = torch.Generator().manual_seed(0)
        pred = torch.rand(measurers, labels, 4, generator=generator).to(args.device)
        target = torch.rand(labels, 4, generator=generator).to(args.device)
        providers = {"eager, separate passes": lambda p=pred, t=target: eager(p, t)}
        for name in ("reference", "native", "triton"):
            if (args.device, name) in usable:
                providers[name] = on(name, box_reliability, pred, target)
            if args.device == "cpu" and ("numpy", name) in usable:
                arrays = pred.numpy(), target.numpy()
                providers[f"numpy {name}"] = on(name, box_reliability_numpy, *arrays)
        expected = providers["reference"]()
        for name, function in providers.items():
            iou = torch.as_tensor(function()[0])
            torch.testing.assert_close(iou, expected[0], rtol=0, atol=1e-5, msg=name)
        case = f"{measurers} x {labels}, {BINS} bins"
        records += compare("box_reliability", case, providers, args.device)
    if args.write:
        write("box_reliability", records, args.device)


if __name__ == "__main__":
    main()
