"""Measure time and peak memory of reading, converting, merging and checking a million labels.

python benchmarks/labels.py --json FILE

Each action is a command of its own, so that its time includes the start of the program and its
memory is the peak of the whole process. Images are not opened.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import _harness
import numpy as np

from clipvg.labels import LabelTable

LABELS_PER_IMAGE = 8  # as in RefCOCO
FILES = {  # by format
    "jsonl": "all.jsonl", "csv": "all.csv", "tsv": "all.tsv", "json": "all.json",
    "coco": "coco.json", "odvg": "odvg.jsonl", "label-studio": "tasks.json", "pth": "unc_all.pth",
}  # fmt: skip
READ = "import sys; from clipvg import read_labels; print(len(read_labels(sys.argv[1])))"


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    args = parse(arguments)
    with TemporaryDirectory() as name:
        folder = Path(name)
        maker = get_context("spawn").Process(
            target=make, args=(folder / "all.parquet", args.labels)
        )
        maker.start()
        maker.join()
        records = [
            run(action, words, args.labels)
            for action, words in actions(folder).items()
            if args.action in action
        ]
    if args.json:
        _harness.write(args.json, records, "cpu")
    return records


def make(path: Path, count: int) -> None:
    """Write labels with the columns of pseudo-labels, and two parts that share a fifth of them."""
    draw = np.random.default_rng(0)
    corner = draw.integers(0, 300, (count, 2))
    labels = LabelTable.from_columns(
        image=[f"COCO_train2014_{row // LABELS_PER_IMAGE:012d}.jpg" for row in range(count)],
        expression=[
            f"thing {number} on the left" for number in draw.integers(0, count // 4, count)
        ],
        box=np.concatenate([corner, corner + draw.integers(1, 300, (count, 2))], axis=1),
        source="template",
        width=[640] * count,
        height=[480] * count,
        **{"reliability.template": draw.random(count)},
    )
    labels.write(path)
    labels[: count * 6 // 10].write(path.with_name("first.parquet"))
    labels[count * 4 // 10 :].write(path.with_name("second.parquet"))


def actions(folder: Path) -> dict[str, list[str]]:
    """Return the commands by name; later ones read files that earlier ones write."""
    clipvg = [sys.executable, "-m", "clipvg", "labels"]
    table = str(folder / "all.parquet")
    parts = [str(folder / f"{name}.parquet") for name in ("first", "second")]
    found = {
        "read parquet": [sys.executable, "-c", READ, table],
        "check": [*clipvg, "check", table],
    }
    found["merge"] = [*clipvg, "merge", *parts, "--out", str(folder / "merged.parquet")]
    for name, file in FILES.items():
        path = str(folder / file)
        found[f"parquet to {name}"] = [*clipvg, "convert", table, path, "--format", name]
        found[f"read {name}"] = [sys.executable, "-c", READ, path]
    chosen = ["--keep", "template>=0.5", "--sort", "template"]
    found["jsonl to parquet, chosen and sorted"] = [
        *clipvg, "convert", str(folder / FILES["jsonl"]), str(folder / "chosen.parquet"), *chosen
    ]  # fmt: skip
    return found


def run(action: str, words: list[str], count: int) -> dict[str, Any]:
    start = time.perf_counter()
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    record = {
        "operator": "labels",
        "case": f"{action}, {count} labels",
        "exit": os.waitstatus_to_exitcode(status),
        "wall_s": round(time.perf_counter() - start, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": round(usage.ru_maxrss / 1024),  # Linux counts in KiB
    }
    print(record, flush=True)
    return record


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--action", default="", help="only actions whose name contains this")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
