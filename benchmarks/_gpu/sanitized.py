"""Make a few small calls of the CUDA and Triton kernels, to be run under compute-sanitizer.

compute-sanitizer --tool memcheck python benchmarks/_gpu/sanitized.py [cuda|cpu]
"""

from __future__ import annotations

import sys

import torch

from clipvg.ops import backend, backends, box_reliability, packed_attention

# labels, bins, groups: several blocks and a ragged end; counters in shared and in global memory
CALLS = [(1, 1, 1), (129, 10, 1), (100_003, 1000, 1), (10_001, 1000, 4), (10_001, 65_536, 1)]


LENGTHS = [0, 3, 1, 70, 17]
WILD = [5, -7, 10**6, 3, 2**31 - 1, 9]  # invalid offsets; kernels must stay within the tensors


def score(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for labels, bins, groups in CALLS:
        for dtype in (torch.float32, torch.bfloat16):
            pred = torch.rand(3, labels, 4, generator=generator).to(dtype)
            flat = torch.rand(4 * labels + 1, generator=generator).to(dtype)
            group = torch.arange(labels) % groups
            options = {"num_groups": groups, "bins": bins}
            with backend("reference"):  # on the CPU: the sanitizer slows every kernel
                target = flat[1:].view(-1, 4)
                _, expected = box_reliability(pred, target, group=group, **options)
            with backend("native"):
                target = flat.to(device)[1:].view(-1, 4)  # misaligned for 16-byte loads
                own, groups_there = pred.to(device), group.to(device)
                _, hist = box_reliability(own, target, group=groups_there, **options)
            assert torch.equal(hist.cpu(), expected), (labels, bins, groups, dtype)


def attend(device: str) -> None:
    """Call packed attention and its gradients; in Triton also with offsets outside the tensors."""
    runs = {(row["operator"], row["device"]): row for row in backends() if row["available"]}
    name = runs["packed_attention", device]["backend"]  # the last one: Triton if it can run
    tokens, edges = sum(LENGTHS), torch.tensor([0, *LENGTHS]).cumsum(0).int()
    for offsets in (edges, *([torch.tensor(WILD, dtype=torch.int32)] if name == "triton" else [])):
        q, k, v = (torch.randn(tokens, 2, 64, device=device).requires_grad_() for _ in range(3))
        with backend(name):
            out = packed_attention(q, k, v, offsets.to(device), tokens)
        torch.autograd.grad(out.sum(), (q, k, v))


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cuda"
    score(device)
    attend(device)
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
