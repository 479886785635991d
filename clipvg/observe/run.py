"""Turn a folder of images into a file of observations, storing finished shards to resume from."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from clipvg.data.image import decode, read_image
from clipvg.errors import InputError
from clipvg.observe.looking import Models, unobserved
from clipvg.observe.options import ObserveOptions
from clipvg.pseudo.formats.file import IMAGES
from clipvg.pseudo.observation import UNOBSERVED, Observation
from clipvg.pseudo.observations import SCHEMA, ObservationTable
from clipvg.runtime.files import atomic_path, new_folder, remove_leftovers
from clipvg.runtime.lock import Lock
from clipvg.runtime.progress import progress_bar

SHARD = 64  # images per shard
VERSION = 1  # to be raised when the same models give other results for the same images

Batch = tuple[int, list[str]]  # index of a shard, and names of some of its images


@dataclass(frozen=True)
class Observed:
    """Result of `observe`.

    Attributes:
        table: one row per image, including those that could not be processed.
        found: number of images that an earlier call had finished.
    """

    table: ObservationTable
    found: int

    @property
    def reasons(self) -> Counter[str]:
        """Reasons why images could not be processed, each naming its image, with their counts."""
        extra = (one.extra for one in self.table)
        return Counter(str(each[UNOBSERVED]) for each in extra if UNOBSERVED in each)


def observe(
    images: str | Path,
    out: str | Path,
    *,
    options: ObserveOptions,
    store: str | Path | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Observed:
    """Run models on the images of a folder, and write their observations to a file.

    An interrupted call can be repeated and resumes with the same result, and images added since are
    processed then: results are stored in shards of 64 images, under the models, the options, and
    the images' names, sizes and modification times.

    Args:
        images: folder; files below it with an image extension are processed, in order of name.
        out: .jsonl or .parquet file.
        options: the models and their prompts.
        store: folder for finished shards; None is ``out`` with the extension .observed.
        device: where the models run.
        progress: show a progress bar.

    Raises:
        MissingExtraError: transformers is not installed.
        InputError: a model, folder or file cannot be used, or no image can be processed.
    """
    out, root = Path(out), Path(images)
    folder = Path(store) if store else default_store(out)
    names = list_images(root)
    with ExitStack() as opened:
        for made, locked, option in ((out.parent, out, "--out"), (folder, folder, "--store")):
            opened.enter_context(new_folder(made))
            opened.enter_context(Lock(locked, option))
        remove_leftovers(folder)
        models = Models(options, torch.device(device))
        work = _Work(root, names, models, folder)
        found = sum(len(work.shards[number]) for number in work.finished)
        work.run(progress=progress)
        table = ObservationTable(work.table(), root)
        observed = Observed(table, found)
        if observed.reasons.total() == len(names):
            raise InputError(f"no image could be looked at: {next(iter(observed.reasons))}")
        table.write(out)
    return observed


def default_store(out: Path) -> Path:
    """Return the default folder for finished shards."""
    return out.with_suffix(".observed")


def list_images(root: Path) -> list[str]:
    """Return the sorted names of the images below a folder, with / between folders.

    Raises:
        InputError: there is no such folder, or no image in it.
    """
    if not root.is_dir():
        raise InputError(f"--images {root}: no such folder; name the one that holds the images")
    found = (path for path in root.rglob("*") if path.suffix.lower() in IMAGES)
    names = (path.relative_to(root).as_posix() for path in found if path.is_file())
    kept = sorted(name for name in names if not name.rpartition("/")[2].startswith("."))
    if not kept:
        raise InputError(f"--images {root}: no images in it ({', '.join(IMAGES)})")
    return kept


class _Work:
    """Shards of images, finished and to be processed."""

    def __init__(self, root: Path, names: list[str], models: Models, folder: Path) -> None:
        self.root, self.models = root, models
        self.readable = 0  # number of images given to the models
        self.refused: list[str] = []  # why the models failed on some
        self.shards = [names[start : start + SHARD] for start in range(0, len(names), SHARD)]
        self.folder = folder / _digest([VERSION, _asked(models.options), models.identity])
        self.paths = [self.folder / f"{self._key(shard)}.parquet" for shard in self.shards]
        self.finished = {
            number: table
            for number, path in enumerate(self.paths)
            if (table := _read(path, self.shards[number])) is not None
        }

    def run(self, *, progress: bool) -> None:
        """Process the unfinished shards, and store each one when it is finished."""
        total = sum(map(len, self.shards))
        done = sum(len(self.shards[number]) for number in self.finished)
        seen: list[Observation] = []
        bar = progress_bar(total, desc="observe", unit="image", show=progress, initial=done)
        files = ((batch, [self.root / name for name in batch[1]]) for batch in self._batches())
        with bar, closing(decode(files, read_image)) as decoded:
            for (number, names), images in decoded:
                seen += self._look(names, images)
                bar.update(len(names))
                if len(seen) == len(self.shards[number]):
                    self._check_models()
                    self._keep(number, seen)
                    seen = []

    def table(self) -> pa.Table:
        """Return the observations of all images, in order."""
        tables = [self.finished[number] for number in range(len(self.shards))]
        return pa.concat_tables(tables).combine_chunks()  # same bytes, resumed or not

    def _batches(self) -> Iterator[Batch]:
        size = self.models.options.batch_size
        for number, shard in enumerate(self.shards):
            if number not in self.finished:
                for start in range(0, len(shard), size):
                    yield number, shard[start : start + size]

    def _look(
        self, names: list[str], images: Sequence[Image.Image | InputError]
    ) -> list[Observation]:
        """Return one observation per image, in order; an unreadable image gets the reason."""
        readable = [
            (n, i) for n, i in zip(names, images, strict=True) if not isinstance(i, InputError)
        ]
        looked = self.models.look(*map(list, zip(*readable, strict=True))) if readable else []
        self.refused += [str(one.extra[UNOBSERVED]) for one in looked if UNOBSERVED in one.extra]
        self.readable += len(looked)
        seen = iter(looked)
        return [
            unobserved(name, str(image)) if isinstance(image, InputError) else next(seen)
            for name, image in zip(names, images, strict=True)
        ]

    def _check_models(self) -> None:
        """Stop if the models failed on all images so far: they would fail on the others too."""
        if self.refused and len(self.refused) == self.readable:
            raise InputError(
                f"the models looked at none of the first {self.readable} images: {self.refused[0]}"
            )

    def _keep(self, number: int, seen: list[Observation]) -> None:
        table = ObservationTable.from_observations(seen).table
        with atomic_path(self.paths[number]) as temporary:
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        self.finished[number] = table

    def _key(self, shard: list[str]) -> str:
        facts = []
        for name in shard:
            status = os.stat(self.root / name)
            facts.append([name, status.st_size, status.st_mtime_ns])
        return _digest(facts)


def _read(path: Path, names: list[str]) -> pa.Table | None:
    """Return a finished shard; None if it is missing, damaged or of other images."""
    if not path.is_file():
        return None
    try:
        read = pq.read_table(path, page_checksum_verification=True)
        table = ObservationTable(read).table.cast(SCHEMA)  # Parquet renames list items
    except (pa.ArrowException, OSError, InputError):
        warnings.warn(f"{path} is damaged; its images are looked at again.", stacklevel=2)
        return None
    return table if table.column("image").to_pylist() == names else None


def _asked(options: ObserveOptions) -> dict[str, object]:
    """Return the options other than the models, whose identity is recorded separately."""
    named = {"detector", "open_detector", "captioner", "describer", "backbone", "pretrained"}
    return {name: value for name, value in asdict(options).items() if name not in named}


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
