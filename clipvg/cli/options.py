"""Arguments that several commands share, and what they become."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_type_hints

from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError

if TYPE_CHECKING:
    from clipvg.labels import LabelTable

OnError = Literal["raise", "drop"]
Config = TypeVar("Config")


def add_labels(parser: CommandParser) -> None:
    """Add LABELS, --images, --layout, --source and --on_error."""
    parser.add_argument(
        "labels", nargs="+", type=str, metavar="LABELS",
        help="label files: .parquet, .jsonl, .csv or .pth; several are joined in order",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=str, required=True, metavar="DIR", help="folder that image names are below"
    )
    add_layout(parser)
    parser.add_argument(
        "--source", type=str, help="name of the label source, written to every row, e.g. template"
    )
    parser.add_argument(
        "--on_error", type=OnError, default="raise",
        help="rows that cannot be labels: stop at them, or drop and count them",
    )  # fmt: skip


def add_layout(parser: CommandParser) -> None:
    """Add --layout of .pth files."""
    parser.add_argument(
        "--layout", type=str, metavar="NAME",
        help="data set of a .pth file: unc, unc+, gref, gref_umd, referit or flickr; by default "
        "the start of its name",
    )  # fmt: skip


def add_device(parser: CommandParser) -> None:
    """Add --device."""
    parser.add_argument(
        "--device", type=str, help="cpu, cuda, cuda:1, …; by default a GPU where there is one"
    )


def add_batch_size(parser: CommandParser, default: int | None) -> None:
    """Add --batch_size; with a default of None the device and the labels decide."""
    parser.add_argument(
        "--batch_size", type=int if default is not None else int | None, default=default,
        help="labels in one forward pass"
        + ("" if default is not None else "; by default what suits the device"),
    )  # fmt: skip


def add_quiet(parser: CommandParser) -> None:
    """Add --quiet."""
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def add_checkpoint(parser: CommandParser) -> None:
    """Add --checkpoint."""
    parser.add_argument(
        "--checkpoint", type=str, required=True, metavar="CKPT",
        help="model folder, the authors' .pth, hf-hub:org/repo or local-dir:folder",
    )  # fmt: skip


def add_group(
    parser: CommandParser, name: str, config: type, *, title: str, skip: Sequence[str] = ()
) -> None:
    """Add an option ``--name.field`` for each field of a dataclass, with its description."""
    import docstring_parser

    group = parser.add_argument_group(f"{name}: {title}")
    kinds = get_type_hints(config)
    documented = [docstring_parser.parse(kind.__doc__ or "") for kind in config.__mro__[::-1]]
    said = {each.arg_name: each.description for text in documented for each in text.params}
    for field in dataclasses.fields(config):
        if field.name in skip:
            continue
        options: dict[str, Any] = {"type": kinds[field.name], "default": field.default}
        if isinstance(field.default, tuple):  # as words rather than as a YAML list
            options = {"type": str, "nargs": "+", "default": [*field.default]}
        group.add_argument(f"--{name}.{field.name}", help=said[field.name], **options)


def take_group(args: Namespace, name: str, config: type[Config], **others: Any) -> Config:
    """Return the dataclass of `add_group`; other fields are given by name.

    Raises:
        InputError: values that do not go together; names the YAML file that set one of them.
    """
    try:
        return config(**vars(getattr(args, name)), **others)
    except InputError as error:
        words = str(error).replace("=", " ").split()
        files = {file for key, file in args.files.items() if key.rpartition(".")[2] in words}
        if not files:
            raise
        raise InputError(f"{', '.join(sorted(files))}: {error}") from error


def read_table(args: Namespace, paths: Sequence[str] | None = None) -> LabelTable:
    """Read the label files of a command, or others with the same options.

    Raises:
        InputError: they cannot be read, hold no label, or the folder of images is missing.
    """
    from clipvg.labels import read_labels

    paths = args.labels if paths is None else paths
    labels = read_labels(
        list(paths) if len(paths) > 1 else paths[0],
        images=args.images,
        layout=args.layout,
        source=args.source,
        on_error=args.on_error,
    )
    if not len(labels):
        raise InputError(f"{', '.join(paths)}: no labels in it; check the file")
    if not Path(args.images).is_dir():
        raise InputError(
            f"--images {args.images}: no such folder, so {labels.image_names[0]} and the others "
            "cannot be found in it; name the folder that image names are below"
        )
    return labels
