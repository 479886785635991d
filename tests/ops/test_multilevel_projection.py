"""multilevel_projection against float64 and against a linear map over the concatenation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from clipvg.errors import InputError
from clipvg.ops import backend, load_operators, multilevel_projection

HALF = {torch.float16: 1e-2, torch.bfloat16: 1e-2}  # allowed relative error


@dataclass(frozen=True)
class Case:
    """One input: sizes, optional arguments, and how the levels lie in memory."""

    levels: int = 3
    images: int = 3
    tokens: int = 5
    columns: int = 6
    channels: int = 7
    position: bool = True
    index: str = "some"
    layout: str = "contiguous"
    dtype: torch.dtype = torch.float32

    def make(self, dtype: torch.dtype | None = None) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return levels, and the other arguments by name; values do not depend on `dtype`."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.levels, self.images, self.tokens, self.columns)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(self.dtype).to(dtype or self.dtype)

        packed = normal(*shape)
        levels = list(packed)
        if self.layout == "side by side":
            levels = list(torch.cat(levels, -1).split(self.columns, -1))
        elif self.layout == "tokens first":
            levels = [level.transpose(0, 1).contiguous().transpose(0, 1) for level in levels]
        elif self.layout == "columns first":
            levels = [level.mT.contiguous().mT for level in levels]
        elif self.layout == "expanded":
            levels = [level[:1].expand_as(level) for level in levels]
        rest = {"weight": normal(self.channels, self.levels * self.columns)}
        rest["bias"] = normal(self.channels)
        if self.position:
            rest["position"] = normal(self.tokens, self.channels)
        if self.index != "none":
            count = self.images * self.tokens
            index = torch.randperm(count, generator=generator)[: -(-2 * count // 3)]
            rest["index"] = torch.cat([index, index[:2]]) if self.index == "repeated" else index
        return levels, rest


CASES = [
    Case(),
    *(Case(index=index, position=False) for index in ("none", "some", "repeated")),
    *(
        Case(layout=layout)
        for layout in ("side by side", "tokens first", "columns first", "expanded")
    ),
    *(Case(dtype=dtype) for dtype in (torch.float64, torch.float16, torch.bfloat16)),
    Case(levels=1, images=1, tokens=1, columns=1, channels=1),
    Case(levels=4, images=4, tokens=127, columns=129, channels=65, index="none"),
    Case(images=0),
    Case(images=0, index="none"),
    Case(tokens=0),
    Case(channels=0),
    Case(columns=0),
]


def operator(levels: list[Tensor], weight: Tensor, bias: Tensor, **rest: Tensor) -> Tensor:
    """Call torch's operator directly, as the public function does where a kernel is chosen."""
    load_operators()
    index, out, position = (rest.get(name) for name in ("index", "out", "position"))
    if out is not None:
        torch.ops.clipvg.multilevel_projection_out(levels, weight, bias, position, index, out)
        return out
    rows = torch.ops.clipvg.multilevel_projection(levels, weight, bias, position, index)
    return rows if index is not None else rows.view(*levels[0].shape[:-1], len(weight))


@pytest.fixture(params=[multilevel_projection, operator], ids=["face", "operator"])
def project(request: pytest.FixtureRequest) -> Callable[..., Tensor]:
    return request.param


def truth(levels: list[Tensor], rest: dict[str, Tensor]) -> Tensor:
    """Return (T, D) from the definition."""
    out = F.linear(torch.cat(levels, -1), rest["weight"], rest["bias"])
    out = out + rest["position"] if "position" in rest else out
    out = out.flatten(0, -2)
    return out[rest["index"]] if "index" in rest else out


def relative(found: Tensor, expected: Tensor) -> float:
    """Return the norm of the error relative to that of `expected`."""
    scale = expected.double().norm().clamp(min=1e-30)
    return float((found.double() - expected.double()).norm() / scale)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_float64(case: Case, project: Callable[..., Tensor]) -> None:
    levels, rest = case.make()
    found = project(levels, **rest)
    expected = truth(*case.make(torch.float64))
    shape = (case.images, case.tokens, case.channels) if case.index == "none" else expected.shape
    assert found.shape == shape
    assert found.dtype == case.dtype
    error = relative(found.view(expected.shape), expected)
    # The products of a level are summed in another order than those of the concatenation, with one
    # more sum where a tensor is small: the bound is that of the operations, not of one sample.
    allowed = HALF.get(case.dtype, 2 * relative(truth(levels, rest), expected) + 1e-7)
    assert error <= allowed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("index", ["none", "some", "repeated"])
