"""Turn a recorded GPU run into lines of clipvg/ops/_table.py and kernels/_tune.py."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

AGAINST = {  # the implementation that "auto" chooses without a row in the table
    "packed_attention": "native",
    "multilevel_projection": "a product a level (reference)",
}
DTYPES = {"float32": ("float32",), "bfloat16": ("bfloat16", "float16")}
SEVERAL = "triton, several a program"

Times = dict[str, dict[str, float]]  # milliseconds by case and provider


def times(result: dict[str, Any], operator: str) -> Times:
    """Return the medians of an operator's stage; empty if it was not run."""
    found: Times = defaultdict(dict)
    stage = result["stages"].get(operator, {})
    for record in stage.get("result", {}).get("records", ()):
        found[record["case"]][record["provider"]] = record["ms_50"]
    return found


def rows(result: dict[str, Any], operator: str) -> list[str]:
    """Return a row for each dtype in which Triton's kernel wins every case, with its speed-ups."""
    other, found = AGAINST[operator], []
    for dtype, covered in DTYPES.items():
        ratios = [
            of_case[other] / of_case["triton"]
            for case, of_case in times(result, operator).items()
            if dtype in case and {other, "triton"} <= of_case.keys()
        ]
        if ratios and min(ratios) > 1:
            why = (
                f"{min(ratios):.1f} to {max(ratios):.1f} times on {result['conditions']['device']}"
            )
            found.append(f'Fastest("triton", ("cuda",), "{why}", {covered!r})')
    return found


def several_up_to(result: dict[str, Any]) -> int:
    """Return the longest sequence, in tokens, up to which several per program are always faster."""
    best = 0
    for case, of_case in sorted(times(result, "packed_attention").items(), key=_tokens):
        if SEVERAL in of_case and "tokens" in case:
            if of_case[SEVERAL] >= of_case["triton"]:
                break
            best = _tokens((case, of_case))
    return best


def _tokens(item: tuple[str, Any]) -> int:
    found = re.search(r"(\d+) tokens", item[0])
    return int(found[1]) if found else 0


def decide(result: dict[str, Any]) -> str:
    """Return the lines, each with the file that it belongs in."""
    won = {operator: rows(result, operator) for operator in AGAINST}
    entries = ", ".join(f'"{name}": ({", ".join(each)},)' for name, each in won.items() if each)
    return (
        f"clipvg/ops/_table.py:  ON_GPU: dict[str, tuple[Fastest, ...]] = {{{entries}}}\n"
        f"kernels/_tune.py:      SEVERAL_UP_TO = {several_up_to(result)}"
    )
