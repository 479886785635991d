"""Run the Triton kernels of packed_attention in the interpreter; print errors against float64.

It is a process of its own because Triton chooses the interpreter at import. For each case it prints
relative errors of the mixed values and of the gradients of q, k and v: the kernels' and the
reference's.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
import torch
import triton
import triton.language as tl
from triton.runtime import interpreter

from clipvg.kernels import packed_attention as kernels
from clipvg.kernels._tune import Blocks, several_blocks
from clipvg.ops.packed_attention import dense

# numbers of queries and keys of each sequence, measurers, heads, width, dtype, factor of q
CASES = {
    "float32": ([0, 3, 37, 1, 70], None, 2, 1, 32, torch.float32, 1),
    "one query": ([1] * 5, [0, 3, 0, 1, 70], 1, 2, 48, torch.float32, 1),
    "short": ([0, 3, 0, 17, 1, 40, 0, 5], [2, 3, 5, 0, 1, 30, 1, 5], 2, 2, 16, torch.float32, 1),
    "wide": ([5, 40], None, 1, 1, 128, torch.float32, 1),
    "narrow": ([5, 18], None, 1, 1, 8, torch.float32, 1),
    "extreme": ([7, 33], None, 1, 1, 32, torch.float32, 1e4),
    "float16": ([0, 3, 70], None, 1, 1, 64, torch.float16, 1),
    "bfloat16": ([0, 3, 70], None, 1, 1, 64, torch.bfloat16, 1),
    "no tokens": ([0, 0], None, 1, 1, 32, torch.float32, 1),
    "no sequences": ([], None, 1, 1, 32, torch.float32, 1),
}


def widen_bfloat16() -> None:
    """Give the interpreter float32: it multiplies the bits of bfloat16 as integers."""
    create_dot = interpreter.InterpreterBuilder.create_dot

    def widened(self, a, b, *rest):
        a, b = (
            interpreter.TensorHandle((x.data.astype(np.uint32) << 16).view(np.float32), tl.float32)
            if x.dtype.scalar == tl.bfloat16
            else x
            for x in (a, b)
        )
        return create_dot(self, a, b, *rest)

    interpreter.InterpreterBuilder.create_dot = widened


def index_by_element() -> None:
    """Keep Triton 3.6's interpreter from calling int() on an array, which NumPy 2.4 refuses."""
    patch = interpreter._patch_lang_tensor

    def patched(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patched


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    if not actual.isfinite().all():
        return float("inf")
    return float((actual.double() - expected).norm() / expected.norm().clamp(min=1e-30))


def finite(x: torch.Tensor) -> torch.Tensor:
    """Replace the infinity that is the maximum of no logits by 0."""
    return x.where(x.isfinite(), 0.0)


def run(queries, keys, measurers, heads, width, dtype, factor) -> dict:
    keys = queries if keys is None else keys
    torch.manual_seed(0)
    cu_q, cu_k = (torch.tensor([0, *each]).cumsum(0).int() for each in (queries, keys))
    sizes = (cu_q, cu_k, max(queries, default=0), max(keys, default=0))
    fused = torch.randn(measurers, sum(keys), 3, heads, width).to(dtype)
    k, v = fused[:, :, 1], fused[:, :, 2]
    q = torch.randn(measurers, sum(queries), heads, width).to(dtype) * factor
    if keys is queries:
        q = fused[:, :, 0].mul_(factor)
    grad = torch.randn(sum(queries), measurers, heads, width).to(dtype).transpose(0, 1)

    def reference(dtype: torch.dtype) -> list[torch.Tensor]:
        own_grad, *parts = (x.to(dtype) for x in (grad, q, k, v))
        given = dense.Packed(*parts, *sizes)
        out, softmax = dense.reference(given)
        return [out, *dense.reference_backward(own_grad, given, out, softmax)]

    out, softmax = kernels.forward(q, k, v, *sizes)
    cut_otherwise = {
        "small blocks": Blocks(32, 16),
        "several": several_blocks(dtype, width),
        "several, small blocks": Blocks(16, 16, several=True),
    }
    others = {n: kernels.forward(q, k, v, *sizes, blocks=b) for n, b in cut_otherwise.items()}
    ours = [out, *kernels.backward(grad, q, k, v, out, softmax, *sizes)]
    true = reference(torch.float64)
    return {
        "ours": [error(*pair) for pair in zip(ours, true, strict=True)],
        "cut otherwise": {name: error(own, true[0]) for name, (own, _) in others.items()},
        "softmax": max(
            error(finite(kept), finite(softmax).double()) for _, kept in others.values()
        ),
        "reference": [error(*pair) for pair in zip(reference(dtype), true, strict=True)],
    }


@triton.jit
def distances(found, stride):
    """Store the number of elements from the first head's first row to each head's."""
    head, zero = tl.program_id(0), tl.arange(0, 1)
    at = kernels._rows(found, head * 0, head, 0, zero, zero, 0, 0, stride)
    apart = (at.to(tl.int64) - found.to(tl.int64)) // 8
    tl.store(found + head + zero[:, None] + zero[None, :], apart)


def heads_far_apart() -> list[int]:
    """Return addresses only: heads that lie so far apart would fill gigabytes."""
    found = torch.zeros(4, dtype=torch.int64)
    distances[(4,)](found, 2**30)
    return found.tolist()


@triton.jit
def places(found, offsets, tokens):
    """Store the first token and the length that a kernel takes each sequence to have."""
    first, length = kernels._place(offsets, tl.program_id(0), tokens)
    tl.store(found + 2 * tl.program_id(0), first)
    tl.store(found + 2 * tl.program_id(0) + 1, length)


WILD = [5, -7, 10**6, 3, 2**31 - 1, -(2**31), 9]


def wild_offsets() -> dict:
    """Run all kernels on invalid offsets, and return the places that they take them for."""
    tokens, count = 9, len(WILD) - 1
    offsets, found = torch.tensor(WILD, dtype=torch.int32), torch.zeros(count, 2, dtype=torch.int64)
    places[(count,)](found, offsets, tokens)
    q = torch.randn(1, tokens, 1, 16)
    sizes = (offsets, offsets.flip(0).contiguous(), tokens, tokens)
    for blocks in (Blocks(16, 16), Blocks(16, 16, several=True)):
        out, softmax = kernels.forward(q, q, q, *sizes, blocks=blocks)
    kernels.backward(q, q, q, q, out, finite(softmax), *sizes)
    return {"tokens": tokens, "places": found.tolist()}


if __name__ == "__main__":
    warnings.simplefilter("ignore", RuntimeWarning)  # log2(0) of masked rows
    widen_bfloat16()
    index_by_element()
    found = {name: run(*case) for name, case in CASES.items()}
    found |= {"heads far apart": heads_far_apart(), "wild offsets": wild_offsets()}
    print(json.dumps(found))