def test_gradients_agree_with_float64(
    dtype: torch.dtype, index: str, project: Callable[..., Tensor]
) -> None:
    case = Case(levels=4, tokens=17, columns=40, channels=33, index=index, dtype=dtype)
    results = []
    for kind, function in ((dtype, project), (dtype, None), (torch.float64, None)):
        levels, rest = case.make(kind)
        parts = [*levels, *(rest[name] for name in ("weight", "bias", "position"))]
        for part in parts:
            part.requires_grad_()
        out = truth(levels, rest) if function is None else function(levels, **rest)
        upstream = torch.arange(out.numel()).view(out.shape).sin().to(dtype).to(kind)
        results.append(torch.autograd.grad(out, parts, upstream))
    for found, reference, expected in zip(*results, strict=True):
        allowed = HALF.get(dtype, 2 * relative(reference, expected) + 1e-7)
        assert relative(found, expected) <= allowed


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.tuples(*[st.integers(0, 9)] * 4),
    levels=st.integers(1, 4),
    position=st.booleans(),
    index=st.sampled_from(["none", "some", "repeated"]),
    layout=st.sampled_from(["contiguous", "side by side", "tokens first", "columns first"]),
)
def test_any_shape(
    sizes: tuple[int, int, int, int], levels: int, position: bool, index: str, layout: str
) -> None:
    case = Case(levels, *sizes, position, index, layout, torch.float64)
    parts, rest = case.make()
    expected = truth(parts, rest)
    for function in (multilevel_projection, operator):
        torch.testing.assert_close(function(parts, **rest).view(expected.shape), expected)


def leaves(case: Case) -> tuple[list[Tensor], dict[str, Tensor]]:
    levels, rest = case.make(torch.float64)
    for part in (*levels, *rest.values()):
        part.requires_grad_(part.is_floating_point())
    return levels, rest


@pytest.mark.parametrize("index", ["none", "repeated"])
def test_gradcheck(index: str, project: Callable[..., Tensor]) -> None:
    levels, rest = leaves(Case(2, 2, 2, 3, 2, index=index))

    def call(weight: Tensor, bias: Tensor, position: Tensor, *levels: Tensor) -> Tensor:
        options = {"position": position, "index": rest.get("index")}
        return project(list(levels), weight, bias, **options)

    inputs = (*(rest[name] for name in ("weight", "bias", "position")), *levels)
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


def test_frozen_levels_get_no_gradient() -> None:
    levels, rest = Case(dtype=torch.float64).make()
    weight = rest["weight"].requires_grad_()
    operator(levels, **rest).sum().backward()
    assert all(level.grad is None for level in levels)
    expected = truth(levels, rest).sum()
    torch.testing.assert_close(weight.grad, torch.autograd.grad(expected, weight)[0])


def test_writes_rows_of_a_packed_sequence_and_no_others(project: Callable[..., Tensor]) -> None:
    levels, rest = Case().make()
    packed = torch.full((20, 14), 7.0)
    count = len(rest["index"])
    rows = packed[4 : 4 + count, 3:10]  # rows with a stride of their own
    assert project(levels, **rest, out=rows) is rows
    torch.testing.assert_close(rows, truth(levels, rest))
    packed[4 : 4 + count, 3:10] = 7
    assert bool((packed == 7).all())


