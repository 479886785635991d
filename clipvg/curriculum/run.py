"""Run directory: finished stages are kept under their key, so that a run can be killed and resumed.

There is no state file. A restart makes the same pure decisions again and reads each finished
stage; a stage is finished when its ``stage.json`` exists, which is written last.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.runtime.files import (
    atomic_folder,
    atomic_path,
    remove_leftovers,
    to_json,
    write_json,
    write_lines,
)
from clipvg.runtime.lock import Lock

_DIFFERENCES_SHOWN = 5
# What a finished run has beside its model; the summary vouches for the others, so it goes first.
_OUTCOME = ("summary.json", "selected.parquet", "corrections.parquet", "held_out.parquet")
_RESULTS = ("checkpoint.pt", "stage.json")  # of a training that is going on, of a finished one


@dataclass(frozen=True)
class Workers:
    """This process among those that make one run together; alone by default.

    All of them make the same decisions and read the same stages; the main one writes.

    Attributes:
        is_main: whether this process writes.
        wait: returns when every process has called it.
    """

    is_main: bool = True
    wait: Callable[[], Any] = lambda: None

    def write(self, action: Callable[[], Any]) -> None:
        """Act on the main process, then wait for all: nobody reads what is not written yet."""
        if self.is_main:
            action()
        self.wait()


class Run:
    """A run directory, opened and locked.

    It holds ``config.yaml``, ``labels.parquet``, ``scores/``, ``stages/<key>/``, ``model/``,
    ``selected.parquet``, ``metrics.jsonl`` and ``summary.json``.

    Args:
        folder: made when missing.
        config: resolved options that decide the result, plain values.
        labels: training labels.
        validation: labels that decisions are made on, where given.
        workers: this process among several that make the same run together, as under ``torchrun``.
        further: options that add stages and change none, such as `Beyond`. They are recorded and
            may be others when the run is opened again.

    Raises:
        InputError: the folder holds a run with another configuration or other labels, or another
            process is using it.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        config: Mapping[str, Any],
        labels: LabelTable,
        validation: LabelTable | None = None,
        workers: Workers | None = None,
        further: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.workers = Path(folder), workers or Workers()
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; choose another --out for the run.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config: dict[str, Any] = {
            "config": to_json(config),
            "labels": _describe(labels),
            "validation": None if validation is None else _describe(validation),
        }
        self._further = to_json({"further": further} if further else {})
        self._metrics: list[dict[str, Any]] = []
        self._is_new = False
        self._lock = Lock(self.folder) if self.workers.is_main else None
        try:
            self.write(lambda: self._check_or_write(labels))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Run:
        """Return the run; it stays locked until the block ends."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Release the run; input refused before anything was trained leaves no run behind."""
        if self._is_new and kind is not None and issubclass(kind, InputError):
            if not any(next(self.folder.rglob(name), None) for name in _RESULTS):
                (self.folder / "config.yaml").unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let other processes use the directory."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def model_folder(self) -> Path:
        """Where the resulting model is."""
        return self.folder / "model"

    def stage(self, **facts: Any) -> Stage:
        """Return the stage that these facts and the configuration decide."""
        text = json.dumps({"run": self.config, "stage": to_json(facts)}, sort_keys=True)
        return self.stage_of_key(hashlib.sha256(text.encode()).hexdigest()[:16])

    def stage_of_key(self, key: str) -> Stage:
        """Return the stage under a key."""
        return Stage(self.folder / "stages" / key, self.workers)

    def write(self, action: Callable[[], Any]) -> None:
        """Let the main process write, and every process wait until it has."""
        self.workers.write(action)

    def scores_path(self, key: str) -> Path:
        """Return where the scores given by a stage's model are kept."""
        return self.folder / "scores" / f"{key}.parquet"

    def record(self, **metrics: Any) -> None:
        """Add a line to ``metrics.jsonl``.

        The file is written anew from the lines recorded in this process: a resumed run records
        its finished stages again, so no line is lost or doubled.
        """
        self._metrics.append(to_json(metrics))
        self.write(lambda: write_lines(self.folder / "metrics.jsonl", self._metrics))

    def finish(
        self, summary: Mapping[str, Any], model: Path, tables: Mapping[str, LabelTable]
    ) -> None:
        """Copy a stage's model to ``model/``, write tables by file name, then ``summary.json``.

        What an earlier command left there goes before, so that a kill leaves no mixture.
        """

        def copy_model() -> None:
            with atomic_folder(self.model_folder) as new:
                _copy(model, new)

        self.write(self._forget_outcome)
        self.write(copy_model)
        for name, labels in tables.items():
            self.write(partial(labels.write, self.folder / name))
        self.write(lambda: write_json(self.folder / "summary.json", summary))

    def _forget_outcome(self) -> None:
        for name in _OUTCOME:
            (self.folder / name).unlink(missing_ok=True)

    def _check_or_write(self, labels: LabelTable) -> None:
        path = self.folder / "config.yaml"
        there: dict[str, Any] = {}
        if path.exists():
            there = yaml.safe_load(path.read_text()) or {}
            same = {key: value for key, value in there.items() if key != "further"}
            differences = _differences(same, self.config)
            if differences:
                more = len(differences) - _DIFFERENCES_SHOWN
                shown = "; ".join(differences[:_DIFFERENCES_SHOWN])
                raise InputError(
                    f"{self.folder} holds a run made otherwise: {shown}"
                    f"{f'; and {more} more' if more > 0 else ''}. Choose another --out, or the "
                    "same options and labels to resume it."
                )
        remove_leftovers(self.folder)
        labels.write(self.folder / "labels.parquet")
        self._is_new = not path.exists()
        if there != {**self.config, **self._further}:
            with atomic_path(path) as temporary:
                text = yaml.safe_dump({**self.config, **self._further}, sort_keys=False)
                temporary.write_text(text)


