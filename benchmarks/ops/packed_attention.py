"""Time packed_attention on the tokens of a rescoring run against PyTorch's alternatives.

python benchmarks/ops/packed_attention.py [--device cpu|cuda] [--case TEXT] [--json FILE] [--blocks]

A sequence is [REG], the text, [CLS] and the real patches of a letterboxed image, with sizes and
text lengths of benchmarks/data/refcoco_sample.json and the published fusion encoder's heads. The
conversion to the layouts that the alternatives need (padded, jagged) is not timed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clipvg.model.fast.fusion import Linear
from clipvg.ops import backend, backends, load_operators, packed_attention
from clipvg.ops.runs import equal_runs

sys.path.insert(0, str(Path(__file__).parents[1]))
from _harness import Case, chosen, compare, compiles, options, write

SAMPLE = Path(__file__).parents[1] / "data" / "refcoco_sample.json"
HEADS, WIDTH = 8, 64  # heads of each measurer, and their width
GRID, PATCH = 14, 16
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # relative to the norm
BLOCKS = [(16, 64, 4), (32, 64, 4), (64, 32, 4), (64, 64, 4), (64, 64, 8), (128, 64, 8)]


@dataclass(frozen=True)
class Size:
    """A case: number of measurers and of labels (or tokens per sequence), dtype, computation."""

    measurers: int
    labels: int
    dtype: str
    what: str

    @property
    def name(self) -> str:
        unit = "tokens" if self.what in (LONG, EQUAL, MANY) else "labels"
        return f"{self.measurers} x {self.labels} {unit} {self.dtype}, {self.what}"


FORWARD, BOTH, LONG = "forward", "forward and backward", "one sequence, forward"
EQUAL, MANY = "16 equal sequences, forward", "2048 equal sequences, forward"
LAST = "last layer, one query"
SEVERAL = "triton, several a program"
SIZES = {
    "cpu": [
        Size(1, 8, "float32", FORWARD),
        Size(1, 64, "float32", FORWARD),
        Size(3, 64, "float32", FORWARD),
        Size(1, 64, "float32", BOTH),
        Size(3, 64, "float32", LAST),
        *(Size(1, tokens, "float32", EQUAL) for tokens in (20, 64, 200, 1024)),
        Size(1, 2048, "float32", LONG),
    ],
    "cuda": [
        Size(3, 256, "bfloat16", FORWARD),  # the most valuable first, because time may run out
        Size(1, 256, "bfloat16", BOTH),
        Size(3, 256, "float32", FORWARD),
        Size(3, 256, "bfloat16", LAST),
        *(Size(1, tokens, "bfloat16", MANY) for tokens in (20, 64)),
        Size(1, 16384, "bfloat16", LONG),
    ],
}


def mix(labels: int) -> list[int]:
    """Return the lengths of the sequences of some labels, sorted as the engine sorts them."""
    generator, sample = np.random.default_rng(0), json.loads(SAMPLE.read_text())
    counts = {int(tokens): count for tokens, count in sample["expressions_by_tokens"].items()}
    share = np.array(list(counts.values())) / sum(counts.values())
    texts = generator.choice(list(counts), labels, p=share)
    sizes = generator.choice([image["size"] for image in sample["images"]], labels)
    return sorted(2 + int(text) + patches(*size) for text, size in zip(texts, sizes, strict=True))


def patches(width: int, height: int) -> int:
    """Return the number of patches that overlap an image centred in the square."""
    kept = round(GRID * PATCH * min(width, height) / max(width, height))
    margin = (GRID * PATCH - kept) // 2
    return GRID * (-(-(margin + kept) // PATCH) - margin // PATCH)


@dataclass(frozen=True)
class Inputs:
    """Packed tokens of n measurers: q, k and v (n, T, H, d), views of one product."""

    parts: tuple[Tensor, ...]
    lengths: list[int]
    offsets: Tensor  # on the host

    @property
    def longest(self) -> int:
        return max(self.lengths)

    def folded(self) -> list[Tensor]:
        """Return q, k and v, (T, n * H, d) each."""
        return [part.transpose(0, 1).flatten(1, 2).contiguous() for part in self.parts]

    def padded(self) -> tuple[list[Tensor], Tensor]:
        """Return q, k and v, (B, n * H, longest, d) each, and the mask of real keys."""
        padded = [
            torch.nn.utils.rnn.pad_sequence(list(part.split(self.lengths)), batch_first=True)
            for part in self.folded()
        ]
        real = torch.arange(self.longest) < torch.tensor(self.lengths)[:, None]
        parts = [part.transpose(1, 2).contiguous() for part in padded]
        return parts, real[:, None, None].to(parts[0].device)


def inputs(size: Size, device: str) -> Inputs:
    count = {LONG: 1, EQUAL: 16, MANY: 2048}.get(size.what)
    lengths = [size.labels] * count if count else mix(size.labels)
    shape = (size.measurers, sum(lengths), 3, HEADS, WIDTH)
    generator = torch.Generator().manual_seed(0)
    fused = torch.randn(shape, generator=generator).to(device, DTYPES[size.dtype])
    offsets = torch.tensor([0, *lengths]).cumsum(0).int()
    return Inputs(fused.unbind(2), lengths, offsets)


def timed(function: Callable[..., Tensor], parts: list[Tensor], size: Size) -> Callable:
    """Return the call to time, with the gradients of q, k and v if `size.what` asks for them."""
    if size.what != BOTH:
        return torch.no_grad()(lambda: function(*parts))
    leaves = [part.detach().requires_grad_() for part in parts]
    upstream = torch.ones_like(function(*leaves))
    return lambda: torch.autograd.grad(function(*leaves), leaves, upstream)


def on(name: str, function: Callable) -> Callable:
    def call() -> object:
        with backend(name):
            return function()

    return call


def available(device: str) -> list[str]:
    return [
        row["backend"]
        for row in backends()
        if (row["operator"], row["device"]) == ("packed_attention", device) and row["available"]
    ]


def definition(q: Tensor, k: Tensor, v: Tensor, real: Tensor) -> Tensor:
    scores = (q @ k.mT * WIDTH**-0.5).masked_fill(~real, -torch.inf)
    return scores.softmax(-1) @ v


Provider = tuple[Callable[..., Tensor], list[Tensor]]  # a function and its arguments


def providers(
    own: Inputs, size: Size, args: argparse.Namespace
) -> dict[str, Callable[[], Provider]]:
    """Return a factory for each provider: making PyTorch's prototypes may already fail."""
    found: dict[str, Callable[[], Provider]] = {}
    device = args.device
    offsets = own.offsets.to(device)

    def packed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # PyTorch's kernels read offsets on the host, Triton's on the device.
        return packed_attention(q, k, v, own.offsets, own.longest)

    def packed_device(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return packed_attention(q, k, v, offsets, own.longest)

    for name in available(device):
        function = packed_device if name == "triton" else packed
        found[name] = lambda function=function: (function, list(own.parts))
    found["SDPA, padded, mask"] = lambda: masked(own)
    is_mix = size.what in (FORWARD, BOTH) and size.dtype == "bfloat16"
    if compiles(device, first=is_mix and size.what == FORWARD, quick=args.quick):
        found["compiled definition, padded"] = lambda: compiled_definition(own)
    found["SDPA, jagged"] = lambda: (jagged(own, device), own.folded())
    if device == "cuda":
        if is_mix:  # it compiles for each case
            found["FlexAttention"] = lambda: (
                flex(own),
                [part.transpose(0, 1)[None] for part in own.folded()],
            )
        if size.dtype != "float32":
            found["varlen_attn"] = lambda: (varlen(own), own.folded())
    if "triton" in found and size.what not in (BOTH, LONG):
        found[SEVERAL] = lambda: (with_blocks(own, several_blocks(own.parts[0].dtype)), [])
    if args.blocks and "triton" in found and size.what != BOTH:
        found |= {
            f"triton {owned}x{read}, {warps} warps": lambda some=(owned, read, warps): (
                with_blocks(own, some_blocks(*some)),
                [],
            )
            for owned, read, warps in BLOCKS
        }
    return found


def masked(own: Inputs) -> Provider:
    padded, real = own.padded()
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=real), padded


