"""Fixtures that choose the device and the backend of operator tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clipvg.ops import backend, backends


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Run the test on a CPU, and on a GPU if there is one."""
    return request.param


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests with `each_backend` on every CPU implementation of the module's OPERATOR."""
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
    """Run the test on one backend."""
    with backend(request.param):
        yield request.param
