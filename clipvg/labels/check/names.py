"""Check image names: written as on other systems, outside the image folder, or missing files."""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipvg.labels.box_column import as_mask
from clipvg.labels.check.finding import Finding
from clipvg.labels.schema import encode_names
from clipvg.labels.table import LabelTable

_CLIMBS = r"(^|[/\\])\.\.([/\\]|$)|\x00"
_OUTSIDE = r"^[/\\]|^[A-Za-z]:|" + _CLIMBS
_WINDOWS = r"^[^:\\]*\\"  # but not C:\images\a.jpg, which exists on no other system
_ADDRESS = r"^[a-z][a-z0-9+]+://"
_PIECE = 1 << 18  # bytes, few enough to stay in the CPU's cache
_OF_COCO = re.compile(r"(?:COCO_\w+_)?(\d{1,12})(?:\.\w+)?")
_STARTS = ("", "COCO_train2014_", "COCO_val2014_", "COCO_test2015_")
_SUBFOLDERS = 50  # of the root in which a missing image is sought


def with_plain_names(
    labels: LabelTable, *, backslashes: bool, where: Path | None = None
) -> LabelTable:
    """Return labels with image names in a normalised form.

    With `backslashes`, backslashes are read as /, unless an image has such a name; with `where`,
    the labels' file, a warning counts these names.
    """
    written = names = labels.table.column("image")
    if backslashes and os.sep != "\\" and any((each == ord("\\")).any() for each in _bytes(names)):
        is_of_windows = pc.fill_null(pc.match_substring_regex(names, _WINDOWS), False)
        rows = np.flatnonzero(as_mask(is_of_windows))
        if len(rows) and not _is_there(labels.image_path(names[int(rows[0])].as_py())):
            names = pc.if_else(is_of_windows, pc.replace_substring(names, "\\", "/"), names)
            if where is not None:
                warnings.warn(
                    f"{where}: {len(rows):,} names of images are written with \\, as on Windows; "
                    "they are read with /",
                    stacklevel=4,
                )
    plain = _without_dots(names)
    return labels if plain is written else labels.with_column("image", plain)


def plain_names(names: Sequence[str]) -> pa.ChunkedArray:
    """Return image names in the normalised form in which they are compared."""
    column = pa.chunked_array([pa.array(names, pa.string())])
    return _without_dots(pc.replace_substring(column, "\\", "/"))


def _without_dots(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return names such as "./a.jpg" and "b//c/./d.jpg" as "a.jpg" and "b/c/d.jpg"."""
    if not any(map(_has_dots, _bytes(names))):
        return names
    if not pc.any(pc.match_substring_regex(names, r"(^|/)\./|[^:/]//")).as_py():
        return names
    names = pc.replace_substring_regex(names, r"([^:/])//+", r"\1/")
    names = pc.replace_substring_regex(names, r"(/\.)+/", "/")
    return pc.replace_substring_regex(names, r"^(\./+)+", "")


def _has_dots(text: np.ndarray) -> bool:
    """Return whether a text's bytes hold "./" or "//", far faster than matching name by name."""
    before, is_slash = text[:-1], text[1:] == ord("/")
    return bool((is_slash & ((before == ord("/")) | (before == ord(".")))).any())


def _bytes(names: pa.ChunkedArray) -> Iterator[np.ndarray]:
    """Yield the bytes of all names, and perhaps of more names in the same buffers, in pieces."""
    for chunk in names.chunks:
        written = np.frombuffer(chunk.buffers()[-1] or b"", np.uint8)
        for start in range(0, len(written), _PIECE):
            yield written[start : start + _PIECE + 1]  # no pair of bytes is missed


def find_outside(labels: LabelTable, root: str) -> np.ndarray:
    """Return (N,) bool: names that lead out of the image root."""
    names = labels.table.column("image")
    below = as_mask(pc.starts_with(names, os.path.join(root, "")))  # absolute paths inside it
    return _matching(names, _OUTSIDE) & (~below | _matching(names, _CLIMBS))


def _matching(names: pa.ChunkedArray, pattern: str) -> np.ndarray:
    return as_mask(pc.match_substring_regex(names, pattern))


def find_name_faults(labels: LabelTable) -> Iterator[Finding]:
    """Yield findings on names that are not paths below the image folder, or differ only in case."""
    names = labels.table.column("image")

    def explain(row: int) -> str:
        return f"image {names[row].as_py()!r}"

    windows = _matching(names, _WINDOWS) & (os.sep != "\\")
    yield from Finding.of_rows(
        "path",
        "names of images with backslashes, as on Windows",
        windows,
        explain,
        remedy="clipvg reads them with /, other programs on this system do not find them: "
        "write / in their place, as clipvg labels convert does.",
    )
    addresses = _matching(names, _ADDRESS)
    yield from Finding.of_rows(
        "path",
        "addresses in place of names of images",
        addresses,
        explain,
        remedy="Download the images, and write names below their folder.",
    )
    yield from Finding.of_rows(
        "path",
        "names of images that begin or end with a space",
        _matching(names, r"^\s+\S|\S\s+$"),
        explain,
        remedy="Take the spaces away.",
    )
    if labels.images is not None:
        outside = find_outside(labels, os.path.abspath(labels.images)) & ~addresses & ~windows
        yield from Finding.of_rows(
            "path",
            "images outside of the folder of images",
            outside,
            explain,
            remedy="Write names below --images; pass --allow_outside_root if you trust the file.",
        )
    yield from _two_cases(labels)


def _two_cases(labels: LabelTable) -> list[Finding]:
    """Return the finding on images whose names differ only in upper and lower case."""
    names, of_row = labels.distinct_images()
    folded = encode_names(pc.utf8_lower(pa.array(names, pa.string())))
    codes = folded.indices.to_numpy()
    twins = np.bincount(codes, minlength=len(folded.dictionary))[codes] > 1
    other: dict[int, list[str]] = {code: [] for code in codes[twins].tolist()}
    for name, code in zip(np.array(names, object)[twins], codes[twins].tolist(), strict=True):
        other[code].append(name)
    return Finding.of_rows(
        "case",
        "names of images that differ in upper and lower case only",
        twins[of_row],
        lambda row: " and ".join(map(repr, other[int(codes[of_row[row]])][:2])),
        remedy="Write one image one way, as its file is called.",
    )


def find_on_disk(paths: Sequence[os.PathLike]) -> np.ndarray:
    """Return (U,) bool: which paths exist, found by listing each folder once."""
    folders: dict[str, list[int]] = defaultdict(list)
    for i, path in enumerate(paths):
        folders[os.path.dirname(path)].append(i)
    there = np.zeros(len(paths), bool)
    for folder, members in folders.items():
        listed = _listing(folder) if len(members) > 1 else None
        for i in members:
            there[i] = (
                _is_there(paths[i]) if listed is None else os.path.basename(paths[i]) in listed
            )
    return there


def _is_there(path: os.PathLike) -> bool:
    try:
        return os.path.exists(path)
    except ValueError:  # a null character
        return False


def _listing(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder or "."))
    except (OSError, ValueError):
        return set()