@dataclass(frozen=True)
class Stage:
    """One training, or anything else worth keeping, under its key.

    Attributes:
        folder: ``stages/<key>`` of the run.
        workers: see `Run`.
    """

    folder: Path
    workers: Workers

    @property
    def key(self) -> str:
        """Hash of what decides the stage."""
        return self.folder.name

    @property
    def model_folder(self) -> Path:
        """Where the stage's model is."""
        return self.folder / "model"

    @property
    def teacher_folder(self) -> Path:
        """Where the mean of the model's weights over its training is; often there is none."""
        return self.folder / "teacher"

    @property
    def training_folder(self) -> Path:
        """Where a training that is going on may keep its checkpoints."""
        return self.folder / "training"

    @property
    def is_finished(self) -> bool:
        """Whether the stage needs not be done again."""
        return (self.folder / "stage.json").exists()

    def read(self) -> dict[str, Any]:
        """Return the record of a finished stage."""
        record: dict[str, Any] = json.loads((self.folder / "stage.json").read_text())
        return record

    def finish(
        self,
        record: Mapping[str, Any],
        save: Callable[[Path], Any],
        *,
        metrics: Iterable[Mapping[str, Any]] = (),
        save_teacher: Callable[[Path], Any] | None = None,
    ) -> dict[str, Any]:
        """Keep a stage: its models first, its record last.

        Args:
            record: plain values.
            save: writes the model into the folder it is given.
            save_teacher: the same for the teacher, where there is one.
            metrics: of the training, kept as the stage's own ``metrics.jsonl``.

        Returns:
            The record as `read` gives it.
        """

        def write() -> None:
            for folder, save_into in (
                (self.model_folder, save),
                (self.teacher_folder, save_teacher),
            ):
                if save_into is not None:
                    with atomic_folder(folder) as new:
                        save_into(new)
            write_lines(self.folder / "metrics.jsonl", metrics)
            write_json(self.folder / "stage.json", record)
            shutil.rmtree(self.training_folder, ignore_errors=True)

        self.workers.write(write)
        return self.read()

    def add(self, **facts: Any) -> None:
        """Add plain values to the record of a finished stage."""
        record = {**self.read(), **facts}
        self.workers.write(lambda: write_json(self.folder / "stage.json", record))

    def adopt(self, record: Mapping[str, Any], model: Path) -> None:
        """Finish the stage with a model that another run has trained, unless it is finished."""
        is_finished = self.is_finished
        self.workers.wait()  # all have looked before one writes
        if not is_finished:
            self.finish(record, lambda folder: _copy(model, folder))


def _copy(model: Path, folder: Path) -> None:
    shutil.copytree(model, folder, dirs_exist_ok=True)


def _describe(labels: LabelTable) -> dict[str, Any]:
    return {
        "count": len(labels),
        "images": labels.num_images,
        "sources": sorted(set(labels.sources())),
        "fingerprint": labels.fingerprint(),
    }


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat.update(_flat(item, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    old, new = _flat(there), _flat(now)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [
        f"{key.removeprefix('config.')} is {_short(old.get(key))} there, {_short(new.get(key))} now"
        for key in keys
    ]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 24 else text[:12] + "…'"
