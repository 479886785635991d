"""Build what pyproject.toml cannot express: native extensions and the package clipvg.kernels.

CLIPVG_BUILD=auto  (default) all that the available tools allow; if none, pure Python and a warning
             none  pure Python
             cpu   clipvg._C and the CPU half of clipvg/_ops; a missing tool is an error
             cuda  everything; a missing tool is an error

Torch is not a build requirement: with `pip install --no-build-isolation` the installed torch is
used, and an isolated build, which has none, makes clipvg._C only.
"""

import importlib.util
import json
import os
import re
import shutil
import sysconfig
import warnings
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import SetupError

MODES = ("auto", "none", "cpu", "cuda")
MODE = os.environ.get("CLIPVG_BUILD", "auto")
CXX_FLAGS = ["-O3", "-g0", "-ffp-contract=off", "-fvisibility=hidden", "-pthread", "-Wall"]
CXX_FLAGS += ["-Wno-psabi"]  # vectors wider than the baseline's are inlined, never passed
HEADERS = ["csrc/box_reliability.h", "csrc/box_reliability_lanes.h"]
NVCC_FLAGS = ["-O3", "--fmad=false", "-std=c++20", "-Xcompiler", "-fPIC,-fvisibility=hidden"]
# GPU architectures to compile for unless TORCH_CUDA_ARCH_LIST names others; a driver compiles the
# PTX for newer GPUs.
ARCHITECTURES = "7.5;8.0;9.0+PTX"
TORCH_TARGET_VERSION = "0x020a000000000000"  # 2.10
CUDA_HOME = Path(os.environ.setdefault("CUDA_HOME", "/usr/local/cuda"))


def why_no_compiler():
    compiler = (os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "g++").split()[0]
    if shutil.which(compiler):
        return None
    return f"no C++ compiler ({compiler} is not on PATH; install g++ or set CXX)"


def why_no_pybind11():
    if importlib.util.find_spec("pybind11") is None:
        return "pybind11 is not installed (pip install pybind11)"
    return None


def why_no_torch():
    try:
        import torch
    except ImportError:
        return "no torch in the build (install torch, then pip install --no-build-isolation)"
    if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < (2, 10):
        return f"torch {torch.__version__} is older than 2.10 (pip install -U torch)"
    return None


def nvcc_release():
    nvcc = CUDA_HOME / "bin" / "nvcc"
    return os.popen(f"'{nvcc}' --version").read().partition("release ")[2].split(",")[0]


def why_no_cuda():
    import torch

    if torch.version.cuda is None:
        return "torch is a CPU build"
    nvcc = CUDA_HOME / "bin" / "nvcc"
    if not nvcc.exists():
        return f"no nvcc in {CUDA_HOME} (install the CUDA toolkit or set CUDA_HOME)"
    release = nvcc_release()
    if release.split(".")[0] != torch.version.cuda.split(".")[0]:
        return f"nvcc {release} and torch's CUDA {torch.version.cuda} differ in the major version"
    return None


def plan():
    """Return the parts by name, each with the reason why it is not built, or None if it is."""
    if MODE not in MODES:
        raise SetupError(f"CLIPVG_BUILD={MODE!r}: expected one of {', '.join(MODES)}")
    if MODE == "none":
        return dict.fromkeys(("numpy", "torch_cpu", "torch_cuda"), "CLIPVG_BUILD=none")
    compiler = why_no_compiler()
    reasons = {"numpy": compiler or why_no_pybind11(), "torch_cpu": compiler or why_no_torch()}
    reasons["torch_cuda"] = (
        "CLIPVG_BUILD=cpu" if MODE == "cpu" else reasons["torch_cpu"] or why_no_cuda()
    )
    required = {"auto": (), "cpu": ("numpy", "torch_cpu"), "cuda": tuple(reasons)}[MODE]
    missing = [reasons[part] for part in required if reasons[part]]
    if missing:
        raise SetupError(f"CLIPVG_BUILD={MODE}: {'; '.join(dict.fromkeys(missing))}")
    if reasons["numpy"] and reasons["torch_cpu"]:
        warnings.warn(f"clipvg is built as pure Python: {reasons['numpy']}", stacklevel=2)
    return reasons


