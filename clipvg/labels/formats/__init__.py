"""File formats that labels are read from and written to, one module per family.

A module defines a `Format`: its name, the endings of its files, ``matches(file)`` if several
formats share an ending, ``read(file)``, and ``write(table, file)`` if it can be written. To add a
format, add a module to this folder and its `Format` to `FORMATS`, the most specific ones first.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa

from clipvg.errors import InputError, near_matches, one_line
from clipvg.labels.formats.coco import COCO
from clipvg.labels.formats.file import FOLDER, File, Format
from clipvg.labels.formats.flickr import FLICKR
from clipvg.labels.formats.huggingface import JXU, LMMS, REF_L4, REVIEWED
from clipvg.labels.formats.label_studio import LABEL_STUDIO
from clipvg.labels.formats.odvg import ODVG
from clipvg.labels.formats.pth import PTH
from clipvg.labels.formats.refer import GREFCOCO, REFCOCO, REFER
from clipvg.labels.formats.seqtr import SEQTR
from clipvg.labels.formats.tables import CSV, JSONL, PARQUET, RECORDS, TSV
from clipvg.labels.formats.visual_genome import VISUAL_GENOME
from clipvg.labels.formats.vlm import VLM

FORMATS = (
    LMMS, JXU, REF_L4, PARQUET, ODVG, VLM, JSONL, CSV, TSV, PTH, REVIEWED, COCO, REFCOCO,
    LABEL_STUDIO, SEQTR, VISUAL_GENOME, GREFCOCO, RECORDS, REFER, FLICKR,
)  # fmt: skip
_ARCHIVES = (".zip", ".tar", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_EXPECTED = {
    FOLDER: "a folder; name the label file in it, or several by a pattern such as FOLDER/*.jsonl",
    ".json": "neither COCO instances (images, annotations, categories) nor a list of objects "
    "with image, expression and box, as pandas writes it with orient='records'",
}


def find_reader(file: File) -> Callable[[File], pa.Table]:
    """Return the function that reads a file, chosen by its ending, then by its content.

    Raises:
        InputError: no format matches.
    """
    if found := format_of(file):
        return found.read
    if file.ending in _EXPECTED:
        raise InputError(f"{file.path}: {_described(file)}{_EXPECTED[file.ending]}")
    if file.path.suffix.lower() in _ARCHIVES:
        raise InputError(f"{file}: packed; unpack it first (text may stay packed with gzip)")
    kind = f"unknown kind of label file {file.ending!r}" if file.ending else "no ending in its name"
    raise InputError(f"{file.path}: {kind}; choose from {', '.join(_endings(FORMATS))}")


def format_of(file: File) -> Format | None:
    """Return the format of a file, by its ending and its content; None if no format matches."""
    known = (each for each in FORMATS if file.ending in each.endings)
    return next((each for each in known if _unpacked(each, file).matches(file)), None)


def _described(file: File) -> str:
    """Describe JSON that has no known format."""
    if file.ending == ".json" and isinstance(file.content, dict):
        return f"an object with {', '.join(map(str, file.content))[:100] or 'nothing'}: "
    return ""


def reads_too(path: str | Path, other: Path) -> bool:
    """Return whether reading a label file also reads another file beside it."""
    file = File(Path(path))
    for each in FORMATS:
        if each.beside and file.ending in each.endings:
            beside = file.path.with_name(each.beside)
            if beside.exists() and other.exists() and beside.samefile(other):
                return each.matches(file)
    return False


def find_format(path: str | Path, name: str | None = None) -> Format:
    """Return the format to write a file in: the one named, else the first for the file's ending.

    Raises:
        InputError: no format has this name or ending, it cannot be written, or the ending belongs
            to another.
    """
    written = [each for each in FORMATS if each.write is not None]
    file = File(Path(path))
    if name is not None:
        named = {each.name: each for each in written}
        if name not in named:
            raise InputError(f"cannot write format {name!r}: {near_matches(name, named)}")
        found = named[name]
        if file.ending not in found.endings and file.ending in _endings(FORMATS):
            wanted = " or ".join(_endings([found]))
            raise InputError(f"{path}: format {name!r} is written as {wanted}; change the ending")
        return _unpacked(found, file)
    written.sort(key=lambda each: each.name != file.ending[1:])
    for each in written:
        if file.ending in each.endings:
            return _unpacked(each, file)
    raise InputError(
        f"{path}: cannot write {file.ending or 'a file without suffix'}; choose from "
        f"{', '.join(_endings(written))}"
    )


def write_table(table: pa.Table, file: File, name: str | None = None) -> None:
    """Write a normalised label table in the format of the file's ending, or in the one named.

    Columns that a format has no place for are left out with a warning: those beyond a layout of
    ``.pth``, and COCO's ids if not every label has its own. Text is packed with gzip if the file's
    name ends in ``.gz``.

    Raises:
        InputError: no such format or ending, no layout, or a value that the format cannot hold.
    """
    found = find_format(file.path, name)
    assert found.write is not None
    try:
        lost = [each for each in found.lost(table, file) if table[each].null_count < len(table)]
        found.write(table, file)
    except (InputError, OSError, ImportError):
        raise
    except Exception as error:  # users' columns may hold anything; CLIPVG_DEBUG=1 shows it
        why = one_line(error, 120)
        raise InputError(
            f"{file}: a value cannot be written in {found.name} files ({why}); leave its column out"
        ) from error
    if lost:
        warnings.warn(
            f"{file}: no place for {', '.join(lost)} in {found.name} files; left out", stacklevel=3
        )


def _unpacked(found: Format, file: File) -> Format:
    if file.is_packed and not found.is_text:
        raise InputError(
            f"{file}: only text is packed with gzip, and {file.ending} is not text; leave out "
            ".gz, or unpack it: gunzip FILE"
        )
    return found


def _endings(formats: Iterable[Format]) -> dict[str, None]:
    endings = (ending for each in formats for ending in each.endings)
    return dict.fromkeys(ending for ending in endings if ending != FOLDER)
