"""benchmarks/gpu.py starts on a fresh machine, and its commands and paths are valid."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import _harness
import gpu
import rescoring
import training_step

NOT_INSTALLED = """
import runpy, sys
from importlib.machinery import PathFinder

class Uninstalled:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "clipvg":
            elsewhere = [folder for folder in sys.path if not folder.endswith("-packages")]
            found = PathFinder.find_spec(name, elsewhere)
            if found is None:
                raise ModuleNotFoundError(name)
            return found

sys.meta_path.insert(0, Uninstalled)
script, *sys.argv[1:] = sys.argv[1:]
sys.path[0] = script.rpartition("/")[0]
runpy.run_path(script, run_name="__main__")
"""


def test_it_starts_where_the_package_is_not_installed_yet(repository: Path, tmp_path: Path) -> None:
    script = (repository / "benchmarks" / "gpu.py").as_posix()
    found = subprocess.run(
        [sys.executable, "-c", NOT_INSTALLED, script, "--list", "--device", "cpu"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("build ")


def test_commands_on_a_gpu_are_understood(repository: Path) -> None:
    parsers = {
        "benchmarks/rescoring.py": rescoring.parse,
        "benchmarks/training_step.py": training_step.parse,
    }
    for stage in gpu.stages("cuda"):
        for _, script, *options in stage.commands:
            paths = (part for part in (script, *options) if part.startswith(("bench", "tests/")))
            assert all((repository / path).exists() for path in paths)
            parse = parsers.get(script)
            if script.startswith("benchmarks/ops/"):
                parse = _harness.options(None).parse_args
            assert parse is None or parse(options).device == "cuda"


def test_every_test_that_needs_a_gpu_is_run_there(repository: Path) -> None:
    mark = "pytest.mark." + "gpu"
    commands = next(stage.commands for stage in gpu.stages("cuda") if stage.name == "tests")
    run = [repository / part for part in commands[0] if part.startswith("tests/")]
    marked = [file for file in (repository / "tests").rglob("*.py") if mark in file.read_text()]
    assert marked
    for file in marked:
        assert any(path in (file, *file.parents) for path in run), file
