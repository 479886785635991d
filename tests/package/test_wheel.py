"""The contents of the wheel and the sdist, and builds that fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

SOURCES = ["clipvg", "csrc", "kernels", "pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE"]
DATA = [
    "clipvg/configs/*.yaml",
    "clipvg/reproduce/*.yaml",
    "clipvg/model/tiny/*",
    "clipvg/pseudo/data/*",
    "clipvg/report/templates/*",
    "clipvg/py.typed",
]
OPTIONAL = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A copy of what the package is built from, so that no earlier build leaks in."""
    folder = tmp_path_factory.mktemp("source")
    built = shutil.ignore_patterns("*.so", "__pycache__", "_build.json")
    for name in [*SOURCES, *(name for name in OPTIONAL if (repository / name).exists())]:
        path = repository / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=built)
        else:
            shutil.copy(path, folder / name)
    for weights in folder.glob("clipvg/model/tiny/*.safetensors"):
        weights.write_bytes(b"")  # packing 14 MB takes longer than all the rest
    return folder


def build(source: Path, out: Path, kind: str, mode: str) -> subprocess.CompletedProcess[str]:
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(out)!r})"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=source,
        env=os.environ | {"CLIPVG_BUILD": mode},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    result = build(source, out, "wheel", "none")
    assert result.returncode == 0, result.stderr
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_wheel_holds_kernels_typing_marker_and_licence(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "clipvg/kernels/__init__.py" in names
    assert "clipvg/ops/box_reliability/op.py" in names
    assert "clipvg/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    tops = {name.split("/")[0] for name in names}
    assert all(top == "clipvg" or top.endswith(".dist-info") for top in tops), tops


def test_wheel_holds_every_module_and_data_file(wheel: zipfile.ZipFile, source: Path) -> None:
    expected = {path.relative_to(source).as_posix() for path in source.glob("clipvg/**/*.py")}
    for pattern in DATA:
        expected |= {path.relative_to(source).as_posix() for path in source.glob(pattern)}
    assert expected <= set(wheel.namelist())


def test_wheel_records_why_it_is_pure_python(wheel: zipfile.ZipFile) -> None:
    record = json.loads(wheel.read("clipvg/_build.json"))
    assert record["mode"] == "none"
    assert set(record["missing"].values()) == {"CLIPVG_BUILD=none"}
    assert not [name for name in wheel.namelist() if name.endswith(".so")]


def test_sdist_holds_what_a_build_needs(source: Path, tmp_path: Path) -> None:
    result = build(source, tmp_path, "sdist", "none")
    assert result.returncode == 0, result.stderr
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {"setup.py", "pyproject.toml", "LICENSE", "kernels/__init__.py"}
    for pattern in ("csrc/*", *DATA):
        expected |= {path.relative_to(source).as_posix() for path in source.glob(pattern)}
    assert expected <= names
    assert "clipvg/_build.json" not in names


def test_an_unknown_build_mode_is_refused(source: Path, tmp_path: Path) -> None:
    result = build(source, tmp_path, "wheel", "gpu")
    assert result.returncode != 0
    assert "CLIPVG_BUILD='gpu': expected one of auto, none, cpu, cuda" in result.stderr


def test_a_missing_compiler_is_an_error_only_when_native_code_is_demanded(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    demanded = build(source, tmp_path, "wheel", "cpu")
    assert demanded.returncode != 0
    assert "no C++ compiler (no-such-compiler is not on PATH" in demanded.stderr
    automatic = build(source, tmp_path, "wheel", "auto")
    assert automatic.returncode == 0, automatic.stderr
    assert automatic.stderr.count("clipvg is built as pure Python: no C++ compiler") == 1
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        record = json.loads(archive.read("clipvg/_build.json"))
    assert all("no C++ compiler" in reason for reason in record["missing"].values())


def test_a_compile_that_fails_says_what_to_do(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "source"
    shutil.copytree(source, broken)
    (broken / "csrc" / "box_reliability.h").write_text("#error broken\n")
    monkeypatch.setenv("CXX", "g++")
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    # Torch is hidden: an isolated build compiles clipvg._C alone.
    (broken / "torch.py").write_text("raise ImportError('hidden')\n")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    result = build(broken, tmp_path, "wheel", "auto")
    assert result.returncode != 0
    assert "CLIPVG_BUILD=none" in result.stderr
