"""Collect what a GPU machine without access to a package index needs, and print the sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIMIT_MIB = 64
# Packages that the stages import, besides torch.
NEEDED = (
    "torchvision", "triton", "setuptools", "pybind11", "ninja", "numpy", "scipy", "sklearn",
    "pyarrow", "safetensors", "huggingface_hub", "tqdm", "PIL", "yaml", "regex", "matplotlib",
    "jinja2", "filelock", "timm", "pytest", "xdist", "hypothesis", "open_clip", "ftfy", "wcwidth",
    "jsonargparse",
)  # fmt: skip
# Those that common PyTorch container images lack; pure Python, so for any platform.
WHEELS = ("open_clip_torch", "ftfy", "wcwidth", "jsonargparse", "docstring_parser")
FOR = ("--python-version", "3.12", "--implementation", "cp", "--platform", "manylinux_2_28_x86_64")


def pack(root: Path, folder: Path) -> int:
    """Download missing wheels into a folder, and list what to transfer; return 1 if too large."""
    folder.mkdir(parents=True, exist_ok=True)
    have = {wheel.name.split("-")[0].lower() for wheel in folder.glob("*.whl")}
    wanted = [name for name in WHEELS if name not in have]
    if wanted:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
        subprocess.run([*command, "--only-binary=:all:", *FOR, *wanted], check=True)
    sizes = {"the tree without .git": tree_bytes(root)}
    if (root / "shared").is_dir():
        sizes["shared/"] = sum(
            f.stat().st_size for f in (root / "shared").rglob("*") if f.is_file()
        )
    sizes |= {wheel.name: wheel.stat().st_size for wheel in sorted(folder.glob("*.whl"))}
    total = sum(sizes.values()) / 2**20
    for name, size in sizes.items():
        print(f"{size / 2**20:7.2f} MiB  {name}")
    print(f"{total:7.2f} MiB  of {LIMIT_MIB}: WHEELS={folder} bash benchmarks/gpu.sh, twice")
    return int(total > LIMIT_MIB)


def tree_bytes(root: Path) -> int:
    """Return the bytes of all files that git tracks or would add."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    files = (root / name for name in set(listed.split("\0")) if name)
    return sum(file.lstat().st_size for file in files if file.exists())
