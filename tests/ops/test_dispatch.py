"""Choosing the implementation of an operator, and saying why."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from clipvg.errors import InputError
from clipvg.ops import backend, backends, box_reliability, box_reliability_numpy

BOX = torch.tensor([[0.5, 0.5, 0.5, 0.5]])


def chosen(device: str) -> str:
    return next(row["backend"] for row in backends() if row["device"] == device and row["chosen"])


def test_table_gives_a_reason_for_all_that_is_not_available() -> None:
    rows = backends()
    assert {row["operator"] for row in rows} == {"box_reliability"}
    for row in rows:
        assert row["available"] or row["reason"]
        assert row["available"] or not row["chosen"]
    for device in ("numpy", "cpu"):
        assert sum(row["chosen"] for row in rows if row["device"] == device) == 1


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
    code = """
import numpy as np
from clipvg.ops import backend, backends, box_reliability_numpy
box = np.array([[0.5, 0.5, 0.5, 0.5]])
with backend("auto"):
    box_reliability_numpy(box, box)
box_reliability_numpy(box, box)
from clipvg.ops._dispatch import requested
print(requested())
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"CLIPVG_BACKEND": setting},
        capture_output=True,
        text=True,
    )
    if setting == "reference":
        assert result.stdout.strip() == "reference", result.stderr
    else:
        assert "CLIPVG_BACKEND: unknown backend 'nativ'" in result.stderr


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
