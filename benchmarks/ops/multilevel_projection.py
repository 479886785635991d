"""Time multilevel_projection against one linear layer over the concatenated levels.

python benchmarks/ops/multilevel_projection.py [--device cpu|cuda] [--case TEXT] [--json FILE]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.ops import backend, backends, multilevel_projection

sys.path.insert(0, str(Path(__file__).parents[1]))
from _harness import Case, chosen, compare, compiles, options, write

# ViT-B/16: four levels of 768 channels, [CLS] and 14 x 14 patches, a fusion encoder of width 512
LEVELS, COLUMNS, TOKENS, CHANNELS = 4, 768, 197, 512
KEPT = 0.75  # share of tokens that a letterboxed 4:3 image keeps
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# images, dtype, what is computed; in reverse on a GPU, where the last ones are the most valuable
SIZES = [
    (1, "float32", "all tokens"),
    (32, "float32", "all tokens"),
    (32, "float32", "kept tokens"),
    (8, "float32", "forward and backward"),
    (32, "float16", "kept tokens"),
    (64, "bfloat16", "forward and backward"),
    (32, "bfloat16", "kept tokens"),
]
ONLY_GPU = {(32, "float16", "kept tokens"), (64, "bfloat16", "forward and backward")}


def inputs(images: int, dtype: torch.dtype, what: str, device: str) -> dict:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    levels = [normal(images, TOKENS, COLUMNS) for _ in range(LEVELS)]
    weight = normal(CHANNELS, LEVELS * COLUMNS) * COLUMNS**-0.5
    found = {"levels": levels, "weight": weight, "bias": normal(CHANNELS)}
    if what == "kept tokens":
        count = images * TOKENS
        order = torch.randperm(count, generator=generator)[: round(KEPT * count)]
        found["index"] = order.sort().values.to(device)
    return found


def concatenated(
    levels: list[Tensor], weight: Tensor, bias: Tensor, index: Tensor | None = None
) -> Tensor:
    if index is not None:
        levels = [level.flatten(0, 1).index_select(0, index) for level in levels]
    return F.linear(torch.cat(levels, dim=-1), weight, bias)


def with_gradient(function: Callable[..., Tensor], parts: dict, what: str) -> Callable:
    """Return the call to time, with the gradients of weight and bias if `what` asks for them."""
    if what != "forward and backward":
        return torch.no_grad()(lambda: function(**parts))
    learnt = [parts[name].requires_grad_() for name in ("weight", "bias")]
    upstream = torch.ones_like(function(**parts))
    return lambda: torch.autograd.grad(function(**parts), learnt, upstream)


def on(name: str, function: Callable) -> Callable:
    def call() -> object:
        with backend(name):
            return function()

    return call


def providers(parts: dict, what: str, device: str, compiled: bool) -> dict[str, Callable]:
    found = {"cat, linear": with_gradient(concatenated, parts, what)}
    if compiled:
        function = torch.compile(concatenated)
        found["torch.compile of cat, linear"] = with_gradient(function, parts, what)
    ours = with_gradient(multilevel_projection, parts, what)
    found["a product a level (reference)"] = on("reference", ours)
    usable = {
        (row["device"], row["backend"])
        for row in backends()
        if row["operator"] == "multilevel_projection" and row["available"]
    }
    if (device, "triton") in usable:
        found["triton"] = on("triton", ours)
    return found


def check(functions: dict[str, Callable], dtype: torch.dtype) -> None:
    """Assert that the providers agree."""
    allowed = 1e-5 if dtype == torch.float32 else 1e-2
    expected, *others = (function() for function in functions.values())
    for name, found in zip(list(functions)[1:], others, strict=True):
        pairs = (
            [(found, expected)] if isinstance(found, Tensor) else zip(found, expected, strict=True)
        )
        for mine, theirs in pairs:
            error = (mine.double() - theirs.double()).norm() / theirs.double().norm()
            assert error < allowed, (name, float(error))


def work(parts: dict, what: str) -> tuple[int, int]:
    """Return the bytes that must be read and written, and the floating-point operations."""
    learns, weight = what == "forward and backward", parts["weight"]
    rows = len(parts["index"]) if "index" in parts else parts["levels"][0].shape[:-1].numel()
    read = rows * LEVELS * COLUMNS * weight.element_size()
    written = rows * CHANNELS * weight.element_size()
    # The backward pass reads features and gradient and writes the weight's gradient.
    bytes_moved = (1 + learns) * (read + written + weight.nbytes)
    return bytes_moved, (1 + learns) * 2 * rows * weight.numel()


def main() -> None:
    args = options(__doc__).parse_args()
    sizes = {
        f"{images} x {TOKENS} {dtype}, {what}": (images, dtype, what)
        for images, dtype, what in (SIZES if args.device == "cpu" else reversed(SIZES))
        if args.device != "cpu" or (images, dtype, what) not in ONLY_GPU
    }
    for at, (name, (images, dtype, what)) in enumerate(chosen(sizes, args.case).items()):
        parts = inputs(images, DTYPES[dtype], what, args.device)
        compiled = compiles(args.device, first=at == 0, quick=args.quick)
        functions = providers(parts, what, args.device, compiled)
        check(functions, DTYPES[dtype])
        case = Case(name, *work(parts, what), DTYPES[dtype])
        records = compare("multilevel_projection", case, functions, args.device, quick=args.quick)
        if args.json:
            write(args.json, records, args.device)


if __name__ == "__main__":
    main()
