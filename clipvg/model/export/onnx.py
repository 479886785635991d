"""Write programs as ONNX files that share one weight file, and run them."""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from clipvg.model.export.parts import Program
from clipvg.model.hub import quiet

if TYPE_CHECKING:
    from onnx import TensorProto

PRECISIONS = ("fp32", "fp16", "int8")
WEIGHTS_FILE = "weights.bin"
_SHARED_BYTES = 1024  # smaller tensors stay in their program
_PAGE = 4096  # bytes; runtimes can memory-map weights that begin at a page


def write_onnx(programs: Mapping[str, Program], folder: Path, precision: str) -> None:
    """Write each program as ``NAME.onnx``, and the weights of all as `WEIGHTS_FILE`.

    For "fp16" the programs must have been traced with half-precision weights, else with single
    precision. "int8" rounds the weights of matrix products to eight bits, and their other operand
    at run time.
    """
    import onnx

    for name, program in programs.items():
        path = folder / f"{name}.onnx"
        with quiet(logging.WARNING), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            graph = torch.onnx.export(
                program.traced, dynamo=True, output_names=program.outputs, verbose=False
            )
            assert graph is not None  # None only where the exporter writes a file itself
            graph.save(path)
            if precision == "int8":
                _quantize(path)
    with (folder / WEIGHTS_FILE).open("wb") as weights:
        places: dict[bytes, int] = {}
        for name in programs:
            model = onnx.load(folder / f"{name}.onnx")
            for tensor in model.graph.initializer:
                if len(tensor.raw_data) >= _SHARED_BYTES:
                    _move(tensor, weights, places)
            onnx.save(model, folder / f"{name}.onnx")


def _quantize(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        path,
        path,
        op_types_to_quantize=["MatMul", "Gemm", "Gather"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )


def _move(tensor: TensorProto, weights: io.BufferedWriter, places: dict[bytes, int]) -> None:
    """Move a tensor's values to the weight file, which holds equal tensors once."""
    from onnx.external_data_helper import set_external_data

    data = tensor.raw_data
    key = hashlib.sha256(data).digest()
    if key not in places:
        weights.write(bytes(-weights.tell() % _PAGE))
        places[key] = weights.tell()
        weights.write(data)
    set_external_data(tensor, WEIGHTS_FILE, offset=places[key], length=len(data))
    tensor.ClearField("raw_data")


def open_program(path: Path) -> Callable[..., list[np.ndarray]]:
    """Return a program as a function of tensors, run by onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # The layout optimisation of onnxruntime 1.32 segfaults on half-precision convolutions.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    opened = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in opened.get_inputs()]

    def run(*inputs: torch.Tensor) -> list[np.ndarray]:
        arrays = (tensor.numpy() for tensor in inputs)
        return opened.run(None, dict(zip(names, arrays, strict=True)))

    return run
