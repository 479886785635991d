"""Fields of configurations are checked against their annotations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from clipvg.errors import InputError
from clipvg.runtime.fields import ABOVE_ZERO, check_fields, field_problems


@dataclass
class Options:
    count: Annotated[int, (1, 9)] = 1
    share: Annotated[float, "of the area", (ABOVE_ZERO, None)] = 0.5
    ratio: Annotated[float | None, (1, math.inf)] = None
    name: Literal["a", "b"] = "a"
    path: str | Path | None = None
    pair: tuple[int, str] = (1, "x")
    many: tuple[int, ...] = ()
    plain: list = field(default_factory=list)  # type: ignore[type-arg]  # of anything: that is it
    rows: np.ndarray | Sequence[Sequence[float]] = ()
    table: Mapping[str, int] = field(default_factory=dict)
    call: Callable[[int], int] = abs


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"count": np.int64(3), "share": np.float32(0.5), "ratio": math.inf},
        {"share": 10**400, "ratio": 1},
        {"path": Path("x"), "pair": [2, "y"], "many": (1, 2, 3), "plain": [1, "a"]},
        {"rows": [[0.5, 1], [2, 3]], "table": {"a": 1}, "call": print},
        {"rows": np.zeros((2, 2))},
    ],
)
def test_what_fits_is_accepted(given: dict[str, Any]) -> None:
    check_fields(Options(**given), "options")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, "count is 0, expected at least 1"),
        ({"count": 10}, "count is 10, expected at most 9"),
        ({"count": True}, "count is True, expected int"),
        ({"count": "2"}, "count is '2', expected int"),
        ({"share": 0}, "share is 0, expected above 0"),
        ({"share": math.inf}, "share is inf, expected a finite number"),
        ({"ratio": math.nan}, "ratio is nan, expected a finite number"),
        ({"ratio": -math.inf}, "ratio is -inf, expected a finite number"),
        ({"name": "c"}, "name is 'c', expected one of 'a', 'b'"),
        ({"path": 3}, "path is 3, expected str or Path or null"),
        ({"pair": (1, 2)}, "pair is (1, 2), expected tuple[int, str]"),
        ({"pair": (1,)}, "pair is (1,), expected tuple[int, str]"),
        ({"many": (1, "a")}, "many is (1, 'a'), expected tuple[int, ...]"),
        ({"plain": "ab"}, "plain is 'ab', expected list"),
        ({"rows": "ab"}, "rows is 'ab', expected ndarray or list[list[float]]"),
        ({"table": [1]}, "table is [1], expected mapping"),
        ({"call": 1}, "call is 1, expected "),
    ],
)
def test_what_does_not_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        check_fields(Options(**given), "options")
    assert str(error.value).startswith(f"options: {message}")


def test_all_faults_are_told_at_once() -> None:
    wrong: dict[str, Any] = {"count": 0, "name": "c", "share": -1.0}
    assert len([*field_problems(Options(**wrong))]) == 3
