"""The operators, what each can run on, and which implementation was measured to be the fastest.

An operator is added by one entry of OPERATORS.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fastest:
    """What was measured: on these devices, for these dtypes and sizes, this backend wins.

    On a CPU a path of ours has a row only where it beat PyTorch's own in a recorded run. For a GPU
    `ON_GPU` holds such rows; those beside it are one pass in place of many, and dense products in
    place of a loop over sequences.
    """

    backend: str  # "native" or "triton"
    devices: tuple[str, ...] | None  # types of devices; None: all
    why: str  # what `clipvg info` says
    dtypes: tuple[str, ...] | None = None  # names such as "bfloat16"; None: all
    # largest size, in the operator's own measure; None: any. A row with a limit does not hold where
    # the size is not known, as under torch.compile.
    at_most: int | None = None

    def holds(self, device: str, dtype: str | None, size: int | None) -> bool:
        """Whether the row is about such a call; a dtype of None is any."""
        of_dtype = self.dtypes is None or dtype is None or dtype in self.dtypes
        of_size = self.at_most is None or (size is not None and size <= self.at_most)
        of_device = self.devices is None or device in self.devices
        return of_device and of_dtype and of_size


@dataclass(frozen=True)
class Operator:
    """Where the implementations of an operator run. The reference runs everywhere."""

    devices: tuple[str, ...]  # `backends` lists them; "numpy" is the face on arrays, without torch
    compiled: tuple[str, ...] = ()  # with a kernel in C++ or CUDA, in clipvg/_ops or clipvg/_C
    # whether PyTorch's own kernels make a fast one for any device: the "native" implementation
    # where none is compiled
    composed: bool = False
    triton: tuple[str, ...] = ()  # with a Triton kernel
    fastest: tuple[Fastest, ...] = ()  # "auto" takes the first that holds and can run


# `python benchmarks/gpu.py --decide RESULT.json` prints this line from a run on a GPU.
ON_GPU: dict[str, tuple[Fastest, ...]] = {}

OPERATORS = {
    "box_reliability": Operator(
        devices=("numpy", "cpu", "cuda"),
        compiled=("numpy", "cpu", "cuda"),
        fastest=(Fastest("native", ("numpy", "cpu", "cuda"), "one pass over the boxes"),),
    ),
    # The reference is itself a sum of matrix products, so "auto" is the reference until the
    # Triton kernel has beaten it in a recorded run on a GPU.
    "multilevel_projection": Operator(
        devices=("cpu", "cuda"), triton=("cuda",), fastest=ON_GPU.get("multilevel_projection", ())
    ),
    # Its size is the length of the longest sequence.
    "packed_attention": Operator(
        devices=("cpu", "cuda"),
        composed=True,
        triton=("cuda",),
        fastest=(
            *ON_GPU.get("packed_attention", ()),
            Fastest("native", None, "equal lengths are one dense product"),
        ),
    ),
}
