"""Choose the implementation of an operator, and say why."""

from __future__ import annotations

import pytest
import torch
from support.processes import Call

from clipvg.errors import InputError
from clipvg.ops import _dispatch, backend, backends, box_reliability, box_reliability_numpy
from clipvg.ops._table import OPERATORS, Fastest, Operator

BOX = torch.tensor([[0.5, 0.5, 0.5, 0.5]])


# An operator composed of PyTorch's kernels, with a Triton kernel and invented measurements.
TOY = Operator(
    devices=("cpu", "cuda"),
    composed=True,
    triton=("cuda",),
    fastest=(
        Fastest("triton", ("cuda",), "half", dtypes=("float16", "bfloat16")),
        Fastest("triton", ("cuda",), "short", at_most=512),
        Fastest("native", ("cpu", "cuda"), "PyTorch's own"),
    ),
)


def chosen(device: str) -> str:
    rows = (row for row in backends() if row["operator"] == "box_reliability")
    return next(row["backend"] for row in rows if row["device"] == device and row["chosen"])


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(OPERATORS, "toy", TOY)
    monkeypatch.setattr(_dispatch, "load_operators", lambda: None)
    monkeypatch.setattr(_dispatch, "why_no_triton", lambda: None)
    return "toy"


@pytest.mark.parametrize(
    ("device", "dtype", "size", "expected"),
    [
        ("cuda", "bfloat16", 10_000, "triton"),
        ("cuda", "float32", 512, "triton"),
        ("cuda", "float32", 513, "native"),
        ("cuda", "float32", None, "native"),  # an unknown size does not meet a limit
        ("cuda", None, None, "triton"),
        ("cpu", "bfloat16", 1, "native"),
        ("mps", "float32", 1, "reference"),
    ],
)
def test_auto_takes_the_first_row_that_holds(
    toy: str, device: str, dtype: str | None, size: int | None, expected: str
) -> None:
    assert _dispatch.choose(toy, device, dtype, size) == expected


def test_a_device_has_one_kernel_and_the_rest_have_names(toy: str) -> None:
    names = {}
    for device in ("cpu", "cuda", "mps"):
        for name in ("reference", "native", "triton"):
            if _dispatch.why_unavailable(toy, device, name) is None:
                with backend(name):
                    names[device, name] = _dispatch.operator_name(toy, device)
    assert names == {
        ("cpu", "reference"): "toy_reference",
        ("cpu", "native"): "toy",
        ("cuda", "reference"): "toy_reference",
        ("cuda", "native"): "toy_native",
        ("cuda", "triton"): "toy",
        ("mps", "reference"): "toy_reference",
        ("mps", "native"): "toy_native",  # no kernel is registered for this device
    }


def test_without_triton_the_next_row_holds(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dispatch, "why_no_triton", lambda: "Triton is not installed")
    assert _dispatch.choose(toy, "cuda", "bfloat16", 1) == "native"
    expected = "Triton is not installed; use 'reference' or 'native'"
    with backend("triton"), pytest.raises(InputError, match=expected):
        _dispatch.choose(toy, "cuda")
    with backend("triton"), pytest.raises(InputError, match="toy has no Triton kernel for cpu"):
        _dispatch.choose(toy, "cpu")


def test_table_gives_a_reason_for_all_that_is_not_available() -> None:
    rows = backends()
    assert {row["operator"] for row in rows} == set(OPERATORS)
    for row in rows:
        assert row["available"] or row["reason"]
        assert row["available"] or not row["chosen"]
    chosen = [(row["operator"], row["device"]) for row in rows if row["chosen"]]
    for operator, about in OPERATORS.items():
        for device in set(about.devices) - {"cuda"}:
            assert chosen.count((operator, device)) == 1


def test_backend_nests_and_ends() -> None:
    before = chosen("cpu")
    with backend("reference"):
        assert chosen("cpu") == "reference"
        with backend("auto"):
            assert chosen("cpu") == before
        assert chosen("cpu") == "reference"
    assert chosen("cpu") == before


def test_a_forced_backend_that_cannot_run_says_why_and_what_can() -> None:
    with backend("triton"):
        with pytest.raises(InputError, match="has no Triton kernel; use 'reference'"):
            box_reliability(BOX, BOX)
        with pytest.raises(InputError, match="has no Triton kernel; use 'reference'"):
            box_reliability_numpy(BOX.numpy(), BOX.numpy())


def test_an_unknown_backend_is_refused_with_near_matches() -> None:
    with pytest.raises(InputError, match="did you mean 'native'"), backend("nativ"):
        pass


@pytest.mark.parametrize("setting", ["reference", "nativ"])
def test_the_environment_chooses_for_a_process(setting: str) -> None:
    call = Call("support.imports:requested_backend", CLIPVG_BACKEND=setting)
    call.end()
    if setting == "reference":
        assert call.out.strip() == "reference", call.err
    else:
        assert "CLIPVG_BACKEND: unknown backend 'nativ'" in call.err


def test_reference_serves_where_no_native_library_was_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from clipvg.ops import _dispatch, _native

    monkeypatch.setattr(_native, "build_record", lambda: {"missing": {"numpy": "no C++ compiler"}})
    _native.numpy_module.cache_clear()
    _dispatch._native_reason.cache_clear()
    try:
        iou, _ = box_reliability_numpy(BOX.numpy(), BOX.numpy())
        assert iou.tolist() == [[1.0]]
        with backend("native"), pytest.raises(InputError, match="not built: no C\\+\\+ compiler"):
            box_reliability_numpy(BOX.numpy(), BOX.numpy())
    finally:
        _native.numpy_module.cache_clear()
        _dispatch._native_reason.cache_clear()
