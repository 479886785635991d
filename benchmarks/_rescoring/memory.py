"""Measure peak memory of scoring for growing numbers of labels, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from _rescoring.workload import Workload, make_table

if TYPE_CHECKING:
    from _rescoring.measure import Save

COUNTS = (1_000, 3_000, 10_000, 30_000, 100_000)
EXPRESSIONS, SIZE, MEASURERS = 8, (160, 120), 3
HEAD = {"width": 64, "layers": 2, "heads": 4, "feedforward": 128}  # as in the recipe `scenes`


def run_memory(counts: tuple[int, ...], save: Save) -> list[dict[str, Any]]:
    """Return a record per number of labels: peak memory, and its growth during scoring."""
    records = []
    with TemporaryDirectory() as folder:
        pictures = Path(folder) / "images"
        pictures.mkdir()
        images = -(-counts[-1] // EXPRESSIONS)
        labels = make_table(pictures, Workload(images, EXPRESSIONS, SIZE))
        for count in counts:
            file = Path(folder) / f"{count}.parquet"
            labels.select(np.arange(count)).write(file)
            code = [sys.executable, "-m", "_rescoring.memory", str(file), str(pictures)]
            paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
            answer = subprocess.run(code, stdout=subprocess.PIPE, check=True, env=environment)
            record = json.loads(answer.stdout)
            records.append(record)
            print(
                f"{record['labels']:7d} labels: peak {record['peak_rss_mib']:.0f} MiB, "
                f"{record['growth_mib']:.1f} MiB above the process with labels and models",
                flush=True,
            )
            save(records)
    return records


def _child(file: str, pictures: str) -> dict[str, Any]:
    """Score the labels of a file; return memory and time."""
    from _rescoring.measure import score
    from _rescoring.measurers import make_measurers
    from _rescoring.peak import peak_memory, peak_resident, resident, settled
    from clipvg.labels import read_labels
    from clipvg.rescoring import Engine

    models = make_measurers(MEASURERS, "clipvg-tiny", "default", own_positions=False, **HEAD)
    labels = read_labels(file, images=pictures)
    labels.distinct_images()
    before = resident()
    with peak_memory("cpu") as peak:
        engine = Engine(models)
        scores = score(engine, labels)
    return {
        "labels": len(labels),
        "before_mib": before / 2**20,
        "peak_rss_mib": peak_resident() / 2**20,
        "growth_mib": peak.mib,
        "settled_mib": settled() / 2**20,
        "score_columns_mib": scores.nbytes / 2**20,
        "seconds": sum(engine.stats.seconds.values()),
    }


if __name__ == "__main__":
    print(json.dumps(_child(*sys.argv[1:])))
