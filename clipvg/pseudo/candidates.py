"""Arrow tables of candidates, and a store for those of finished shards of images."""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipvg.labels.box_column import BOX
from clipvg.pseudo.observation import Candidate
from clipvg.pseudo.sources import Options, Source
from clipvg.runtime.files import atomic_path

_DRAW = ("per_image", "seed")  # options that affect only the draw


def candidate_table(groups: Iterable[list[Candidate]]) -> pa.Table:
    """Return the candidates of some images as a table; ``row`` is the index of the image."""
    rows: list[int] = []
    found: list[Candidate] = []
    for row, group in enumerate(groups):
        rows += [row] * len(group)
        found += group
    numbers = pa.array([value for one in found for value in one.box], pa.float64())
    return pa.table(
        {
            "row": pa.array(rows, pa.int32()),
            "expression": pa.array([one.expression for one in found], pa.string()),
            "box": pa.FixedSizeListArray.from_arrays(numbers, type=BOX),
            "rule": pa.array([one.rule for one in found], pa.string()),
            "detection": pa.array([one.detection for one in found], pa.int32()),
        }
    )


def group_sizes(table: pa.Table, count: int) -> list[int]:
    """Return the number of candidates of each of `count` images."""
    return np.bincount(table.column("row").to_numpy(), minlength=count).tolist()


class CandidateStore:
    """Store of the candidates of finished shards of images, one file per source and shard.

    Files that other observations or options left in the folder are removed.
    """

    def __init__(self, folder: str | Path, fingerprint: str, options: Options) -> None:
        asked = {name: value for name, value in asdict(options).items() if name not in _DRAW}
        key = hashlib.sha256(f"2 {fingerprint} {asked}".encode()).hexdigest()[:16]
        self._options = options
        folder = Path(folder)
        self._folder = folder / key
        if folder.is_dir():
            for other in folder.iterdir():
                if other.is_dir() and other.name != key and len(other.name) == len(key):
                    shutil.rmtree(other)
        self._folder.mkdir(parents=True, exist_ok=True)

    def find(self, source: Source, start: int) -> pa.Table | None:
        """Return the candidates of a shard, or None if they are missing or damaged."""
        path = self._path(source, start)
        if not path.is_file():
            return None
        try:
            return pq.read_table(path, page_checksum_verification=True)
        except (pa.ArrowException, OSError):
            warnings.warn(f"{path} is damaged; it is made again.", stacklevel=2)
            return None

    def keep(self, source: Source, start: int, table: pa.Table) -> None:
        """Write the candidates of a finished shard."""
        with atomic_path(self._path(source, start)) as temporary:
            pq.write_table(table, temporary, write_page_checksum=True)

    def _path(self, source: Source, start: int) -> Path:
        made_with = source.made_with(self._options)
        tools = hashlib.sha256(made_with.encode()).hexdigest()[:8] if made_with else "plain"
        return self._folder / f"{source.name.replace('/', '_')}-{tools}-{start:09d}.parquet"
