"""Read observations from files of any known format, joined by image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import pyarrow as pa

from clipvg.errors import InputError, one_line
from clipvg.pseudo.formats.file import Catalogue, File, Row
from clipvg.pseudo.formats.readers import find_reader
from clipvg.pseudo.observation import UNOBSERVED, Candidate, Observation, by_source
from clipvg.pseudo.observations import ObservationTable
from clipvg.pseudo.plane import box_faults, size_of
from clipvg.pseudo.sources import Preset
from clipvg.runtime.gate import check_file, reading
from clipvg.runtime.parquet import read_parquet

OnError = Literal["raise", "drop"]
_READ = (".json", ".jsonl", ".parquet", ".xml", ".txt", ".pth", ".npy", ".pkl")
_NAMES = ("data.yaml", "dataset.yaml", "classes.txt", "obj.names", "labels.txt")


def read_observations(
    paths: str | Path | Sequence[str | Path],
    *,
    images: str | Path | None = None,
    categories: str | Path | None = None,
    preset: Preset = "default",
    on_error: OnError = "raise",
) -> ObservationTable:
    """Read observations, merging what several files say about an image.

    Args:
        paths: files of any known kind, or folders of them (docs/pseudo-labels.md lists the kinds).
        images: folder that image names are relative to; images are opened if no file gives sizes.
        categories: names of numbered classes and images: a COCO file, classes.txt or data.yaml.
        preset: "published" takes boxes as they are; "default" refuses boxes that are reversed,
            empty or outside the image.
        on_error: raise an error for such a box or a missing image, or drop it; what was dropped is
            listed in ``dropped``.

    Raises:
        InputError: a file cannot be used; the message names file, row and remedy in one line.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    root = None if images is None else Path(images)
    if root is not None and not root.is_dir():
        raise InputError(f"--images {root}: no such folder; name the one that holds the images")
    joined = _Joined(root, preset, on_error)
    for path in map(Path, given):
        members = _members(path)
        catalogue = Catalogue(root, _names_of(path, members, categories))
        for member in members:
            with reading(member, "a file of observations"):
                joined.add(member, _rows(member, catalogue))
    if not joined.entries:
        raise InputError(f"{', '.join(map(str, given))}: no observations in it; check the files")
    with reading(", ".join(map(str, given)), "observations"):
        found = joined.finish()
        return ObservationTable.from_observations(found, images=root, dropped=joined.dropped)


def as_observations(given: str | Path | ObservationTable) -> ObservationTable:
    """Return observations given as a table, or read them from a file."""
    if isinstance(given, ObservationTable):
        return given
    path = Path(given)
    changed = path.stat().st_mtime_ns if path.exists() else 0
    return _read_once(path, changed)


@lru_cache(maxsize=2)
def _read_once(path: Path, changed: int) -> ObservationTable:
    """Read a file once for several measures; a new modification time `changed` reads it again."""
    return read_observations(path)


def _members(path: Path) -> list[Path]:
    if path.is_dir():
        members = sorted(
            one for one in path.rglob("*") if one.suffix.lower() in _READ and one.name not in _NAMES
        )
        if not members:
            raise InputError(
                f"{path}: no files of observations in this folder ({', '.join(_READ)})"
            )
        return members
    return [check_file(path)]


def _names_of(path: Path, members: list[Path], categories: str | Path | None) -> Path | None:
    """Return the file of class names: --categories, else one near YOLO's text files."""
    if categories is not None:
        return Path(categories)
    if members[0].suffix.lower() != ".txt":
        return None
    folder = path if path.is_dir() else path.parent
    places = [place / name for place in (folder, *folder.absolute().parents[:2]) for name in _NAMES]
    return next((place for place in places if place.is_file()), None)


def _rows(path: Path, catalogue: Catalogue) -> Iterator[Row]:
    if path.suffix.lower() != ".parquet":
        file = File(path)
        yield from find_reader(file)(file, catalogue)
        return
    try:
        found = read_parquet(path)
    except pa.ArrowException as error:
        raise InputError(f"{path}: not Parquet ({one_line(error, 80)})") from None
    try:
        table = ObservationTable(found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    for number, observation in enumerate(table):
        yield Row(f"row {number}", observation)


class _Joined:
    """Rows of files, collected by image in order of first appearance."""

    def __init__(self, root: Path | None, preset: Preset, on_error: OnError) -> None:
        self.root = root
        self.entries: dict[str, list[tuple[Path, Row]]] = {}
        self.dropped: tuple[str, ...] = ()
        self._accepts_any = preset == "published"
        self._drops = on_error == "drop"

    def add(self, path: Path, rows: Iterable[Row]) -> None:
        for row in rows:
            self.entries.setdefault(row.observation.image, []).append((path, row))

    def finish(self) -> list[Observation]:
        """Return one checked observation for each image."""
        found, dropped = [], []
        for image, rows in self.entries.items():
            path, first = rows[0]
            if all(UNOBSERVED in row.observation.extra for _, row in rows):
                dropped.append(f"{path}: {first.where}: {first.observation.extra[UNOBSERVED]}")
                continue
            try:
                size = self._size(image, rows)
            except InputError as error:
                dropped.append(self._drop(f"{path}: {first.where}: {error}"))
                continue
            parts = []
            for path, row in rows:
                part = replace(row.observation, width=size[0], height=size[1])
                if not self._accepts_any:
                    part, faults = box_faults(part)
                    dropped += [self._drop(f"{path}: {row.where}: {fault}") for fault in faults]
                parts.append(part)
            found.append(parts[0] if len(parts) == 1 else _join(parts))
        self.dropped = tuple(dropped)
        return found

    def _drop(self, message: str) -> str:
        if not self._drops:
            raise InputError(f"{message}, or pass --on_error drop")
        return message

    def _size(self, image: str, rows: list[tuple[Path, Row]]) -> tuple[int, int]:
        if self.root is not None and not (self.root / image).is_file():
            raise InputError(f"no image {image!r} below {self.root}; check --images")
        sizes = {size: path for path, row in rows if (size := size_of(row.observation))}
        if len(sizes) > 1 and not self._accepts_any:
            said = " and ".join(f"{w} × {h} in {path}" for (w, h), path in sizes.items())
            raise InputError(f"{image!r} is {said}; give all boxes in pixels of one image")
        return next(iter(sizes), None) or Catalogue(self.root).size(image)


def _join(parts: list[Observation]) -> Observation:
    extra: dict[str, object] = {}
    for part in parts:
        extra |= part.extra
    return replace(
        parts[0],
        detections=tuple(one for part in parts for one in part.detections),
        attribute_detections=tuple(one for part in parts for one in part.attribute_detections),
        captions=tuple(one for part in parts for one in part.captions),
        relations=tuple(one for part in parts for one in part.relations),
        candidates=by_source(_candidates(parts)),
        extra=extra,
    )


def _candidates(parts: list[Observation]) -> Iterator[tuple[str, Candidate]]:
    """Yield the candidates of the parts, with detection indices shifted to the joined list."""
    before = 0
    for part in parts:
        for name, made in part.candidates.items():
            for one in made:
                index = one.detection
                yield name, one if index is None else replace(one, detection=before + index)
        before += len(part.detections)
