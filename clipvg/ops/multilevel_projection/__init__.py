"""Visual projection: one linear map over the levels of an image tower, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def multilevel_projection(
    levels: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    *,
    position: Tensor | None = None,
    index: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Compute Σ_l f_l W_l + b + position for the tokens that are kept.

    It is `F.linear(torch.cat(levels, -1), weight, bias) + position` without the concatenation.
    `index` leaves tokens out (padding of the letterbox), and `out` is the tokens' place in a packed
    sequence: both save a copy.

    Args:
        levels: L features (..., V, F), V tokens of each image, all of one shape; float32,
            float64, float16 or bfloat16. They may be views of one tensor.
        weight: (D, L * F), that of a linear map over the concatenated levels.
        bias: (D,).
        position: (V, D), added to each image's tokens.
        index: (T,) int64, tokens to project, numbered over all images; all of them, in order,
            when None. Each is from 0 to U * V - 1 for U images; on a GPU this is not checked.
        out: (T, D), rows of a larger tensor to write into. It has no gradient.

    Returns:
        `out` if it is given; (T, D) with `index`; else (..., V, D). No tokens give no rows.

    Raises:
        InputError: shapes do not fit, or `out` is given although a gradient is required.
        ValueError: dtypes or devices differ.

    Example:
        >>> early, late = torch.ones(2, 3, 4), torch.ones(2, 3, 4)
        >>> multilevel_projection([early, late], torch.ones(5, 8), torch.zeros(5)).shape
        torch.Size([2, 3, 5])
    """
    from clipvg.ops.multilevel_projection.op import Projection, project_tensors

    return project_tensors(Projection(list(levels), weight, bias, position, index, out))