def test_twice_gives_the_same(project: Callable[..., Tensor]) -> None:
    levels, rest = Case(4, 4, 63, 64, 65).make()
    first, second = (project(levels, **rest) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": []}, "there are no levels"),
        ({"levels": [torch.zeros(4)]}, r"levels\[0\] has shape \(4,\); expected \(..., V, F\)"),
        ({"levels": [torch.zeros(3, 4), torch.zeros(3, 5)]}, r"levels\[1\] has shape \(3, 5\)"),
        ({"weight": torch.zeros(5, 7)}, r"weight has shape \(5, 7\); expected \(D, 8\)"),
        ({"bias": torch.zeros(4)}, r"bias has shape \(4,\); expected \(5,\)"),
        ({"position": torch.zeros(2, 5)}, r"position has shape \(2, 5\); expected \(3, 5\)"),
        ({"index": torch.zeros(2, 1).long()}, r"index has shape \(2, 1\); expected \(T,\)"),
        ({"out": torch.zeros(2, 5)}, r"out has shape \(2, 5\); expected \(3, 5\)"),
        ({"index": torch.zeros(2)}, "index is torch.float32 on cpu; expected int64"),
        ({"bias": torch.zeros(5).half()}, "bias is torch.float16 on cpu; expected torch.float32"),
        ({"weight": torch.zeros(5, 8, requires_grad=True), "out": torch.zeros(3, 5)}, "gradient"),
    ],
)
def test_bad_arguments_are_refused(change: dict, message: str) -> None:
    arguments = {"levels": [torch.zeros(3, 4)] * 2, "weight": torch.zeros(5, 8)}
    arguments |= {"bias": torch.zeros(5)} | change
    with pytest.raises(ValueError, match=message):
        multilevel_projection(**arguments)


def test_levels_of_integers_are_refused() -> None:
    whole = [torch.zeros(3, 4, dtype=torch.int64)]
    with pytest.raises(ValueError, match="expected a floating dtype"):
        multilevel_projection(whole, torch.zeros(5, 4).long(), torch.zeros(5).long())


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", ["reference", "triton"])
def test_on_a_gpu(case: Case, name: str) -> None:
    if case.dtype == torch.float64 and name == "triton":
        pytest.skip("the kernel has no float64")
    levels, rest = case.make()
    moved = {key: part.cuda() for key, part in rest.items()}
    with backend(name):
        found = multilevel_projection([level.cuda() for level in levels], **moved)
    expected = truth(*case.make(torch.float64))
    allowed = HALF.get(case.dtype, 2 * relative(truth(levels, rest), expected) + 1e-6)
    assert relative(found.cpu().view(expected.shape), expected) <= allowed


@pytest.mark.gpu
def test_float64_has_no_kernel() -> None:
    levels, rest = Case(dtype=torch.float64).make()
    moved = {key: part.cuda() for key, part in rest.items()}
    with backend("triton"), pytest.raises(InputError, match="no float64"):
        multilevel_projection([level.cuda() for level in levels], **moved)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_gradients_on_a_gpu(dtype: torch.dtype) -> None:
    case = Case(4, 5, 65, 129, 70, dtype=dtype)
    results = []
    for name, kind, device in (("triton", dtype, "cuda"), ("reference", torch.float64, "cpu")):
        levels, rest = case.make(kind)
        levels = [level.to(device).requires_grad_() for level in levels]
        rest = {key: part.to(device) for key, part in rest.items()}
        parts = [*levels, *(rest[key].requires_grad_() for key in ("weight", "bias", "position"))]
        with backend(name):
            out = multilevel_projection(levels, **rest)
        upstream = torch.arange(out.numel()).view(out.shape).sin().to(dtype).to(kind).to(device)
        results.append(torch.autograd.grad(out, parts, upstream))
    for found, expected in zip(*results, strict=True):
        assert relative(found.cpu(), expected) <= HALF.get(dtype, 1e-5)


@pytest.mark.gpu
def test_rows_past_two_to_the_31_elements_on_a_gpu() -> None:
    if torch.cuda.mem_get_info()[0] < 12 << 30:
        pytest.skip("needs 12 GiB of GPU memory")
    tokens, columns = 2**21 + 3, 1024 + 64
    level = torch.zeros(tokens, columns, dtype=torch.bfloat16, device="cuda")
    assert level.numel() > 2**31
    level[-1], level[-2] = 1, 2
    weight = torch.ones(8, columns, dtype=torch.bfloat16, device="cuda")
    index = torch.tensor([tokens - 1, 0, tokens - 2], device="cuda")
    with backend("triton"):
        found = multilevel_projection([level], weight, weight[:, 0] * 0, index=index)
    assert found[:, 0].tolist() == [columns, 0, 2 * columns]


@pytest.mark.parametrize("index", [[0, 4], [-1], [2**62]])
def test_an_index_of_tokens_that_are_not_there_is_refused(index: list[int]) -> None:
    level, weight = torch.zeros(2, 2, 3), torch.zeros(5, 3)
    with pytest.raises(InputError, match=rf"is {index[-1]}; expected 0 to 3"):
        multilevel_projection([level], weight, weight[:, 0], index=torch.tensor(index))
