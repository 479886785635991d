"""Arguments that several commands share, and functions that turn them into values."""

from __future__ import annotations

import dataclasses
import warnings
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, get_type_hints

from jsonargparse.typing import PositiveInt

from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError
from clipvg.runtime.files import Json
from clipvg.runtime.imports import refuse_code

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from clipvg.labels import LabelTable

OnError = Literal["raise", "drop"]
BoxFormat = Literal["xyxy", "xywh", "cxcywh"]
BoxUnit = Literal["pixel", "unit", "thousand"]
Config = TypeVar("Config", bound="DataclassInstance")

LABELS = (
    "labels", "--images", "--split", "--layout", "--box_format", "--box_unit", "--source",
    "--on_error", "--allow_outside_root", "--max_pixels",
)  # fmt: skip
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3  # Pillow's default, 89 million
_SHARED: dict[str, Json] = {
    "labels": {
        "nargs": "+",
        "metavar": "LABELS",
        "help": "label files: .parquet, .jsonl, .csv, .tsv, the published .pth, REFER's refs(*).p, "
        "COCO-style .json, or the folder of Flickr30k Entities; several are read in order",
    },
    "--images": {"metavar": "DIR", "help": "folder that holds the images"},
    "--split": {
        "metavar": "NAME",
        "help": "take only the labels of this split, such as testA, by the column split",
    },
    "--layout": {
        "metavar": "NAME",
        "help": "layout of a .pth file: unc, unc+, gref, gref_umd, referit, flickr or mixup; by "
        "default taken from its name",
    },
    "--box_format": {
        "type": BoxFormat | None,
        "help": "how boxes are written, if not as their file says: xyxy, xywh or cxcywh",
    },
    "--box_unit": {
        "type": BoxUnit | None,
        "help": "unit of the boxes: pixel, unit (0 to 1) or thousand (0 to 1000)",
    },
    "--source": {"help": "name of the source of these labels, e.g. template"},
    "--on_error": {
        "type": OnError,
        "default": "raise",
        "help": "what to do with rows that cannot be used: stop, or drop and count them",
    },
    "--allow_outside_root": {
        "action": "store_true",
        "help": "accept image names that are absolute or lead out of --images with ..",
    },
    "--max_pixels": {
        "type": PositiveInt,
        "default": MAX_PIXELS,
        "metavar": "N",
        "help": "refuse images with more pixels than this, whose decoding takes gigabytes",
    },
    "--device": {"help": "cpu, cuda, cuda:1, mps, …; by default a CUDA GPU if there is one"},
    "--checkpoint": {
        "metavar": "CKPT",
        "help": "the model: a folder, the authors' .pth, hf-hub:org/repo or local-dir:folder",
    },
    "--grounder": {
        "metavar": "NAME[,K=V...]",
        "help": "use a grounder that was not trained here in place of --checkpoint, such as "
        "detector,model=FOLDER; docs/grounders.md lists them",
    },
    "--similarity": {
        "default": "iou",
        "metavar": "NAME",
        "help": "how reliability compares boxes: iou, giou, dice, pck (of box centres), or "
        "package.module:function of your own",
    },
    "--quiet": {"action": "store_true", "help": "show no progress bars"},
}


def add_shared(
    parser: CommandParser, *names: str, needed: bool = True, needs_labels: bool = True
) -> None:
    """Add shared arguments by name; `LABELS` are those of label files.

    --images and --checkpoint are required if `needed`, label files if `needs_labels`.
    """
    for name in names:
        options = dict(_SHARED[name])
        if name in {"--images", "--checkpoint"}:
            options["required"] = needed
        if name == "labels" and not needs_labels:
            options |= {"nargs": "*", "default": []}
        parser.add_argument(name, **options)


def check_similarity(args: Namespace) -> str:
    """Return --similarity; refuse an unknown one, and code that is named by a YAML file."""
    from clipvg.similarity import find_similarity

    if file := args.files.get("similarity"):
        refuse_code(args.similarity, "similarity", file)
    find_similarity(args.similarity)
    return str(args.similarity)


