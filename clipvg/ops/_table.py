"""The operators, what each can run on, and which implementation was measured to be the fastest.

To add an operator, add one entry to OPERATORS.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fastest:
    """A measurement: on these devices, for these dtypes and sizes, this backend is the fastest.

    On a CPU an implementation of ours has a row only where it beat PyTorch's own in a recorded run.
    For a GPU `ON_GPU` holds such rows; the others apply there without one, since they take one pass
    instead of many, or dense products instead of a loop over sequences.
    """

    backend: str  # "native" or "triton"
    devices: tuple[str, ...] | None  # types of devices; None: all
    why: str  # shown by `clipvg info`
    dtypes: tuple[str, ...] | None = None  # names such as "bfloat16"; None: all
    # largest size, as the operator measures it; None: any. A row with a limit does not hold where
    # the size is not known, as under torch.compile.
    at_most: int | None = None

    def holds(self, device: str, dtype: str | None, size: int | None) -> bool:
        """Whether the row applies to such a call; a dtype of None matches any."""
        of_dtype = self.dtypes is None or dtype is None or dtype in self.dtypes
        of_size = self.at_most is None or (size is not None and size <= self.at_most)
        of_device = self.devices is None or device in self.devices
        return of_device and of_dtype and of_size


@dataclass(frozen=True)
class Operator:
    """Where the implementations of an operator run. The reference runs everywhere."""

    devices: tuple[str, ...]  # listed by `backends`; "numpy" is the public function on arrays
    compiled: tuple[str, ...] = ()  # with a kernel in C++ or CUDA, in clipvg/_ops or clipvg/_C
    # whether a fast composition of PyTorch's own kernels, for any device, is the "native"
    # implementation where none is compiled
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