def compiled_definition(own: Inputs) -> Provider:
    padded, real = own.padded()
    compiled = torch.compile(definition)
    return lambda q, k, v: compiled(q, k, v, real), padded


def jagged(own: Inputs, device: str) -> Callable[..., Tensor]:
    offsets = own.offsets.to(device, torch.int64)

    def call(*parts: Tensor) -> Tensor:
        nested = (
            torch.nested.nested_tensor_from_jagged(
                part, offsets, min_seqlen=min(own.lengths), max_seqlen=own.longest
            ).transpose(1, 2)
            for part in parts
        )
        return F.scaled_dot_product_attention(*nested).transpose(1, 2).values()

    return call


def varlen(own: Inputs) -> Callable[..., Tensor]:
    from torch.nn.attention.varlen import varlen_attn

    offsets = own.offsets.cuda()
    return lambda q, k, v: varlen_attn(q, k, v, offsets, offsets, own.longest, own.longest)


def flex(own: Inputs) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    tokens = sum(own.lengths)
    sequence = torch.repeat_interleave(torch.tensor(own.lengths)).cuda()
    mask = create_block_mask(
        lambda b, h, q, k: sequence[q] == sequence[k], None, None, tokens, tokens, _compile=True
    )
    compiled = torch.compile(flex_attention)
    return lambda q, k, v: compiled(q, k, v, block_mask=mask)


