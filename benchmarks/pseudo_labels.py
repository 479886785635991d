"""Measure how many images per second one core turns into pseudo-labels, including reading.

python benchmarks/pseudo_labels.py DETECTIONS.json INSTANCES.json --images DIR --json FILE

The detections are repeated under new image names until there are `--repeat` times as many images,
and written as native JSON Lines; one process reads them and generates labels. Times are CPU times,
the best of `--runs`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import _harness

from clipvg import generate, read_observations
from clipvg.pseudo import ObservationTable, Options
from clipvg.pseudo.sources import load_source


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    args = parse(arguments)
    seen = read_observations(args.detections, images=args.images, categories=args.categories)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "repeated.jsonl"
        repeated(seen, args.repeat).write(path)
        records = [run(path, source, args) for source in args.sources]
    if args.json:
        _harness.write(args.json, records, "cpu")
    return records


def repeated(seen: ObservationTable, times: int) -> ObservationTable:
    return ObservationTable.from_observations(
        replace(one, image=f"{i}/{one.image}") for i in range(times) for one in seen
    )


def run(path: Path, source: str, args: argparse.Namespace) -> dict[str, Any]:
    options = Options(min_score=args.min_score)
    load_source(source, options.preset)  # so that its import is not timed
    reading, observations = best(lambda: read_observations(path), args.runs)
    generating, labels = best(lambda: generate(observations, [source], options=options), args.runs)
    images = len(observations)
    record = {
        "operator": "pseudo_labels",
        "case": f"{source}, {images} images, min_score {args.min_score}",
        "images": images,
        "detections": sum(len(one.detections) for one in observations),
        "labels": len(labels),
        "read_s": round(reading, 3),
        "generate_s": round(generating, 3),
        "images_per_s": round(images / (reading + generating)),
    }
    print(record, flush=True)
    return record


def best(function: Callable[[], Any], runs: int) -> tuple[float, Any]:
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        result = function()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("detections", type=Path)
    parser.add_argument("categories", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--sources", nargs="+", default=["template", "relation"])
    parser.add_argument("--min_score", type=float, default=0.4)
    parser.add_argument("--repeat", type=int, default=40)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
