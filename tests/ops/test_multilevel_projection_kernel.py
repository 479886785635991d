"""multilevel_projection under the tools of torch, and its Triton kernel where there is no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from clipvg.ops import load_operators, multilevel_projection


def arguments(index: bool, position: bool, images: int = 2, device: str = "cpu") -> tuple:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    levels = [normal(images, 3, 4) for _ in range(3)]
    return (
        levels,
        normal(5, 12),
        normal(5),
        normal(3, 5) if position else None,
        torch.tensor([5, 0, 3], device=device) if index else None,
    )


@pytest.mark.parametrize(("index", "position"), [(True, True), (False, False)])
def test_opcheck(index: bool, position: bool, device: str) -> None:
    load_operators()
    parts = arguments(index, position, device=device)
    out = torch.zeros(3 if index else 6, 5, device=device)
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


def by_face(levels: list, weight, bias, position, index) -> torch.Tensor:
    return multilevel_projection(levels, weight, bias, position=position, index=index)


def by_operator(*parts) -> torch.Tensor:
    return torch.ops.clipvg.multilevel_projection(*parts)


@pytest.mark.parametrize("project", [by_face, by_operator])
@pytest.mark.parametrize("index", [True, False])
def test_exports_with_any_number_of_images(project: Callable, index: bool) -> None:
    load_operators()

    class Project(torch.nn.Module):
        def forward(self, levels: list, weight, bias, position, index) -> torch.Tensor:
            return project(levels, weight, bias, position, index)

    images, tokens = torch.export.Dim("images", min=2), torch.export.Dim("tokens", min=2)
    shapes = ([{0: images}] * 3, None, None, None, {0: tokens} if index else None)
    program = torch.export.export(Project(), arguments(index, True), dynamic_shapes=shapes)
    *other, _ = arguments(index, True, images=5)
    chosen = torch.tensor([14, 2, 7, 1]) if index else None
    torch.testing.assert_close(program.module()(*other, chosen), project(*other, chosen))


@pytest.mark.parametrize("project", [by_face, by_operator])
@pytest.mark.parametrize("index", [True, False])
def test_trains_compiled_with_any_number_of_images(project: Callable, index: bool) -> None:
    load_operators()
    compiled = torch.compile(project, fullgraph=True, backend="aot_eager")
    for images in (2, 4, 5):
        levels, *rest = arguments(index, True, images)
        for level in levels:
            torch._dynamo.mark_dynamic(level, 0)  # raises if the size is fixed
        leaves = [*levels, *(part.requires_grad_() for part in rest[:3])]
        levels = [level.requires_grad_() for level in levels]
        actual, expected = compiled(levels, *rest), project(levels, *rest)
        torch.testing.assert_close(actual, expected)
        grads = (torch.autograd.grad(out.square().sum(), leaves) for out in (actual, expected))
        torch.testing.assert_close(*grads)


def test_operators_compile_into_one_graph() -> None:
    """As they do on a GPU, where the public function calls them."""
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
    upright = torch.full((channels, len(expected) + 3), 7, dtype=dtype).T  # columns apart
    project_into(upright[2:-1], split, weight, bias, table, index)
    assert torch.equal(upright, packed)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernel itself is tested on the GPU")
def test_kernel_in_the_interpreter() -> None:
    """Only float32 and float16: Triton's interpreter multiplies bfloat16 as integers."""
    pytest.importorskip("triton", reason="Triton is not installed")
    run = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


TARGETS = [(80, "fp16"), (90, "bf16"), (90, "fp32")]
FURTHER = [(80, "fp32"), (80, "bf16"), (90, "fp16")]  # each is like one of the others


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [*TARGETS, *(pytest.param(*target, marks=pytest.mark.slow) for target in FURTHER)],
)
def test_kernel_compiles_without_a_gpu(
    capability: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    compiler = pytest.importorskip(
        "triton.backends.compiler", reason="not this Triton's place for it"
    )
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
    assert "cp.async.cg.shared.global" in code  # loads of 16 bytes, while others multiply
    products = "wgmma.mma_async" if capability == 90 else "mma.sync"
    assert (products in code) == (dtype != "fp32")  # float32 is exact: no tensor cores