def with_blocks(own: Inputs, blocks: Any) -> Callable[[], Tensor]:
    from clipvg.kernels.packed_attention import forward

    offsets = own.offsets.cuda()
    sizes = (offsets, offsets, own.longest, own.longest)
    return lambda: forward(*own.parts, *sizes, blocks=blocks)[0]


def some_blocks(owned: int, read: int, warps: int) -> Any:
    from clipvg.kernels._tune import Blocks

    return Blocks(owned, read, warps)


def several_blocks(dtype: torch.dtype) -> Any:
    from clipvg.kernels._tune import several_blocks

    return several_blocks(dtype, WIDTH)


def last_layer(own: Inputs, size: Size, device: str) -> dict[str, Callable[[], Tensor]]:
    """Return [REG]'s attention over tokens (n, T, D) with and without forming keys and values."""
    width, count = HEADS * WIDTH, len(own.lengths)
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, DTYPES[size.dtype])

    x = normal(size.measurers, sum(own.lengths), width)
    to_q, to_k, to_v = (
        Linear(normal(size.measurers, width, width) / width**0.5, normal(size.measurers, width))
        for _ in range(3)
    )
    table = normal(size.measurers, own.longest, width)
    places = torch.cat([torch.arange(length) for length in own.lengths]).to(device)
    edges = own.offsets.tolist()
    first = torch.tensor(edges[:-1], device=device)
    one = torch.arange(count + 1, dtype=torch.int32)
    on_device = {"triton": (own.offsets.to(device), one.to(device))}

    def not_formed() -> Tensor:
        # q·(W_k y + b_k) is (W_kᵀ q)·y plus a constant, which softmax ignores, and
        # Σ a (W_v x + b_v) is W_v Σ a x + b_v: both matrices multiply one vector per head, not T.
        of_k, of_v = (each.weight.view(-1, HEADS, WIDTH, width) for each in (to_k, to_v))
        placed = x + table.index_select(1, places)
        query = to_q(placed[:, first]).unflatten(-1, (HEADS, -1)) * WIDTH**-0.5
        query = torch.einsum("nbhd,nhdw->nbhw", query, of_k)
        mixed, done = torch.empty_like(query), 0
        for run in equal_runs(edges, edges):
            own_query = query[:, done : done + run.count]
            keys, values = (t[:, run.key_tokens].unflatten(1, (run.count, -1)) for t in (placed, x))
            weights = (keys @ own_query.mT).float().softmax(2).to(x.dtype)  # (n, count, length, H)
            mixed[:, done : done + run.count] = weights.mT @ values
            done += run.count
        return torch.einsum("nbhw,nhdw->nbhd", mixed, of_v).flatten(-2) + to_v.bias[:, None]

    def formed(name: str) -> Tensor:
        offsets, queries = on_device.get(name, (own.offsets, one))
        placed = x + table.index_select(1, places)
        q, k, v = to_q(placed[:, first]), to_k(placed), to_v(x)
        q, k, v = (part.unflatten(-1, (HEADS, WIDTH)) for part in (q, k, v))
        options = {"cu_queries": queries, "max_queries": 1}
        return packed_attention(q, k, v, offsets, own.longest, **options).flatten(-2)

    found: dict[str, Callable[[], Tensor]] = {"no keys, no values": not_formed}
    for name in available(device):
        found[f"keys, values, one query: {name}"] = on(name, lambda name=name: formed(name))
    return {name: torch.no_grad()(function) for name, function in found.items()}


