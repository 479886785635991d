"""Triton kernel of `multilevel_projection`: the sum over levels in one accumulator.

Each program owns a tile of output rows and channels. It walks the columns of all levels in one
loop, so that their concatenation exists nowhere, and adds bias and position before the one store.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

# Rows, channels and columns of a tile, warps, stages of the software pipeline. Half types go to
# the tensor cores; float32 is exact ("ieee"), so it has none and takes tiles that fit registers.
HALF_TILE = {"BLOCK_T": 128, "BLOCK_D": 128, "BLOCK_F": 64, "num_warps": 8, "num_stages": 4}
FULL_TILE = {"BLOCK_T": 64, "BLOCK_D": 64, "BLOCK_F": 16, "num_warps": 8, "num_stages": 3}


@triton.jit
def project(
    levels,  # one pointer a level, (N, F)
    level_strides,  # elements between rows of each
    weight,  # (D, L * F)
    bias,  # (D,)
    position,  # (V, D) or None
    index,  # (T,) int64 or None
    out,  # (T, D)
    num_rows,
    num_channels,
    num_tokens,
    num_positions,
    weight_stride,
    position_stride,
    out_stride,
    COLUMNS: tl.constexpr,  # F, of one level
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    """Write a tile of `out`: Σ_l f_l W_l + b + position, accumulated in float32."""
    # Programs of one tile of rows are neighbours: the second reads the features from L2.
    tiles_d = tl.cdiv(num_channels, BLOCK_D)
    row = (tl.program_id(0) // tiles_d).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    channel = (tl.program_id(0) % tiles_d) * BLOCK_D + tl.arange(0, BLOCK_D)
    has_row, has_channel = row < num_rows, channel < num_channels
    token = row
    if index is not None:
        token = tl.load(index + row, mask=has_row, other=0)
        has_row = has_row & (token >= 0) & (token < num_tokens)  # never read beside the levels

    sums = tl.zeros((BLOCK_T, BLOCK_D), dtype=tl.float32)
    weights = weight + channel.to(tl.int64)[None, :] * weight_stride
    TILES: tl.constexpr = (COLUMNS + BLOCK_F - 1) // BLOCK_F
    for step in range(len(levels) * TILES):
        at = step // TILES
        level, stride = levels[0], level_strides[0]
        for i in tl.static_range(1, len(levels)):
            level = tl.where(at == i, levels[i], level)
            stride = tl.where(at == i, level_strides[i], stride)
        column = (step % TILES) * BLOCK_F + tl.arange(0, BLOCK_F)
        read_x, read_w = has_row[:, None], has_channel[None, :]
        if COLUMNS % BLOCK_F:
            read_x = read_x & (column < COLUMNS)[None, :]
            read_w = read_w & (column < COLUMNS)[:, None]
        x = tl.load(level + token[:, None] * stride + column[None, :], mask=read_x, other=0)
        w = tl.load(weights + (at * COLUMNS + column)[:, None], mask=read_w, other=0)
        sums = tl.dot(x, w, sums, input_precision="ieee")

    sums += tl.load(bias + channel, mask=has_channel, other=0).to(tl.float32)[None, :]
    has_both = has_row[:, None] & has_channel[None, :]
    if position is not None:
        places = (token % num_positions)[:, None] * position_stride + channel[None, :]
        sums += tl.load(position + places, mask=has_both, other=0).to(tl.float32)
    written = out + row[:, None] * out_stride + channel[None, :]
    tl.store(written, sums.to(out.dtype.element_ty), mask=has_both)


def project_into(
    out: Tensor,
    levels: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    position: Tensor | None,
    index: Tensor | None,
) -> None:
    """Write the rows of the result into memory; arguments as `clipvg.ops.multilevel_projection`.

    Args:
        out: (T, D), with any strides; where columns are apart, through a copy.
        levels: (N, F), with any strides, as all that follow.
        weight: (D, L * F).
        bias: (D,).
        position: (V, D), added to token i at row i % V.
        index: (T,) int64, tokens to project; all of them when None.
    """
    rows, channels = out.shape
    if not rows or not channels:
        return
    if out.stride(1) != 1 and channels > 1:  # the kernel stores rows in one piece
        rows_together = torch.empty(out.shape, dtype=out.dtype, device=out.device)
        project_into(rows_together, levels, weight, bias, position, index)
        out.copy_(rows_together)
        return
    levels, weight, bias = [_rows(level) for level in levels], _rows(weight), bias.contiguous()
    position = None if position is None else _rows(position)
    tile = FULL_TILE if out.dtype == torch.float32 else HALF_TILE
    grid = (triton.cdiv(rows, tile["BLOCK_T"]) * triton.cdiv(channels, tile["BLOCK_D"]),)
    project[grid](
        tuple(levels),
        tuple(level.stride(0) for level in levels),
        weight,
        bias,
        position,
        None if index is None else index.contiguous(),
        out,
        rows,
        channels,
        len(levels[0]),
        1 if position is None else len(position),
        weight.stride(0),
        0 if position is None else position.stride(0),
        out.stride(0),
        COLUMNS=levels[0].shape[1],
        **tile,
    )


def _rows(matrix: Tensor) -> Tensor:
    """A matrix whose rows are each in one piece."""
    return matrix if matrix.stride(1) == 1 else matrix.contiguous()
