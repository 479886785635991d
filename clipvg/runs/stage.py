"""Stages of a run, each stored under a hash of what determines it, and the run's processes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from clipvg.errors import InputError
from clipvg.runtime.files import (
    Json,
    atomic_folder,
    digest,
    read_json,
    to_json,
    write_json,
    write_lines,
)

_FILES = "files"  # entry of the record: SHA-256 of each of the stage's other files
_CHECK = "check"  # entry of the record: SHA-256 of the rest of it


@dataclass(frozen=True)
class Workers:
    """This process among those that make one run together; alone by default.

    All processes make the same decisions and read the same stages; only the main one writes.
    """

    is_main: bool = True  # whether this process writes
    wait: Callable[[], object] = lambda: None  # returns when every process has called it

    def see(self, look: Callable[[], bool]) -> bool:
        """Look at the disk, then wait for all, so that no process writes before all have looked."""
        seen = look()
        self.wait()
        return seen

    def write(self, action: Callable[[], object]) -> None:
        """Act in the main process, then wait for all, so that none reads what is not written."""
        if self.is_main:
            action()
        self.wait()


@dataclass(frozen=True)
class Stage:
    """One training, or anything else worth keeping, stored under its key."""

    folder: Path  # ``stages/<key>`` of the run
    workers: Workers  # see `Run`

    @property
    def key(self) -> str:
        """Hash of what determines the stage."""
        return self.folder.name

    @property
    def model_folder(self) -> Path:
        """Folder of the stage's model."""
        return self.folder / "model"

    @property
    def teacher_folder(self) -> Path:
        """Folder of the teacher, the mean of the weights over the training; often missing."""
        return self.folder / "teacher"

    def measuring_folder(self, teacher: bool) -> Path:
        """Return the folder of the model that measures: the teacher if requested and present."""
        is_there = teacher and self.teacher_folder.exists()
        return self.teacher_folder if is_there else self.model_folder

    @property
    def training_folder(self) -> Path:
        """Folder in which a running training may keep its checkpoints."""
        return self.folder / "training"

    @property
    def is_finished(self) -> bool:
        """Whether the stage is complete and need not be made again."""
        return self._record.exists()

    def read(self) -> Json:
        """Return the record of a finished stage."""
        record = read_json(self._record)
        return {name: value for name, value in record.items() if name not in (_FILES, _CHECK)}

    def mend(self) -> Path | None:
        """Restore the record of a finished stage, or its copy, from the other if one is damaged.

        Return the restored file; None if both or neither are intact.
        """
        found = {path: _sound(path) for path in (self._record, self._copy)}
        sound = next(filter(None, found.values()), None)
        damaged = next((path for path, record in found.items() if record is None), None)
        if sound is None or damaged is None:
            return None
        write_json(damaged, sound)
        return damaged

    def damaged(self) -> Path | None:
        """Return the first missing or damaged file of a finished stage; None if all are intact."""
        record = _sound(self._record)
        if record is None:
            return self._record
        files = record.get(_FILES, {})
        paths = {self.folder / name: known for name, known in files.items()}
        return next(
            (p for p, known in paths.items() if not p.is_file() or digest(p) != known), None
        )

    def finish(
        self,
        record: Mapping[str, object],
        save: Callable[[Path], object],
        *,
        metrics: Iterable[Mapping[str, object]] = (),
        save_teacher: Callable[[Path], object] | None = None,
    ) -> Json:
        """Save a stage, its models first and its record last; return the record as `read` does.

        Args:
            record: plain values.
            save: writes the model into the folder it is given.
            save_teacher: the same for the teacher, if there is one.
            metrics: metrics of the training, kept as the stage's own ``metrics.jsonl``.
        """

        def write() -> None:
            fill_folder(self.model_folder, save)
            if save_teacher is not None:
                fill_folder(self.teacher_folder, save_teacher)
            write_lines(self.folder / "metrics.jsonl", metrics)
            self._write({**record, _FILES: self._digests()})
            shutil.rmtree(self.training_folder, ignore_errors=True)

        self.workers.write(write)
        return self.read()

    def add(self, **facts: object) -> None:
        """Add plain values to the record of a finished stage."""
        record = {**read_json(self._record), **facts}
        self.workers.write(lambda: self._write(record))

    def forget(self) -> None:
        """Remove the record, so that the stage is made again."""
        self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self.folder / "stage.json"

    @property
    def _copy(self) -> Path:
        return self.folder / "stage.copy.json"

    def _write(self, record: Mapping[str, object]) -> None:
        """Write the record and a copy, so that losing one small file does not lose a training."""
        content = {**record, _CHECK: _check(record)}
        for path in (self._copy, self._record):  # the record last: with it the stage is finished
            write_json(path, content)

    def _digests(self) -> dict[str, str]:
        folders = (self.model_folder, self.teacher_folder)
        paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        paths.append(self.folder / "metrics.jsonl")
        return {path.relative_to(self.folder).as_posix(): digest(path) for path in paths}

    def adopt(self, record: Mapping[str, object], model: Path) -> None:
        """Finish the stage with a model that another run has trained, unless it is finished."""
        if not self.workers.see(lambda: self.is_finished):
            self.finish(record, partial(shutil.copytree, model, dirs_exist_ok=True))


def _check(record: Mapping[str, object]) -> str:
    """Return the SHA-256 of a record without its own check."""
    rest = {name: value for name, value in record.items() if name != _CHECK}
    return hashlib.sha256(json.dumps(to_json(rest), sort_keys=True).encode()).hexdigest()


def _sound(path: Path) -> Json | None:
    """Return a record if it is intact; None if it is damaged or missing."""
    try:
        record = read_json(path)
    except InputError:
        return None
    return record if record.get(_CHECK) == _check(record) else None


def fill_folder(folder: Path, fill: Callable[[Path], object]) -> None:
    """Write a folder atomically: it appears complete or not at all."""
    with atomic_folder(folder) as new:
        fill(new)
