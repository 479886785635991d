"""multilevel_projection under the tools of torch, and its Triton kernel where there is no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clipvg.ops import load_operators, multilevel_projection


def arguments(index: bool, position: bool) -> tuple:
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randn(2, 3, 4, generator=generator) for _ in range(3)]
    return (
        levels,
        torch.randn(5, 12, generator=generator),
        torch.randn(5, generator=generator),
        torch.randn(3, 5, generator=generator) if position else None,
        torch.tensor([5, 0, 3]) if index else None,
    )


@pytest.mark.parametrize(("index", "position"), [(True, True), (False, False)])
def test_opcheck(index: bool, position: bool) -> None:
    load_operators()
    parts = arguments(index, position)
    out = torch.zeros(3 if index else 6, 5)
    torch.library.opcheck(torch.ops.clipvg.multilevel_projection_out.default, (*parts, out))
    for part in (*parts[0], *parts[1:4]):
        if part is not None:
            part.requires_grad_()
    torch.library.opcheck(torch.ops.clipvg.multilevel_projection.default, parts)


def test_compiles_into_one_graph() -> None:
    levels, weight, bias, position, index = arguments(True, True)
    weight.requires_grad_()

    def some(*levels: torch.Tensor) -> torch.Tensor:
        kept = multilevel_projection(levels, weight, bias, position=position, index=index)
        return kept.relu() + multilevel_projection(levels, weight, bias).flatten(0, 1)[:3]

    compiled = torch.compile(some, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(some(*levels).sum(), weight)[0]
    torch.testing.assert_close(compiled(*levels), some(*levels))
    actual = torch.autograd.grad(compiled(*levels).sum(), weight)[0]
    torch.testing.assert_close(actual, expected)


def test_operators_compile_into_one_graph() -> None:
    """As they do on a GPU, where the face calls them."""
    load_operators()
    levels, *rest = arguments(True, True)

    def both(*levels: torch.Tensor) -> torch.Tensor:
        packed = torch.zeros(4, 5)
        torch.ops.clipvg.multilevel_projection_out(list(levels), *rest, packed[1:])
        return packed, torch.ops.clipvg.multilevel_projection(list(levels), *rest)

    packed, rows = torch.compile(both, fullgraph=True, backend="aot_eager")(*levels)
    weight, bias, position, index = rest
    expected = multilevel_projection(levels, weight, bias, position=position, index=index)
    torch.testing.assert_close(rows, expected)
    assert torch.equal(packed[1:], rows)
    assert not packed[0].any()


INTERPRETED = """
import torch
from clipvg.kernels.multilevel_projection import project_into

generator = torch.Generator().manual_seed(0)
normal = lambda *shape: torch.randn(*shape, generator=generator)
for tokens, levels, columns, channels, position, index, dtype, allowed in (
    (1, 1, 1, 1, False, False, torch.float32, 1e-6),
    (70, 3, 40, 66, True, True, torch.float32, 1e-6),
    (130, 4, 32, 65, True, False, torch.float32, 1e-6),
    (130, 2, 64, 129, True, True, torch.float16, 1e-3),
    (0, 2, 8, 4, False, False, torch.float32, 1e-6),
    (9, 2, 8, 0, False, False, torch.float32, 1e-6),
):
    side_by_side = normal(tokens, levels * columns).to(dtype)
    weight, bias = normal(channels, levels * columns).to(dtype), normal(channels).to(dtype)
    table = normal(max(1, tokens // 10), channels).to(dtype) if position else None
    index = torch.randperm(tokens, generator=generator)[: tokens // 2] if index else None
    expected = side_by_side.double() @ weight.double().T + bias.double()
    if position:
        expected += table.double().repeat(tokens // len(table), 1)
    expected = expected if index is None else expected[index]
    packed = torch.full((len(expected) + 3, channels), 7, dtype=dtype)
    split = list(side_by_side.split(columns, 1))  # rows apart
    split[-1] = split[-1].T.contiguous().T  # columns apart
    project_into(packed[2:-1], split, weight, bias, table, index)
    error = (packed[2:-1].double() - expected).norm() / expected.norm().clamp(min=1e-30)
    assert error <= allowed, (tokens, dtype, error)
    assert (packed[:2] == 7).all() and (packed[-1] == 7).all()
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernel itself is tested on the GPU")
def test_kernel_in_the_interpreter() -> None:
    """In float32 and float16: Triton's interpreter multiplies bfloat16 as integers."""
    pytest.importorskip("triton")
    run = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_kernel_compiles_without_a_gpu(
    capability: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton = pytest.importorskip("triton")
    compiler = pytest.importorskip("triton.backends.compiler")
    if "nvidia" not in triton.backends.backends:
        pytest.skip("this Triton has no NVIDIA backend")
    from clipvg.kernels import multilevel_projection as kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    tile = dict(kernels.FULL_TILE if dtype == "fp32" else kernels.HALF_TILE)
    options = {name: tile.pop(name) for name in ("num_warps", "num_stages")}
    constants = {"COLUMNS": 768, **tile}
    pointer, levels = f"*{dtype}", 4
    names = kernels.project.arg_names
    signature = {name: "constexpr" if name in constants else "i32" for name in names}
    signature |= dict.fromkeys(("weight", "bias", "position", "out"), pointer)
    signature |= {"levels": (pointer,) * levels, "level_strides": ("i32",) * levels}
    signature["index"] = "*i64"
    aligned = [("levels", i) for i in range(levels)] + [("level_strides", i) for i in range(levels)]
    attributes = {
        (names.index(name), i): [["tt.divisibility", 16]] for name, i in aligned
    } | {
        (names.index(name),): [["tt.divisibility", 16]]
        for name in ("weight", "bias", "position", "out", "weight_stride", "out_stride")
    }  # fmt: skip
    source = triton.compiler.ASTSource(kernels.project, signature, constants, attributes)
    target = compiler.GPUTarget("cuda", capability, 32)
    code = triton.compile(source, target=target, options=options).asm["ptx"]
    assert "cp.async.cg.shared.global" in code  # 16 bytes a load, while others multiply
    products = "wgmma.mma_async" if capability == 90 else "mma.sync"
    assert (products in code) == (dtype != "fp32")  # float32 is exact: no tensor cores
