"""`clipvg labels merge`: merge label files, keeping exact duplicates once."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from clipvg.cli.commands import Command, check_writable
from clipvg.cli.options import LABELS, add_shared, files_read, read_table
from clipvg.cli.parser import CommandParser
from clipvg.runtime.files import Json


def _configure(parser: CommandParser) -> None:
    add_shared(parser, *LABELS, needed=False)
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="file to write; its ending decides the format"
    )
    parser.add_argument("--format", metavar="NAME", help="the format, if not by the ending")


def _run(args: Namespace) -> Json:
    from clipvg.labels.formats import find_format
    from clipvg.labels.merge import merge_labels

    out = check_writable(Path(args.out), reads=files_read(args.labels, Path(args.out)))
    find_format(out, args.format)  # before files are read
    tables = [read_table(args, [path]) for path in args.labels]
    labels = merge_labels(tables, args.labels)
    labels.write(out, layout=args.layout, format=args.format)
    return {
        "out": str(out),
        "labels": len(labels),
        "images": labels.num_images,
        "read": {path: len(part) for path, part in zip(args.labels, tables, strict=True)},
        "duplicates": sum(map(len, tables)) - len(labels),
    }


def _describe(result: Json) -> str:
    return (
        f"{result['labels']:,} labels of {result['images']:,} images; {result['duplicates']:,} "
        f"duplicates left out\nwritten: {result['out']}"
    )


COMMAND = Command(
    example="clipvg labels merge template.parquet relation.parquet --out all.parquet",
    configure=_configure,
    run=_run,
    describe=_describe,
)
