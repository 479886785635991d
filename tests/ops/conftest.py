"""Backends of the operator tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clipvg.ops import backend, backends


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Runs the test on a CPU, and on a GPU where there is one."""
    return request.param


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask for `each_backend` and run on every CPU implementation of the module's OPERATOR."""
    if "each_backend" in metafunc.fixturenames:
        operator = metafunc.module.OPERATOR
        names = [
            row["backend"]
            for row in backends()
            if (row["operator"], row["device"]) == (operator, "cpu") and row["available"]
        ]
        metafunc.parametrize("each_backend", ["auto", *names], indirect=True)


@pytest.fixture
def each_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test on one of them."""
    with backend(request.param):
        yield request.param
