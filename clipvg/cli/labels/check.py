"""`clipvg labels check`: report what is wrong or odd in label files."""

from __future__ import annotations

import re
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from clipvg.cli import options
from clipvg.cli.commands import Command
from clipvg.cli.failure import as_typed
from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError, printable
from clipvg.runtime.files import Json
from clipvg.runtime.gate import open_bytes
from clipvg.runtime.unpickle import read_pickle

if TYPE_CHECKING:
    import numpy as np

    from clipvg.labels import LabelTable

# Options that findings mention as arguments of the library; this command itself has no --on_error.
_OPTIONS = ("--on_error", "--box_format", "--box_unit")
_ANY_OBJECTS = ("coco", "json", "jsonl")  # formats that any list of objects is taken for
_SEEN = {  # patterns that mark files of detections: Pascal VOC, YOLO
    ".xml": re.compile(rb"<bndbox>"),
    ".txt": re.compile(rb"\A\d+( [\d.]+){4,5}\s"),
}
_HEAD = 4096  # bytes in which they are looked for
_SEVERITIES = ("error", "warning", "note")


def _configure(parser: CommandParser) -> None:
    options.add_shared(parser, "labels")
    parser.add_argument(
        "--images", metavar="DIR",
        help="folder that holds the images; each is looked up and opened",
    )  # fmt: skip
    parser.add_argument(
        "--against", nargs="+", default=[], metavar="LABELS",
        help="label files whose images these labels must not have, such as a test split",
    )  # fmt: skip
    options.add_shared(
        parser, "--split", "--layout", "--box_format", "--box_unit", "--max_pixels", "--quiet"
    )


def _run(args: Namespace) -> Json:
    import numpy as np

    from clipvg.labels import LabelTable, check_labels
    from clipvg.labels.splits import no_such_split

    if args.images is not None and not Path(args.images).is_dir():
        raise InputError(f"--images {args.images}: no such folder")
    options.set_max_pixels(args)
    parts = {path: _read(path, args) for path in options.files_of(args.labels)}
    rows = [_rows(path, part, args.split) for path, part in parts.items()]
    if args.split is not None and not sum(map(len, rows)):
        there = LabelTable.concat(parts.values()).splits
        raise InputError(f"{', '.join(args.labels)}: {no_such_split(args.split, there)}")
    parts = {path: part.select(at) for (path, part), at in zip(parts.items(), rows, strict=True)}
    checked = check_labels(
        LabelTable.concat(parts.values()),
        open_images=args.images is not None,
        against={path: _read(path, args) for path in args.against},
        files=[(path, len(part)) for path, part in parts.items()],
        rows=np.concatenate(rows),
        progress=not args.quiet,
    )
    result = checked.to_dict()
    for finding in result["findings"]:
        finding["message"] = as_typed(finding["message"], _OPTIONS)
    return result


def _rows(path: str, labels: LabelTable, split: str | None) -> np.ndarray:
    """Return the rows of a file that belong to a split, int64; all rows when it is None."""
    import numpy as np

    from clipvg.labels.splits import rows_of_split

    if split is None:
        return np.arange(len(labels))
    return np.flatnonzero(rows_of_split(labels.table, split, where=path))


def _read(path: str, args: Namespace) -> LabelTable:
    from clipvg.labels import ReadOptions, read_labels

    try:
        labels = read_labels(
            path,
            images=args.images,
            on_error="keep",
            options=ReadOptions(
                layout=args.layout, box_format=args.box_format, box_unit=args.box_unit
            ),
        )
    except InputError as error:
        if other := _what_else(Path(path)):
            raise InputError(f"{path}: no label file but {other}") from error
        raise
    if not len(labels):
        raise InputError(f"{path}: no labels in it; check the file")
    return labels


def _what_else(path: Path) -> str:
    """Return what a file without labels holds, and which command reads it; "" if not known."""
    ending = path.suffix.lower()
    if ending == ".safetensors":
        return "tensors; if they are weights, clipvg info and --checkpoint take the folder"
    if ending in {".jpg", ".jpeg", ".png", ".webp"}:
        return "an image; clipvg predict reads it"
    if ending == ".yaml":
        return "a configuration; --config of clipvg train and clipvg adapt reads it"
    try:
        if ending in _SEEN and _SEEN[ending].search(_head(path)):
            return "detections of images; clipvg generate --observations reads it"
        if ending in {".pth", ".pt"} and isinstance(read_pickle(path, "anything"), dict):
            return "a checkpoint; clipvg info describes those of CLIP-VG, --checkpoint takes them"
        if ending in {".json", ".jsonl"} and (kind := _seen(path)):
            return f"{kind} of images; clipvg generate --observations reads it"
    except InputError:
        pass
    return ""


def _head(path: Path) -> bytes:
    with open_bytes(path) as raw:
        return raw.peek(_HEAD)


def _seen(path: Path) -> str:
    """Return "captions" or "detections" if a file lists these rather than labels, else ""."""
    from clipvg.labels.formats import format_of
    from clipvg.labels.formats.file import File
    from clipvg.pseudo.formats.file import File as Observations
    from clipvg.pseudo.formats.readers import find_reader
    from clipvg.pseudo.observation import KEYS

    file = File(path)
    first, found = file.first, format_of(file)
    if not first or file.content is not None or (found and found.name not in _ANY_OBJECTS):
        return ""
    if file.ending == ".json":
        find_reader(Observations(path))
    elif not ("image" in first and first.keys() & (KEYS - {"image", "width", "height"})):
        return ""
    return "captions" if first.keys() & {"caption", "captions"} else "detections"


def _describe(result: Json) -> str:
    labels, images, fullest = result["labels"], result["images"], result["fullest_image"]
    each = f", {labels / images:.1f} on each, at most {fullest['labels']:,}" if images else ""
    lines = [f"{labels:,} labels of {images:,} images{each}"]
    for name, counts in (("split", result["splits"]), ("source", result["sources"])):
        lines += [
            f"{name} {printable(value) or 'unknown'}: {count['labels']:,} labels of "
            f"{count['images']:,} images"
            for value, count in counts.items()
            if len(counts) > 1 or value
        ]
    findings = result["findings"]
    lines += [
        f"{each['severity']} {each['kind']}: {printable(each['message'])}" for each in findings
    ]
    numbers = Counter(each["severity"] for each in findings)
    counted = [
        f"{numbers[severity]} {severity}{'s' if numbers[severity] > 1 else ''}"
        for severity in _SEVERITIES
        if numbers[severity]
    ]
    return "\n".join([*lines, ", ".join(counted) or "nothing wrong was found"])


def _failed(result: Json) -> bool:
    return any(each["severity"] == "error" for each in result["findings"])


COMMAND = Command(
    example="clipvg labels check pseudo.parquet --images images/ --against unc_testA.pth",
    configure=_configure,
    run=_run,
    describe=_describe,
    failed=_failed,
)