def set_max_pixels(args: Namespace) -> None:
    """Set Pillow's limit on the pixels of an image to --max_pixels."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = args.max_pixels


def add_batch_size(parser: CommandParser, default: int | None) -> None:
    """Add --batch_size; with a default of None it is chosen for the device and the labels."""
    text = "labels per forward pass" + ("" if default else "; by default chosen for the device")
    kind = int if default else int | None
    parser.add_argument("--batch_size", type=kind, default=default, help=text)


def add_store(parser: CommandParser, what: str, ending: str) -> None:
    """Add --store, the folder that keeps the results of finished images."""
    text = f"folder for {what}, from which an interrupted command continues; by default FILE."
    parser.add_argument("--store", metavar="DIR", help=f"{text}{ending}, beside --out")


def add_group(
    parser: CommandParser,
    name: str,
    config: type[DataclassInstance],
    *,
    title: str,
    skip: Sequence[str] = (),
) -> None:
    """Add an option ``--name.field`` for each field of a dataclass, with its description.

    Without a name the option is ``--field``.
    """
    import docstring_parser

    group = parser.add_argument_group(f"{name}: {title}".removeprefix(": "))
    kinds = get_type_hints(config)
    documented = [docstring_parser.parse(kind.__doc__ or "") for kind in config.__mro__[::-1]]
    said = {
        each.arg_name: (each.description or "").rstrip(".").replace("None", "null")  # as in YAML
        for text in documented
        for each in text.params
    }
    for field in dataclasses.fields(config):
        if field.name in skip:
            continue
        options: Json = {"type": kinds[field.name], "default": field.default}
        if isinstance(field.default, tuple):  # as words rather than as a YAML list
            options = {"type": str, "nargs": "+", "default": [*field.default]}
        option = f"{name}.{field.name}".removeprefix(".")
        group.add_argument(f"--{option}", help=said[field.name], **options)


def take_group(args: Namespace, name: str, config: type[Config], **others: object) -> Config:
    """Return the dataclass of `add_group`; `others` are further fields.

    Raises:
        InputError: values are invalid or conflict; names the YAML file that set one of them.
    """
    given = vars(getattr(args, name) if name else args)
    names = {field.name for field in dataclasses.fields(config)}
    try:
        return config(**{key: value for key, value in given.items() if key in names}, **others)
    except InputError as error:
        words = str(error).replace("=", " ").split()
        files = {file for key, file in args.files.items() if key.rpartition(".")[2] in words}
        if not files:
            raise
        raise InputError(f"{', '.join(sorted(files))}: {error}") from error


def files_of(paths: Sequence[str]) -> list[str]:
    """Return the files that LABELS stand for, which may be patterns and folders."""
    from clipvg.labels.read import label_files

    return [str(file) for path in paths for file in label_files(path)]


def files_read(paths: Sequence[str], out: Path) -> list[str]:
    """Return the files that LABELS are read from, `out` too if it is read along with one."""
    from clipvg.labels.formats import reads_too

    files = files_of(paths)
    return [*files, *[str(out) for file in files if reads_too(file, out)]]


def read_table(
    args: Namespace, paths: Sequence[str] | None = None, *, one_split: bool = False
) -> LabelTable:
    """Read the label files of a command: `paths`, or all of them when None.

    With `one_split`, labels of several splits are refused unless --split chooses one.
    """
    from clipvg.labels.splits import check_one_split

    labels = _read(args, args.labels if paths is None else paths, args.split)
    if one_split:
        check_one_split(labels, ", ".join(paths or args.labels))
    return labels


def read_validation(args: Namespace) -> LabelTable | None:
    """Read --validation, only the split --validation_split, with the other options of `LABELS`.

    Raises:
        InputError: as for `read_table` of one split, or the split is given without the file.
    """
    from clipvg.labels.splits import check_one_split

    if args.validation is None:
        if args.validation_split is not None:
            raise InputError("--validation_split without --validation; name the file it is in")
        return None
    labels = _read(args, [args.validation], args.validation_split)
    check_one_split(labels, args.validation, "validation_split")
    return labels


def _read(args: Namespace, paths: Sequence[str], split: str | None) -> LabelTable:
    from clipvg.labels import ReadOptions, read_labels

    set_max_pixels(args)
    labels = read_labels(
        list(paths) if len(paths) > 1 else paths[0],
        images=args.images,
        source=args.source,
        split=split,
        on_error=args.on_error,
        options=ReadOptions(
            layout=_layout_of(args, paths),
            columns=getattr(args, "columns", {}),
            box_format=args.box_format,
            box_unit=args.box_unit,
            allow_outside_root=args.allow_outside_root,
        ),
    )
    if not len(labels):
        raise InputError(f"{', '.join(paths)}: no labels in it; check the file")
    if args.images is not None and not Path(args.images).is_dir():
        raise InputError(
            f"--images {args.images}: no such folder, so {labels.image_names[0]} and the others "
            "cannot be found in it; name the folder that image names are below"
        )
    return labels


def _layout_of(args: Namespace, paths: Sequence[str]) -> str | None:
    """Return --layout if it applies to these files; refuse it if it applies to none at all."""
    others = [getattr(args, name, None) for name in ("validation", "out")]
    named = [*args.labels, *(getattr(args, "labelled", None) or []), *filter(None, others)]
    if args.layout and not any(map(_has_layout, named)):
        raise InputError(f"--layout {args.layout}: only .pth files have a layout; leave it out")
    return args.layout if any(map(_has_layout, paths)) else None


def _has_layout(path: str) -> bool:
    return path.lower().endswith(".pth")


def warn_of_findings(labels: LabelTable, validation: LabelTable | None = None) -> None:
    """Warn of what a check without opening images finds, shared validation images first."""
    from clipvg.labels import check_labels

    against = {} if validation is None else {"--validation": validation}
    checked = check_labels(labels, open_images=False, against=against)
    serious = [found for found in checked.findings if found.severity != "note"]
    for found in sorted(serious, key=lambda found: found.kind != "leak"):
        warnings.warn(f"{found.kind}: {found.message}", stacklevel=2)
