"""The lines of dispatch and tuning tables that a recorded GPU run decides."""

from __future__ import annotations

import pytest
from _gpu.decide import SEVERAL, decide

from clipvg.ops._table import Fastest


def stage(**cases: dict[str, float]) -> dict:
    records = [
        {"case": case.replace("_", " "), "provider": provider, "ms_50": ms}
        for case, of_case in cases.items()
        for provider, ms in of_case.items()
    ]
    return {"status": "passed", "result": {"records": records}}


def result(**stages: dict) -> dict:
    return {"conditions": {"device": "NVIDIA Any"}, "stages": stages}


def test_a_dtype_that_won_every_case_has_a_row() -> None:
    attention = stage(
        a_bfloat16={"native": 3.0, "triton": 1.0, "SDPA": 0.1},
        b_bfloat16={"native": 3.0, "triton": 2.0},
        a_float32={"native": 3.0, "triton": 1.0},
        b_float32={"native": 1.0, "triton": 1.0},
    )
    projection = stage(c_float32={"a product a level (reference)": 2.0, "triton": 1.0})
    line, _ = decide(result(packed_attention=attention, multilevel_projection=projection)).split(
        "\n"
    )
    rows = eval(line.partition("= ")[2], {"Fastest": Fastest})
    half = ("bfloat16", "float16")
    attends = Fastest("triton", ("cuda",), "1.5 to 3.0 times on NVIDIA Any", half)
    projects = Fastest("triton", ("cuda",), "2.0 to 2.0 times on NVIDIA Any", ("float32",))
    assert rows == {"packed_attention": (attends,), "multilevel_projection": (projects,)}


@pytest.mark.parametrize(("long", "most"), [(0.5, 64), (1.0, 20)])
def test_several_a_program_up_to_the_longest_that_won(long: float, most: int) -> None:
    cases = {
        "1_x_64_tokens_bfloat16": {"triton": 1.0, SEVERAL: long},
        "1_x_20_tokens_bfloat16": {"triton": 1.0, SEVERAL: 0.5},
        "3_x_256_labels_bfloat16": {"triton": 1.0, SEVERAL: 2.0},
    }
    assert decide(result(packed_attention=stage(**cases))).endswith(f"SEVERAL_UP_TO = {most}")


def test_a_run_without_results_decides_nothing() -> None:
    failed = {"status": "failed"}
    lines = decide(result(packed_attention=failed)).splitlines()
    assert lines[0].endswith("= {}")
    assert lines[1].endswith("= 0")
