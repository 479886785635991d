"""How kernels are cut into programs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import triton

# Longest sequence up to which a program of packed attention's forward pass takes several; 0: never.
# `python benchmarks/gpu.py --decide RESULT.json` says it, from a run on a GPU.
SEVERAL_UP_TO = 0


@dataclass(frozen=True)
class Blocks:
    """How a kernel is cut: rows that a program owns, rows that it reads a step, warps, stages.

    `several`: the rows owned are side by side, of whichever sequences (forward pass only).
    """

    owned: int
    read: int
    warps: int = 4
    stages: int = 2
    several: bool = False


def forward_blocks(dtype: torch.dtype, width: int, queries: int, keys: int) -> Blocks:
    """Blocks of the forward pass, see `choose_blocks`."""
    if max(queries, keys) <= SEVERAL_UP_TO:
        return several_blocks(dtype, width)
    return choose_blocks(dtype, width, queries, keys)


def several_blocks(dtype: torch.dtype, width: int) -> Blocks:
    """Blocks of several sequences a program: as large as those of a longer one."""
    return replace(choose_blocks(dtype, width, 256, 256), several=True)


def choose_blocks(
    dtype: torch.dtype, width: int, owned: int, read: int, *, keys: bool = False
) -> Blocks:
    """Blocks for heads of a width and sequences of up to so many rows owned and read.

    Short ones, because what a block reaches past its sequence is computed and thrown away, and
    small ones: by ptxas for sm_80 and sm_90 none of these spills more than 8 bytes of registers.
    Exact products of float32 hold all operands in registers; a program that owns keys holds two
    sums. Chosen without a GPU: benchmarks/ops/packed_attention.py --blocks times others.

    Args:
        dtype: of the tensors.
        width: d.
        owned: most rows of a sequence that are cut among programs.
        read: most rows of a sequence that each program reads.
        keys: whether keys are owned and queries read.
    """
    is_wide = width > 64
    is_half = dtype != torch.float32
    if is_half and keys:
        most = Blocks(32 if is_wide else 64, 32)
    elif is_half:
        is_long = owned > 512 and not is_wide
        most = Blocks(128, 64, warps=8) if is_long else Blocks(64, 32 if is_wide else 64)
    elif keys:
        most = Blocks(32, 16)
    else:
        most = Blocks(32 if is_wide else 64, 32, warps=8)
    rows, step = (max(16, triton.next_power_of_2(count)) for count in (owned, read))
    if rows < most.owned:
        return Blocks(rows, min(most.read, step))
    return replace(most, read=min(most.read, step))
