"""The rows of the paper's tables: what each needs, and how to obtain its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clipvg.errors import InputError, near_matches
from clipvg.reproduce.datasets import DataSet
from clipvg.reproduce.layout import DataRoot, LabelFile, Missing


@dataclass(frozen=True)
class Row:
    """One row of the tables, for every data set.

    Attributes:
        name: name to request it by.
        folder: folder of the label files that it is trained on, or of its checkpoints.
        method: "ssa", "msa", "train", or "evaluate" for a checkpoint that is there.
        recipe: the published options of its trainings.
    """

    name: str
    folder: str
    method: str
    recipe: str = "unsupervised"


ROWS: Mapping[str, Row] = {
    row.name: row
    for row in (
        Row("ssa-checkpoint", "unsup_single_source", "evaluate"),
        Row("msa-checkpoint", "unsup_multi_source", "evaluate"),
        Row("supervised-checkpoint", "full_sup_data", "evaluate"),
        Row("ssa", "unsup_single_source", "ssa"),
        Row("no-ssa", "unsup_single_source", "train"),  # SSA's first training, if there is one
        Row("no-msa", "unsup_multi_source", "train"),
        Row("msa", "unsup_multi_source", "msa"),
        Row("supervised", "full_sup_data", "train", "supervised"),
    )
}


def find_row(name: str) -> Row:
    """Return the row of a name.

    Raises:
        InputError: there is no such row.
    """
    if name not in ROWS:
        raise InputError(f"no row {name!r}: {near_matches(name, ROWS)}")
    return ROWS[name]


@dataclass(frozen=True)
class Job:
    """A row of one data set with all that it needs.

    Attributes:
        row: row of the tables, or one with a checkpoint's name.
        data: the data set.
        images: folder of its images.
        splits: column of the table -> file of the split.
        checkpoint: checkpoint to evaluate; None trains one.
        training: files to train on.
        validation: file of validation labels.
    """

    row: Row
    data: DataSet
    images: Path
    splits: Mapping[str, LabelFile]
    checkpoint: Path | None = None
    training: tuple[LabelFile, ...] = ()
    validation: LabelFile | None = None


def plan(
    root: DataRoot, row: Row, data: DataSet, given: Path | None = None
) -> tuple[Job | None, list[Missing]]:
    """Return the job for a row of a data set, or None if it lacks something; and what is missing.

    One split that is there is enough; the others are reported as missing.

    Args:
        root: where files are looked for.
        row: row of the tables.
        data: the data set.
        given: the checkpoint to evaluate, if it is not to be looked for.
    """
    images = root.images(data)
    splits = {column: root.labels(data, split) for column, split in data.columns.items()}
    there = {column: file for column, file in splits.items() if isinstance(file, LabelFile)}
    missing = [each for each in (images, *splits.values()) if isinstance(each, Missing)]
    checkpoint: Path | Missing | None = given
    training: list[LabelFile] | Missing = []
    validation: LabelFile | Missing | None = None
    if row.method == "evaluate":
        checkpoint = given or root.checkpoint(data, row.folder)
    else:
        if row.recipe == "supervised":
            file = root.labels(data, "train")
            training = file if isinstance(file, Missing) else [file]
        else:
            training = root.pseudo_labels(data, row.folder)
        validation = root.labels(data, "val")
    own = [each for each in (checkpoint, training, validation) if isinstance(each, Missing)]
    missing += [each for each in own if each not in missing]
    if own or isinstance(images, Missing) or not there:
        return None, missing
    assert not isinstance(checkpoint, Missing)
    assert not isinstance(training, Missing)
    assert not isinstance(validation, Missing)
    return Job(row, data, images, there, checkpoint, tuple(training), validation), missing
