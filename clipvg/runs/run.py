"""Run directory: finished stages are kept under their key, so that a run can be killed and resumed.

There is no state file. A restart makes the same pure decisions again and reads each finished
stage; a stage is finished when its ``stage.json`` exists, which is written last.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import yaml

from clipvg.errors import InputError
from clipvg.labels import LabelTable
from clipvg.runs.record import describe_labels, differences
from clipvg.runs.stage import Stage, Workers, fill_folder
from clipvg.runtime.files import (
    GONE,
    Json,
    atomic_path,
    new_folder,
    read_json,
    remove_leftovers,
    to_json,
    write_json,
    write_lines,
)
from clipvg.runtime.gate import check_local
from clipvg.runtime.lock import Lock

Made = TypeVar("Made")
_DIFFERENCES_SHOWN = 5
# Files of a finished run beside its model; the summary vouches for them, so it is removed first.
_OUTCOME = ("summary.json", "selected.parquet", "corrections.parquet", "held_out.parquet")
CONFIG = "config.yaml"
_RESULTS = ("checkpoint.pt", "stage.json")  # of a running training, of a finished one
# Files that a run overwrites, and files that only the folder of a run has.
_WRITTEN = ("labels.parquet", "metrics.jsonl", "model", *_OUTCOME)
_MARKS = (CONFIG, "stages", "checkpoint.pt")


class Run:
    """A run directory, opened and locked.

    It holds ``config.yaml``, ``labels.parquet``, ``scores/``, ``stages/<key>/``, ``model/``,
    ``selected.parquet``, ``metrics.jsonl`` and ``summary.json``.

    Args:
        folder: created if missing.
        config: resolved options that determine the result, plain values.
        labels: training labels.
        validation: labels that decisions are based on, if given.
        workers: this process among several that make the same run together, as under ``torchrun``.
        further: options that add stages but change none, such as `Beyond`. They are recorded and
            may differ when the run is opened again.

    Raises:
        InputError: the folder is a file, holds a run with another configuration or other labels,
            holds files of no run that would be overwritten, or is in use by another process.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        config: Mapping[str, object],
        labels: LabelTable,
        validation: LabelTable | None = None,
        workers: Workers | None = None,
        further: Mapping[str, object] | None = None,
    ) -> None:
        self.folder, self.workers = check_local(folder), workers or Workers()
        self.labels, self.validation = labels, validation
        self.command: str | None = None  # command line, for the summary
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; choose another --out for the run.")
        self.config: Json = {
            "config": to_json(config),
            "labels": describe_labels(labels),
            "validation": None if validation is None else describe_labels(validation),
        }
        self._further = to_json({"further": further} if further else {})
        self._metrics: list[Json] = []
        self._is_new = False
        self._opened = ExitStack()
        try:
            if self.workers.is_main:
                self._opened.enter_context(new_folder(self.folder))
                self._opened.enter_context(Lock(self.folder))
            self.workers.write(self._check_or_write)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def __enter__(self) -> Run:
        """Return the run; it stays locked until the block ends."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the run; if its input was refused before any training, remove what it wrote."""
        is_refused = self._is_new and kind is not None and issubclass(kind, InputError)
        if is_refused and not any(next(self.folder.rglob(name), None) for name in _RESULTS):
            for name in (CONFIG, "labels.parquet"):
                (self.folder / name).unlink(missing_ok=True)
        self._opened.__exit__(kind, error, trace)

    def close(self) -> None:
        """Release the directory for other processes."""
        self._opened.close()

    def state(self) -> str:
        """Describe what an earlier command has left here; "" for a new run."""
        if self._is_new:
            return ""
        with suppress(FileNotFoundError):
            return f"{self.folder}: finished{_when(self.folder / 'summary.json')}"
        done = sum(1 for _ in self.folder.glob("stages/*/stage.json"))
        begun = next(self.folder.rglob("checkpoint.pt"), None)
        if not (done or begun):
            return f"{self.folder}: begins again; nothing is finished yet"
        stages = f" with {done} finished training{'s' * (done != 1)}" if done else ""
        return f"{self.folder}: resumes{stages}{' and a checkpoint' * bool(begun)}"

    @property
    def model_folder(self) -> Path:
        """Folder of the resulting model."""
        return self.folder / "model"

    def stage(self, **facts: object) -> Stage:
        """Return the stage whose key is the hash of these facts and the configuration."""
        text = json.dumps({"run": self.config, "stage": to_json(facts)}, sort_keys=True)
        return self.stage_of_key(hashlib.sha256(text.encode()).hexdigest()[:16])

    def stage_of_key(self, key: str) -> Stage:
        """Return the stage under a key."""
        return Stage(self.folder / "stages" / key, self.workers)

    def write(self, action: Callable[[], object]) -> None:
        """Let the main process write, and all processes wait until it has.

        Raises:
            InputError: the directory was removed in the meantime; writing would restore only a
                part of it.
        """

        def write() -> None:
            if not (self.folder / CONFIG).exists():
                raise InputError(f"{self.folder} {GONE}")
            action()

        self.workers.write(write)

    def once(
        self,
        path: Path,
        make: Callable[[], Made],
        write: Callable[[Made, Path], object],
        read: Callable[[Path], Made],
    ) -> Made:
        """Read a file of the run; if it does not exist yet, make its content and write it first.

        A damaged file, for which ``read`` raises `InputError`, is reported and made again.
        """
        found: list[Made] = []
        try:
            if path.exists():
                found.append(read(path))
        except InputError:
            warnings.warn(f"{path} is damaged; it is made again.", stacklevel=2)
        self.workers.wait()  # no process writes before all have looked
        if found:
            return found[0]
        made = make()
        self.write(lambda: write(made, path))
        return read(path)

    def scores_path(self, key: str) -> Path:
        """Return the path of the scores that are stored under a key."""
        return self.folder / "scores" / f"{key}.parquet"

    def record(self, **metrics: object) -> None:
        """Add a line to ``metrics.jsonl``.

        The file is rewritten from the lines recorded in this process: a resumed run records its
        finished stages again, so no line is lost or duplicated.
        """
        self._metrics.append(to_json(metrics))
        self.write(lambda: write_lines(self.folder / "metrics.jsonl", self._metrics))

    def finish(
        self, summary: Mapping[str, object], model: Path, tables: Mapping[str, LabelTable]
    ) -> None:
        """Copy a stage's model to ``model/``, write tables by file name, then ``summary.json``.

        The summary and tables of an earlier command are removed first, so that a kill leaves no
        mixture.
        """
        self.write(self._forget_outcome)
        copy = partial(shutil.copytree, model, dirs_exist_ok=True)
        self.write(lambda: fill_folder(self.model_folder, copy))
        for name, labels in tables.items():
            self.write(partial(labels.write, self.folder / name))
        self.write(lambda: write_json(self.folder / "summary.json", summary))

    def _forget_outcome(self) -> None:
        for name in _OUTCOME:
            (self.folder / name).unlink(missing_ok=True)

    def _check_or_write(self) -> None:
        path = self.folder / CONFIG
        there: Json = {}
        if _holds_demo(self.folder):
            raise InputError(f"{self.folder} holds a demo; choose another --out for the run.")
        if path.exists():
            there = _read_config(path)
            same = {key: value for key, value in there.items() if key != "further"}
            others = differences(same, self.config)
            if others:
                more = len(others) - _DIFFERENCES_SHOWN
                shown = "; ".join(others[:_DIFFERENCES_SHOWN])
                raise InputError(
                    f"{self.folder} holds a run with other options or labels: {shown}"
                    f"{f'; and {more} more' if more > 0 else ''}. Choose another --out, or the "
                    "same options and labels to resume it."
                )
        self._refuse_strangers()
        remove_leftovers(self.folder)
        self._forget_damaged()
        self._is_new = not path.exists()
        written = {**self.config, **self._further}
        if there != written:
            with atomic_path(path) as temporary:
                temporary.write_text(yaml.safe_dump(written, sort_keys=False, explicit_end=True))
        # After config.yaml, which marks the folder as that of a run.
        self.labels.write(self.folder / "labels.parquet")

    def _refuse_strangers(self) -> None:
        """Refuse a folder that is no run but holds files that a run would overwrite."""
        if any((self.folder / name).exists() for name in _MARKS):
            return
        for name in _WRITTEN:
            if (self.folder / name).exists():
                raise InputError(
                    f"{self.folder / name} already exists and belongs to no run; choose another "
                    "--out, or move it away."
                )

    def _forget_damaged(self) -> None:
        """Mend damaged records of stages; stages with other damaged files are made again."""
        for record in sorted(self.folder.glob("stages/*/stage.json")):
            stage = self.stage_of_key(record.parent.name)
            if mended := stage.mend():
                warnings.warn(f"{mended} was damaged; it is written again.", stacklevel=2)
            if damaged := stage.damaged():
                warnings.warn(f"{damaged} is damaged; its stage is made again.", stacklevel=2)
                stage.forget()


def _when(path: Path) -> str:
    """Describe when a file was written; "" if its time is not a valid date."""
    changed = path.stat().st_mtime
    with suppress(OSError, OverflowError, ValueError):  # the clock may have been wrong
        return time.strftime(" on %Y-%m-%d at %H:%M", time.localtime(changed))
    return ""


def _holds_demo(folder: Path) -> bool:
    with suppress(InputError):  # a damaged summary will be rewritten
        return read_json(folder / "summary.json").get("method") == "demo"
    return False


def _read_config(path: Path) -> Json:
    """Return the content of ``config.yaml``; its last line shows that it is complete."""
    with suppress(yaml.YAMLError, UnicodeDecodeError):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""  # a pipe would block
        content = yaml.safe_load(text)
        if text.endswith("...\n") and isinstance(content, dict):
            return content
    raise InputError(
        f"{path} is damaged, so it is not known which run this is. Delete that file and run the "
        "command that made the run again: its finished stages are kept."
    )
