"""Backends of the operator tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clipvg.ops import backend, backends


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Runs the test on a CPU, and on a GPU where there is one."""
    return request.param


@pytest.fixture(params=["auto", "reference", "native"])
def each_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test on every CPU implementation of the module's OPERATOR."""
    operator = request.module.OPERATOR
    for row in backends():
        asked = (row["operator"], row["device"], row["backend"]) == (operator, "cpu", request.param)
        if asked and not row["available"]:
            pytest.skip(f"{operator}: no {request.param} implementation: {row['reason']}")
    with backend(request.param):
        yield request.param