def numpy_extension():
    import pybind11

    return Extension(
        "clipvg._C",
        ["csrc/numpy_module.cpp", "csrc/box_reliability_cpu.cpp"],
        include_dirs=["csrc", pybind11.get_include()],
        depends=HEADERS,
        language="c++",
        extra_compile_args={"cxx": [*CXX_FLAGS, "-std=c++17"]},
        extra_link_args=["-pthread"],
    )


def describe_cuda_code():
    """Return macros with CUDA's version and torch's GPU targets, for clipvg/ops/_native.py."""
    from torch.utils import cpp_extension

    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", ARCHITECTURES)
    flags = cpp_extension._get_cuda_arch_flags()
    targets = [target for flag in flags for target in re.findall(r",code=(\w+)", flag)]
    major, minor = nvcc_release().split(".")
    toolkit = int(major) * 1000 + int(minor) * 10
    return [("CLIPVG_TOOLKIT", str(toolkit)), ("CLIPVG_TARGETS", ",".join(sorted(targets)))]


def torch_extension(cuda):
    from torch.utils import cpp_extension

    sources = ["csrc/torch_ops.cpp", "csrc/box_reliability_cpu.cpp"]
    libraries, library_dirs, link = (
        ["torch_cpu", "torch"],
        cpp_extension.library_paths(),
        ["-pthread"],
    )
    macros = [("TORCH_TARGET_VERSION", TORCH_TARGET_VERSION)]
    if cuda:
        sources.append("csrc/box_reliability_cuda.cu")
        macros += [("CLIPVG_CUDA", None), ("USE_CUDA", None), *describe_cuda_code()]
        # With the CUDA runtime linked statically, the library loads with a driver of any version,
        # or without one.
        libraries += ["torch_cuda", "cudart_static", "rt", "dl"]
        library_dirs.append(str(CUDA_HOME / "lib64"))
    return Extension(
        "clipvg._ops",
        sources,
        include_dirs=["csrc", *cpp_extension.include_paths("cuda" if cuda else "cpu")],
        depends=HEADERS,
        define_macros=macros,
        language="c++",
        library_dirs=library_dirs,
        libraries=libraries,
        extra_compile_args={"cxx": [*CXX_FLAGS, "-std=c++20"], "nvcc": NVCC_FLAGS},
        extra_link_args=link,
        py_limited_api=True,  # it uses no Python API: its file name should not name a CPython
    )


def with_remedy(base):
    """Return a subclass of `base` whose compile errors say how to install without native code."""

    class BuildExtensions(base):
        def build_extensions(self):
            for extension in self.extensions:
                if base is build_ext:
                    extension.extra_compile_args = extension.extra_compile_args["cxx"]
            try:
                super().build_extensions()
            except Exception as error:
                raise SetupError(
                    f"compiling clipvg's native code failed ({error}); the compiler's message is "
                    "above. Install without native code: CLIPVG_BUILD=none pip install ..."
                ) from error

    return BuildExtensions


class BuildPython(build_py):
    """Also write clipvg/_build.json, from which `clipvg info` reports what was built and why."""

    def run(self):
        super().run()
        root = Path(__file__).parent if self.editable_mode else Path(self.build_lib)
        path = root / "clipvg" / "_build.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"mode": MODE, "missing": REASONS}, indent=1) + "\n")


REASONS = plan()
extensions, command = [], build_ext
if REASONS["torch_cpu"] is None:
    from torch.utils.cpp_extension import BuildExtension as command

    extensions.append(torch_extension(cuda=REASONS["torch_cuda"] is None))
if REASONS["numpy"] is None:
    extensions.append(numpy_extension())

setup(
    packages=[*find_packages(include=["clipvg", "clipvg.*"]), "clipvg.kernels"],
    package_dir={"clipvg.kernels": "kernels"},
    ext_modules=extensions,
    cmdclass={"build_ext": with_remedy(command), "build_py": BuildPython},
)
