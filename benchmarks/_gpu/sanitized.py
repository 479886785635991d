"""A few small calls of the CUDA kernels, to be run under compute-sanitizer.

compute-sanitizer --tool memcheck python benchmarks/_gpu/sanitized.py
"""

from __future__ import annotations

import torch

from clipvg.ops import backend, box_reliability

# labels, bins, groups: several blocks and a ragged end; counters in shared and in global memory
CALLS = [(1, 1, 1), (129, 10, 1), (100_003, 1000, 1), (10_001, 1000, 4), (10_001, 65_536, 1)]


def main() -> None:
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
                target = flat.cuda()[1:].view(-1, 4)  # which 16-byte loads cannot read
                _, hist = box_reliability(pred.cuda(), target, group=group.cuda(), **options)
            assert torch.equal(hist.cpu(), expected), (labels, bins, groups, dtype)


if __name__ == "__main__":
    main()
