"""packed_attention under the tools of torch; its Triton kernels without a GPU, and on one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from clipvg.errors import InputError
from clipvg.ops import _dispatch, backend, load_operators, packed_attention
from clipvg.ops.packed_attention import dense, op

HALF = (torch.float16, torch.bfloat16)
LENGTHS = [0, 3, 3, 1, 150, 41, 7, 220, 7, 64]


def offsets(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def fused(tokens: int, *shape: int, dtype: torch.dtype = torch.float32) -> tuple:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, tokens, 3, *shape, generator=generator).to(dtype).unbind(2)


@pytest.mark.parametrize("name", ["", "_reference", "_native"])
@pytest.mark.parametrize("lengths", [[2, 0, 2], []])
def test_opcheck(name: str, lengths: list[int], device: str) -> None:
    load_operators()
    parts = [x.to(device).requires_grad_() for x in fused(sum(lengths), 2, 4)]
    edges = offsets(lengths).to(device)
    sizes = (edges, edges, 2, 2)
    operator = getattr(torch.ops.clipvg, f"packed_attention{name}")
    torch.library.opcheck(operator.default, (*parts, *sizes))
    out, softmax = (each.detach() for each in operator(*parts, *sizes))
    parts = [part.detach() for part in parts]
    gradient = getattr(torch.ops.clipvg, f"packed_attention{name}_backward")
    torch.library.opcheck(gradient.default, (torch.ones_like(out), *parts, out, softmax, *sizes))


def test_compiles_into_one_graph() -> None:
    def total(qkv: torch.Tensor, edges: torch.Tensor, longest: int) -> torch.Tensor:
        q, k, v = qkv.relu().unbind(2)
        return packed_attention(q, k, v, edges, longest).square()

    compiled = torch.compile(total, fullgraph=True, dynamic=True, backend="aot_eager")
    for lengths in ([2, 3], [4, 4, 1], [7]):
        qkv = torch.stack(fused(sum(lengths), 2, 8), 2)
        twins = [qkv.clone().requires_grad_() for _ in range(2)]
        arguments = offsets(lengths), max(lengths)
        actual, expected = compiled(twins[0], *arguments), total(twins[1], *arguments)
        torch.testing.assert_close(actual, expected)
        grads = [
            torch.autograd.grad(out.sum(), twin)[0]
            for out, twin in zip((actual, expected), twins, strict=True)
        ]
        torch.testing.assert_close(*grads)


def test_compiles_with_memory_for_the_result() -> None:
    def twice(q: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return packed_attention(q, q, q, edges, 5, out=torch.empty_like(q)) * 2

    arguments = fused(9, 2, 8)[0], offsets([4, 5])
    actual = torch.compile(twice, fullgraph=True, backend="aot_eager")(*arguments)
    torch.testing.assert_close(actual, twice(*arguments))


def test_exports() -> None:
    class Attend(torch.nn.Module):
        def forward(self, q: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
            return packed_attention(q, q, q, edges, 9)

    tokens, sequences = torch.export.Dim("tokens", min=2), torch.export.Dim("sequences", min=2)
    program = torch.export.export(
        Attend(), (fused(9, 2, 8)[0], offsets([4, 5])), dynamic_shapes=({1: tokens}, {0: sequences})
    )
    other = fused(12, 2, 8)[0], offsets([4, 2, 6])
    torch.testing.assert_close(program.module()(*other), Attend()(*other))


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    """Errors of the kernels in Triton's interpreter."""
    pytest.importorskip("triton", reason="Triton is not installed")
    program = Path(__file__).with_name("packed_attention_interpreted.py")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    ran = subprocess.run(
        [sys.executable, str(program)], env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("case", ["float32", "one query", "short", "wide", "narrow"])
def test_interpreted_kernels_err_hardly_more_than_the_reference(
    case: str, interpreted: dict
) -> None:
    """At most twice the reference's error, and what one more rounding of the logits adds.

    The kernels use powers of 2: a logit times log2(e), up to 8 here, is rounded once more, by up to
    2**-22, which changes a softmax weight by about as much, relatively.
    """
    found = interpreted[case]
    for ours, reference in zip(found["ours"], found["reference"], strict=True):
        assert 0 < reference < 1e-6
        assert ours <= 2 * reference + 2**-22
    assert max(found["cut otherwise"].values()) <= 2 * found["reference"][0] + 2**-22
    assert found["softmax"] < 1e-6


@pytest.mark.parametrize("case", ["float16", "bfloat16"])
def test_interpreted_kernels_in_half_precision(case: str, interpreted: dict) -> None:
    found = interpreted[case]
    assert max(found["ours"]) <= 1e-2
    assert max(found["cut otherwise"].values()) <= 1e-2


def test_interpreted_kernels_with_extreme_logits(interpreted: dict) -> None:
    """One key takes all the weight; gradients of q and k are noise; logits are rounded by 1e-3."""
    out, to_q, to_k, to_v = interpreted["extreme"]["ours"]
    assert max(out, *interpreted["extreme"]["cut otherwise"].values()) < 1e-6
    assert to_v < 1e-2
    assert max(to_q, to_k) < float("inf")


@pytest.mark.parametrize("case", ["no tokens", "no sequences"])
def test_interpreted_kernels_of_nothing(case: str, interpreted: dict) -> None:
    assert not any(interpreted[case]["ours"])
    assert not any(interpreted[case]["cut otherwise"].values())


def test_interpreted_addresses_of_heads_past_32_bits(interpreted: dict) -> None:
    assert interpreted["heads far apart"] == [head * 2**30 for head in range(4)]


def test_interpreted_kernels_stay_within_the_tensors(interpreted: dict) -> None:
    """Offsets on a GPU are not checked before they are used, so the kernels bound them."""
    found = interpreted["wild offsets"]
    assert all(0 <= first <= first + length <= found["tokens"] for first, length in found["places"])


def takes(dtype: torch.dtype, width: int) -> bool:
    return dtype != torch.float64 and width <= op.TRITON_MAX_WIDTH


KINDS = [(torch.float32, 128), (torch.bfloat16, 16), (torch.float64, 16), (torch.float32, 129)]


@pytest.mark.parametrize(("dtype", "width"), KINDS)
@pytest.mark.parametrize("missing", [None, "no Triton"])
def test_fake_keeps_the_softmax_where_the_kernel_runs(
    dtype: torch.dtype, width: int, missing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_operators()
    monkeypatch.setattr(op, "why_no_triton", lambda: missing)
    with FakeTensorMode():
        q = torch.empty(2, 5, 3, width, dtype=dtype, device="cuda")
        edges = torch.empty(3, dtype=torch.int32, device="cuda")
        out, softmax = torch.ops.clipvg.packed_attention(q, q, q, edges, edges, 4, 4)
    assert out.shape == q.shape
    runs = takes(dtype, width) and not missing
    assert softmax.shape == ((2, 6, 5) if runs else (0,))


@pytest.mark.parametrize(("dtype", "width"), KINDS)
@pytest.mark.parametrize("missing", [None, "no Triton"])
def test_the_cuda_operator_is_native_where_the_kernel_cannot_run(
    dtype: torch.dtype, width: int, missing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Call the functions that are registered for a GPU directly, with tensors on a CPU."""
    ran = []
    kernels = SimpleNamespace(
        forward=lambda *_: ran.append("f"), backward=lambda *_: ran.append("b")
    )
    monkeypatch.setitem(sys.modules, "clipvg.kernels.packed_attention", kernels)
    monkeypatch.setattr(op, "why_no_triton", lambda: missing)
    q, k, v = fused(5, 3, width, dtype=dtype)
    sizes = (offsets([1, 4]), offsets([1, 4]), 4, 4)
    forward, backward = op._triton, op._triton_backward
    given = dense.Packed(q, k, v, *sizes)
    found = forward(given)
    if takes(dtype, width) and not missing:
        backward(q, given, q, q)
        assert ran == ["f", "b"]
        return
    out, softmax = dense.native(given)
    torch.testing.assert_close(found, (out, softmax))
    arguments = (torch.ones_like(out), given, out, softmax)
    torch.testing.assert_close(backward(*arguments), dense.native_backward(*arguments))
    assert not ran


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "width"), [(torch.float64, 16), (torch.float32, 129)])
def test_cuda_operator_takes_what_the_kernel_does_not(dtype: torch.dtype, width: int) -> None:
    load_operators()
    parts = [part.cuda().requires_grad_() for part in fused(5, 3, width, dtype=dtype)]
    edges = offsets([1, 4]).cuda()
    out, _ = torch.ops.clipvg.packed_attention(*parts, edges, edges, 4, 4)
    with backend("reference"):
        expected = packed_attention(*parts, edges, 4)
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)
    grads = (torch.autograd.grad(x.square().sum(), parts) for x in (out, expected))
    torch.testing.assert_close(*grads, atol=1e-4, rtol=1e-4)
    with backend("triton"), pytest.raises(InputError, match="use backend 'native'"):
        packed_attention(*parts, edges, 4)


def signature(kernel: Any, dtype: str) -> dict[str, str]:
    """Return the types of a kernel's arguments by name."""
    fixed = {"softmax": "*fp32", "mean": "*fp32", "cu_q": "*i32", "cu_k": "*i32"}
    fixed |= dict.fromkeys(("scale", "natural"), "fp32")
    fixed |= dict.fromkeys(("D", "WIDTH", "M", "N", "SEVERAL"), "constexpr")
    fixed |= dict.fromkeys(("heads", "total_q", "total_k", "sequences", "steps", "blocks"), "i32")
    strides = {name: "i64" for name in kernel.arg_names if name[-2:] in ("_n", "_t", "_h")}
    types = dict.fromkeys(kernel.arg_names, f"*{dtype}") | strides | fixed
    return {name: types[name] for name in kernel.arg_names}


KERNELS = ["_forward", "_forward several", "_mean", "_query_gradient", "_key_gradient"]
TARGETS = [(90, "bf16"), pytest.param(80, "fp32", marks=pytest.mark.slow)]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("capability", "dtype"), TARGETS)
def test_compiles_ahead_of_time_without_a_gpu(
    kernel: str, capability: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compile to machine code, with the blocks chosen for the engine's sequences."""
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if "nvidia" not in triton.backends.backends:
        pytest.skip("Triton has no backend for NVIDIA GPUs")
    from clipvg.kernels import packed_attention as kernels
    from clipvg.kernels._tune import choose_blocks

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, _, several = kernel.partition(" ")
    function = getattr(kernels, f"{kernel}_kernel")
    tensors = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    blocks = choose_blocks(tensors, 64, 220, 220, keys=kernel == "_key_gradient")
    constants = {"D": 64, "WIDTH": 64, "M": blocks.owned, "N": blocks.read}
    constants |= {"SEVERAL": bool(several)} if kernel == "_forward" else {}
    source = ASTSource(function, signature(function, dtype), constexprs=constants)
    options = {"num_warps": blocks.warps, "num_stages": blocks.stages, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert f".target sm_{capability}" in compiled.asm["ptx"]
    assert len(compiled.asm["cubin"]) > 1000


def on_gpu(parts: tuple, lengths: list[int], grad: torch.Tensor) -> list[torch.Tensor]:
    leaves = [part.detach().requires_grad_() for part in parts]
    out = packed_attention(*leaves, offsets(lengths).to(grad.device), max(lengths))
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual.double() - expected).norm() / expected.norm())


# Each (dtype, width) and each length class is compiled anew, so few are used to save time.
GPU_CASES = [
    *((dtype, 64, LENGTHS) for dtype in (torch.float32, *HALF)),
    (torch.float32, 32, LENGTHS),
    *((torch.bfloat16, width, LENGTHS) for width in (16, 48, 128)),
    (torch.bfloat16, 64, [16]),
    (torch.bfloat16, 64, [1500]),
]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["triton", "native", "auto"])
@pytest.mark.parametrize(("dtype", "width", "lengths"), GPU_CASES)
def test_cuda_against_float64(
    name: str, dtype: torch.dtype, width: int, lengths: list[int]
) -> None:
    if name == "triton" and _dispatch.why_no_triton():
        pytest.skip(_dispatch.why_no_triton())
    parts = [part.cuda() for part in fused(sum(lengths), 3, width, dtype=dtype)]
    grad = torch.randn_like(parts[0])
    with backend("reference"):
        expected = on_gpu([part.double() for part in parts], lengths, grad.double())
        reference = on_gpu(parts, lengths, grad)
    with backend(name):
        actual, again = (on_gpu(parts, lengths, grad) for _ in range(2))
    for ours, twin, theirs, true in zip(actual, again, reference, expected, strict=True):
        allowed = 1e-2 if dtype in HALF else max(2 * error(theirs, true), 1e-6)
        assert error(ours, true) <= allowed
        assert name != "triton" or torch.equal(ours, twin)


@pytest.mark.gpu
def test_cuda_offsets_past_32_bits() -> None:
    if _dispatch.why_no_triton():
        pytest.skip(_dispatch.why_no_triton())
    tokens = 2**31 // (3 * 16 * 128) + 400
    whole = torch.zeros(1, tokens, 3, 16, 128, dtype=torch.bfloat16, device="cuda")
    whole[:, -200:].normal_()
    q, k, v = whole.unbind(2)
    lengths = [200] * (tokens // 200) + [tokens % 200]
    with backend("triton"):
        out = packed_attention(q, k, v, offsets(lengths).cuda(), 200)
        last = [part[:, -(tokens % 200) :] for part in (q, k, v)]
        alone = packed_attention(*last, offsets(lengths[-1:]).cuda(), 200)
    assert torch.equal(out[:, -(tokens % 200) :], alone)


@pytest.mark.gpu
def test_cuda_under_torch_compile_with_offsets_on_the_host() -> None:
    if _dispatch.why_no_triton():
        pytest.skip(_dispatch.why_no_triton())
    parts = [part.cuda() for part in fused(sum(LENGTHS), 2, 64)]
    with backend("triton"):
        expected = packed_attention(*parts, offsets(LENGTHS), max(LENGTHS))
        compiled = torch.compile(packed_attention, fullgraph=True)
        actual = compiled(*parts, offsets(LENGTHS).cuda(), max(LENGTHS))
    torch.testing.assert_close(actual, expected)
