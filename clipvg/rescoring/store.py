"""ScoreStore: scores of finished shards on disk, keyed by everything that they depend on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from clipvg.errors import InputError
from clipvg.features.keys import image_key, text_key
from clipvg.labels.schema import RELIABILITY
from clipvg.labels.scores import REASON, read_reasons, read_scores, score_columns
from clipvg.model import GroundingModel
from clipvg.model.backbone import digest_weights
from clipvg.rescoring.config import EngineConfig
from clipvg.rescoring.plan import SCORES_VERSION
from clipvg.runtime import distributed
from clipvg.runtime.files import atomic_path, new_folder, read_json
from clipvg.runtime.lock import Lock

_MEASURERS = "measurers.json"
_STOP = ".stop"


@dataclasses.dataclass(frozen=True)
class StoredShard:
    """Scores of a shard, as a store keeps them."""

    # measurer key -> (R,) float32 reliability, NaN where the image cannot be read
    scores: dict[str, np.ndarray]
    reasons: dict[int, str]  # position among the R labels -> why it is not scored


class ScoreStore:
    """A folder with the scores of finished shards.

    ``SET/SHARD.parquet`` holds the scores of one shard of images by the measurers that scored it
    in one pass; ``SET/measurers.json`` says which these are. SHARD is the key from `ShardKeys`, SET
    a hash of the measurers' keys (`measurer_key`). Files appear complete or not at all. Files that
    cannot be read count as missing; other files are left alone.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; choose another --store for the scores.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.asked = 0  # number of scores, labels by measurers, that were looked for
        self.found = 0  # how many of them were here already
        self.damaged: list[Path] = []  # files that could not be read and were scored anew

    def clean(self) -> None:
        """Remove what a killed process left behind; the caller must hold the folder's lock."""
        for path in [*self.folder.glob("*/.*.tmp.parquet"), self.folder / _STOP]:
            path.unlink(missing_ok=True)

    def stop(self) -> None:
        """Ask the other processes of the job to stop after their shard."""
        (self.folder / _STOP).touch()

    @property
    def is_stopped(self) -> bool:
        """Whether another process of the job asked to stop."""
        return (self.folder / _STOP).exists()

    def sets(self, keys: Sequence[str]) -> dict[Path, list[str]]:
        """Return folders with scores by any of the measurers, those with most of them first."""
        found = {}
        for path in sorted(self.folder.glob(f"*/{_MEASURERS}")):
            there = _held(path.parent)
            if held := [key for key in keys if key in there]:
                found[path.parent] = held
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))

    def read(self, shard: str, sets: Mapping[Path, Sequence[str]], num_labels: int) -> StoredShard:
        """Read the scores of a shard; a measurer is taken from the first set that has it."""
        scores: dict[str, np.ndarray] = {}
        reasons: dict[int, str] = {}
        for folder, held in sets.items():
            new = [key for key in held if key not in scores]
            path = folder / f"{shard}.parquet"
            if not new or not path.exists():
                continue
            table = _read(path, num_labels, held)
            if table is None:
                self.damaged.append(path)
                continue
            there = read_scores(table)
            scores |= {key: there[key] for key in new}
            reasons |= read_reasons(table)
        return StoredShard(scores, reasons)

    def write(self, shard: str, found: StoredShard, names: Sequence[str] = ()) -> None:
        """Write the scores of a shard by all measurers of one pass, atomically.

        The names are for people who look into the folder.
        """
        keys = sorted(found.scores)
        folder = self.folder / _set_name(keys)
        if not _held(folder):
            with atomic_path(folder / _MEASURERS) as temporary:
                called = dict(zip(found.scores, names or found.scores, strict=True))
                temporary.write_text(json.dumps({key: called[key] for key in keys}, indent=1))
        columns = score_columns({key: found.scores[key] for key in keys}, found.reasons)
        with atomic_path(folder / f"{shard}.parquet") as temporary:
            pq.write_table(
                pa.table(columns), temporary, compression="zstd", write_page_checksum=True
            )


@contextmanager
def open_store(
    folder: str | Path, device: torch.device, *, output: Path | None = None
) -> Iterator[ScoreStore]:
    """Open a store for one job: one process, or those that `torchrun` started together.

    Its folder is made when missing, and so is that of `output`, a file that this job writes. Both
    are locked: no other job may use them meanwhile.
    """
    world = distributed.join(device)
    with ExitStack() as opened:

        def open_all() -> None:
            if world.is_main and output is not None:
                opened.enter_context(new_folder(output.parent))
                opened.enter_context(Lock(output))
            if world.is_main and not Path(folder).is_file():
                opened.enter_context(new_folder(Path(folder)))
                opened.enter_context(Lock(Path(folder), "--store"))

        distributed.together(open_all, world)
        yield ScoreStore(folder)


def distinct_models(
    models: Mapping[str, GroundingModel], config: EngineConfig, device: torch.device
) -> tuple[dict[str, tuple[str, GroundingModel]], dict[str, list[int]]]:
    """Group models of equal weights and rules, which are scored once.

    Returns the name and model of each key, sorted by key whatever order the models come in (the
    bytes of a pass may depend on it), and the positions of each key's models among those given.
    """
    distinct: dict[str, tuple[str, GroundingModel]] = {}
    places: dict[str, list[int]] = {}
    for i, (name, model) in enumerate(models.items()):
        key = measurer_key(model, config, device)
        distinct.setdefault(key, (name, model))
        places.setdefault(key, []).append(i)
    return {key: distinct[key] for key in sorted(distinct)}, places


def measurer_key(model: GroundingModel, config: EngineConfig, device: torch.device) -> str:
    """Return a hash of everything that a measurer's scores depend on.

    That is all weights, the rules for images, boxes and text, and how the engine runs: kind of
    device, precision, batches. Its name and the sources it was trained on are not included.
    """
    run = dataclasses.asdict(config)
    run["precision"] = config.resolved_precision(device)
    del run["workers"]  # threads that decode
    for name in ("answers", "similarity"):  # defaults are left out: earlier scores keep their keys
        if run[name] == getattr(EngineConfig, name):
            del run[name]
    facts = [
        SCORES_VERSION,
        [image_key(model), text_key(model), model.preset.integer_boxes],
        model.config.heads,  # the one option of the head that its weights do not show
        device.type,
        run,
    ]
    weights = model.state_dict().items()
    own = [(k, v) for k, v in weights if not k.startswith("backbone.")]
    return digest_weights(own, facts)[:32]


def _held(folder: Path) -> list[str]:
    """Return the keys of the measurers of a folder; none if it is not a set of a store."""
    try:
        keys = list(read_json(folder / _MEASURERS))
    except (ValueError, OSError):
        return []
    return keys if all(isinstance(k, str) for k in keys) and _set_name(keys) == folder.name else []


def _set_name(keys: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(sorted(keys)).encode()).hexdigest()[:16]


def _read(path: Path, num_labels: int, keys: Sequence[str]) -> pa.Table | None:
    """Return the table of a file; None if it is damaged or holds something else."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except (pa.ArrowException, OSError):
        return None
    types = {name: table.schema.field(name).type for name in table.column_names}
    fits = all(types.get(RELIABILITY + key) == pa.float32() for key in keys)
    fits = fits and types.get(REASON, pa.string()) == pa.string()
    return table if fits and table.num_rows == num_labels else None