def packed_result(name: str, result: Tensor, own: Inputs) -> Tensor:
    """Return a provider's result as (T, n * H, d)."""
    if "padded" in name:
        rows = result.transpose(1, 2)
        return torch.cat([rows[i, :length] for i, length in enumerate(own.lengths)])
    if name == "FlexAttention":
        return result[0].transpose(0, 1)
    if name in ("SDPA, jagged", "varlen_attn"):
        return result
    return result.transpose(0, 1).flatten(1, 2)


def differs(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def usable(own: Inputs, size: Size, args: argparse.Namespace) -> dict[str, Callable]:
    """Return the providers that run and agree with the first; print which of PyTorch's do not."""
    calls: dict[str, Callable] = {}
    expected = None
    for name, make in providers(own, size, args).items():
        scope = name if name in ("reference", "native", "triton") else "auto"
        try:
            function, parts = make()
            with backend(scope), torch.no_grad():
                result = packed_result(name, function(*parts), own)
            expected = result if expected is None else expected
            error = differs(result, expected)
            if not error < TOLERANCE[DTYPES[size.dtype]]:
                raise ArithmeticError(f"the result differs by {error:.2g} of its norm")
            with backend(scope):
                call = timed(function, parts, size)
                call()  # gradients may fail even if results do not
        except Exception as error:
            if scope != "auto":
                raise
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"{size.name}: {name} is left out: {reason}", flush=True)
            continue
        calls[name] = on(scope, call)
    return calls


def amounts(own: Inputs, size: Size) -> Case:
    """Return the case with the least products and bytes that the definition requires."""
    q = own.parts[0]
    pairs = sum(length**2 for length in own.lengths)
    flops = 4 * size.measurers * HEADS * WIDTH * pairs
    moved = 4 * q.numel() * q.element_size()  # q, k, v; the result
    if size.what == BOTH:  # seven products in place of two; three times the bytes
        flops, moved = flops * 7 // 2, moved * 3
    return Case(size.name, moved, flops, q.dtype)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--blocks", action="store_true", help="also other blocks of the kernel")
    args = parser.parse_args()
    load_operators()
    sizes = {size.name: size for size in SIZES[args.device]}
    for size in chosen(sizes, args.case).values():
        own = inputs(size, args.device)
        if size.what == LAST:
            calls, case = last_layer(own, size, args.device), Case(size.name)
            first, *others = (function() for function in calls.values())
            assert all(differs(x, first) < TOLERANCE[DTYPES[size.dtype]] for x in others)
        else:
            calls, case = usable(own, size, args), amounts(own, size)
        records = compare("packed_attention", case, calls, args.device, quick=args.quick)
        if args.json:
            write(args.json, records, args.device)


if __name__ == "__main__":
    main()