def find_missing(labels: LabelTable, missing: np.ndarray) -> Iterator[Finding]:
    """Yield findings on labels whose image is missing, or whose file's name differs in case."""
    names, of_row = labels.distinct_images()
    is_lost = missing & (np.array(names, object) != "")
    lost = [names[i] for i in np.flatnonzero(is_lost)]
    files = _other_case(labels, lost)
    other_case = np.array([name in files for name in names], bool)
    yield from Finding.of_rows(
        "missing-image",
        f"labels whose image is missing, {len(lost):,} images",
        is_lost[of_row],
        lambda row: f"{labels.image_path(names[of_row[row]])} is not there",
        remedy=_remedy(labels, lost[0] if lost else "", files),
    )
    yield from Finding.of_rows(
        "case",
        "names of images that differ from their files in upper and lower case",
        other_case[of_row],
        lambda row: f"{names[of_row[row]]!r} is {files[names[of_row[row]]]!r} on disk",
        remedy="Write names as the files are called.",
    )


def _other_case(labels: LabelTable, names: Iterable[str]) -> dict[str, str]:
    """Return the file's name for missing names that differ from it only in case."""
    listings: dict[str, dict[str, str]] = {}
    found = {}
    for name in names:
        folder, base = os.path.split(str(labels.image_path(name)))
        if folder not in listings:
            listings[folder] = {each.lower(): each for each in _listing(folder)}
        if file := listings[folder].get(base.lower()):
            found[name] = file
    return found


def _remedy(labels: LabelTable, name: str, files: dict[str, str]) -> str:
    """Suggest where the first missing image may be."""
    if labels.images is None:
        return "Name the folder of the images with --images."
    if name in files:
        return f"Write {files[name]!r} for it: upper and lower case count."
    root, parts = labels.images, PurePosixPath(name.replace("\\", "/")).parts
    if twin := _other_year(root.joinpath(*parts[:-1]), PurePosixPath(name).name):
        return f"{twin!r} is there, as this image of COCO is called in other years: write that."
    for cut in range(1, len(parts)):
        if _is_there(root.joinpath(*parts[cut:])):
            rest, first = "/".join(parts[cut:]), "/".join(parts[:cut])
            parent = root.absolute().parents[min(cut, len(root.absolute().parents)) - 1]
            if parent.joinpath(*parts[:cut]) == root.absolute():
                return f"The names begin with {first}/ already: pass --images {parent}."
            return f"{rest!r} is in --images: take {first}/ from the names."
    for folder in _subfolders(root):
        if _is_there(folder / name):
            return f"It is in {folder}: pass --images {folder}."
    folder = root.joinpath(*parts[:-1])
    for file in sorted(_listing(str(folder))):
        if PurePosixPath(file).stem == PurePosixPath(name).stem:
            return f"{file!r} is there: is its ending right?"
    return f"Check --images {root}, or leave these labels out."


def _other_year(folder: Path, name: str) -> str:
    """Return the name of a COCO image in a folder, as named in any year; "" if there is none."""
    number = _OF_COCO.fullmatch(name)
    names = [f"{start}{int(number[1]):012d}.jpg" for start in _STARTS] if number else []
    return next((each for each in names if _is_there(folder / each)), "")


def _subfolders(root: Path) -> list[Path]:
    """Return folders below the root, two levels deep, up to a maximum number."""
    found = [path for path in sorted(root.glob("*/"))[:_SUBFOLDERS] if path.is_dir()]
    below = [path for each in found[:_SUBFOLDERS] for path in sorted(each.glob("*/"))]
    return [*found, *below][:_SUBFOLDERS]
