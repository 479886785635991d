"""Time box_reliability against its reference, a compiled reference and library functions.

python benchmarks/ops/box_reliability.py [--device cpu|cuda] [--case TEXT] [--json FILE]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torchvision.ops import box_convert, box_iou

from clipvg.ops import backend, backends, box_reliability, box_reliability_numpy
from clipvg.ops.box_reliability.op import reference

sys.path.insert(0, str(Path(__file__).parents[1]))
from _harness import Case, chosen, compare, compiles, options, write

BINS = 1000
DTYPES = {"float32": torch.float32, "float64": torch.float64}
DTYPES |= {"float16": torch.float16, "bfloat16": torch.bfloat16}
# measurers, labels, dtype, scores
SIZES = [
    (1, 100, "float32", "spread"),
    (1, 10_000, "float32", "spread"),
    (1, 1_000_000, "float32", "spread"),
    (1, 10_000_000, "float32", "spread"),
    (1, 10_000_000, "float32", "one bin"),
    (1, 10_000_000, "float32", "distinct"),
    (3, 10_000_000, "float32", "spread"),
    (1, 10_000_000, "bfloat16", "spread"),
    (1, 10_000_000, "float16", "spread"),
    (1, 10_000_000, "float64", "spread"),
    (1, 100_000_000, "float32", "spread"),
    (1, 100_000_000, "float32", "one bin"),
    (3, 100_000_000, "bfloat16", "spread"),
]
ONLY_GPU_LABELS = 100_000_000  # the reference's intermediates take 10 GB and its call 10 s on a CPU
MATRIX_LABELS = 10_000  # above it box_iou's N x N matrix, even in chunks, is far slower still
CHUNK = 1000


def boxes(
    measurers: int, labels: int, scores: str, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make predictions and targets whose scores are spread, all 1, or all distinct (IoU k / N)."""
    generator = torch.Generator(device).manual_seed(0)
    random = {"generator": generator, "device": device}
    target = torch.rand(labels, 4, **random) * 0.4 + 0.3
    pred = target.expand(measurers, -1, -1).contiguous()
    if scores == "spread":
        pred += 0.1 * torch.randn(measurers, labels, 4, **random)
    elif scores == "distinct":
        target[:] = torch.tensor([0.5, 0.5, 1.0, 1.0], device=device)
        pred[:] = target
        pred[..., 3] = (torch.randperm(labels, **random) + 1) / labels
    return pred, target


def passes(pred: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Separate passes: convert, clamp, IoU of matched boxes, torch.histc."""
    pred = box_convert(pred.float(), "cxcywh", "xyxy").clamp(0, 1)
    target = box_convert(target.float(), "cxcywh", "xyxy")
    low = torch.maximum(pred[..., :2], target[..., :2])
    high = torch.minimum(pred[..., 2:], target[..., 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (pred, target)]
    iou = inter / (areas[0] + areas[1] - inter + 1e-16)
    return iou, torch.stack([row.histc(BINS, 0, 1) for row in iou])


def matrix(pred: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The diagonal of torchvision's box_iou, in chunks, and torch.histc."""
    pred = box_convert(pred.float(), "cxcywh", "xyxy").clamp(0, 1)
    target = box_convert(target.float(), "cxcywh", "xyxy")
    chunks = zip(pred[0].split(CHUNK), target.split(CHUNK), strict=True)
    iou = torch.cat([box_iou(ours, theirs).diagonal() for ours, theirs in chunks])[None]
    return iou, iou.histc(BINS, 0, 1)[None]


def numpy_histogram(pred: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The NumPy IoU, with numpy.histogram instead of counting by bin index."""
    iou, _ = box_reliability_numpy(pred, target, bins=1)
    return iou, np.stack([np.histogram(row, BINS, (0, 1))[0] for row in iou])


def on(name: str, function: Callable, *args: object) -> Callable[[], tuple]:
    def call() -> tuple:
        with backend(name):
            return function(*args, **({"bins": BINS} if function in FACES else {}))

    return call


FACES = (box_reliability, box_reliability_numpy)


def providers(
    pred: torch.Tensor, target: torch.Tensor, device: str, compiled: bool
) -> dict[str, Callable]:
    usable = {(row["device"], row["backend"]) for row in backends() if row["available"]}
    found: dict[str, Callable] = {"reference": on("reference", box_reliability, pred, target)}
    if (device, "native") in usable:
        found["native"] = on("native", box_reliability, pred, target)
    if compiled:
        function = torch.compile(reference)
        arguments = (pred, target, None, 1, BINS, "cxcywh", 1e-16)
        found["torch.compile of the reference"] = lambda: function(*arguments)
    found["torchvision convert, torch.histc"] = lambda: passes(pred, target)
    if len(pred) == 1 and len(target) <= MATRIX_LABELS:
        found["torchvision box_iou diagonal"] = lambda: matrix(pred, target)
    if device == "cpu" and pred.dtype == torch.float32:
        arrays = pred.numpy(), target.numpy()
        found["numpy reference"] = on("reference", box_reliability_numpy, *arrays)
        found["numpy, numpy.histogram"] = on("reference", numpy_histogram, *arrays)
        if ("numpy", "native") in usable:
            found["numpy native"] = on("native", box_reliability_numpy, *arrays)
    return found


def check(functions: dict[str, Callable]) -> None:
    """Assert that the providers agree; those of this package bit for bit."""
    expected = functions["reference"]()
    for name, function in functions.items():
        iou, hist = (torch.as_tensor(part) for part in function()[:2])
        exact = name.removeprefix("numpy ") in ("reference", "native")
        atol = 0 if exact else 1e-5
        torch.testing.assert_close(iou, expected[0], rtol=0, atol=atol, msg=name)
        # Libraries place bin edges differently, and histc counts in float32.
        assert not exact or torch.equal(hist, expected[1]), name


def main() -> None:
    args = options(__doc__).parse_args()
    sizes = {
        f"{measurers} x {labels} {dtype}, {scores}": (measurers, labels, dtype, scores)
        for measurers, labels, dtype, scores in SIZES
        if args.device != "cpu" or labels < ONLY_GPU_LABELS
    }
    for at, (name, size) in enumerate(chosen(sizes, args.case).items()):
        measurers, labels, dtype, scores = size
        made = boxes(measurers, labels, scores, args.device)
        pred, target = (part.to(DTYPES[dtype]) for part in made)
        functions = providers(
            pred, target, args.device, compiles(args.device, first=at == 0, quick=args.quick)
        )
        check(functions)
        # Each box is read once and each score written once.
        moved = pred.nbytes + target.nbytes + 4 * measurers * labels
        case = Case(name, moved)
        records = compare("box_reliability", case, functions, args.device, quick=args.quick)
        if args.json:
            write(args.json, records, args.device)


if __name__ == "__main__":
    main()
