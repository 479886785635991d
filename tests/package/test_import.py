"""What importing costs, and what works without torch."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.processes import Call

import clipvg
from clipvg.ops import backends

NO_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision"):
            raise ImportError("torch is not there")

sys.meta_path.insert(0, Refuse())
"""


def run(code: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )


def test_import_touches_nothing_that_takes_time() -> None:
    code = """
        import sys, clipvg
        print({"torch", "numpy", "pyarrow", "matplotlib"} & set(sys.modules))
    """
    assert run(code).stdout.strip() == "set()"


def test_optional_packages_are_imported_when_they_are_used() -> None:
    call = Call("support.imports:optional")  # in a process that has imported the package
    assert call.end() == 0, call.err
    assert call.out.split() == ["clipvg.cli", "clipvg.measures"]


@pytest.mark.parametrize("name", clipvg.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(clipvg, name) is not None
    assert name in dir(clipvg)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        clipvg.nothing  # noqa: B018 (looking it up is the test)


def test_speaks_numpy_without_torch() -> None:
    """None of these parts needs torch, nor do the names of the measures."""
    modules = ["errors", "boxes", "labels", "ops", "curriculum", "reliability", "measures"]
    imports = "\n".join(f"import clipvg.{module}" for module in modules)
    code = f"{NO_TORCH}\n{imports}\nassert len(clipvg.measures.MEASURES) > 9"
    result = run(f"{code}\nassert 'torch' not in sys.modules")
    assert result.returncode == 0, result.stderr


def test_native_numpy_module_works_where_torch_does_not_import() -> None:
    row = next(row for row in backends() if (row["device"], row["backend"]) == ("numpy", "native"))
    if not row["available"]:
        pytest.skip(f"clipvg._C: {row['reason']}")
    code = f"""{NO_TORCH}
import clipvg._C
import numpy as np
from clipvg.ops import backend, box_reliability_numpy
box = np.array([[0.5, 0.5, 1, 1], [0.5, 0.5, 0.5, 1]])
with backend("native"):
    iou, hist = box_reliability_numpy(box, box[[0, 0]], bins=4)
print(iou.tolist(), hist.tolist(), "torch" in sys.modules)
"""
    result = run(code)
    assert result.stdout.strip() == "[[1.0, 0.5]] [[[0, 0, 1, 1]]] False", result.stderr


def test_the_demo_installs_no_extra(repository: Path) -> None:
    rules = (repository / "Makefile").read_text().split("\n\n")
    assert any(rule.startswith("demo: .venv/.installed\n") for rule in rules)
    (installed,) = (rule for rule in rules if ".venv/.installed: $(BUILD_INPUTS)\n" in rule)
    assert "[" not in installed.partition("$(BUILD_INPUTS)\n")[2]
