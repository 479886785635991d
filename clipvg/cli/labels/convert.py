"""`clipvg labels convert`: write label files in another format, filtered and sorted."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from clipvg.cli.commands import Command, check_writable
from clipvg.cli.options import LABELS, add_shared, files_read, read_table
from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError, printable
from clipvg.runtime.files import Json


def _configure(parser: CommandParser) -> None:
    add_shared(parser, *LABELS, needed=False)
    parser.add_argument("out", metavar="OUT", help="file to write; its ending decides the format")
    parser.add_argument("--format", metavar="NAME", help="the format, if not by the ending")
    parser.add_argument(
        "--keep", nargs="+", default=[], metavar="CONDITION",
        help="keep only labels that fulfil all of these: 'template>=0.5' (a measurer's score), "
        "'source==caption', 'width<640'; nulls fulfil none",
    )  # fmt: skip
    parser.add_argument(
        "--sort", metavar="COLUMN",
        help="write in the order of a column, or of a measurer's scores, lowest first",
    )  # fmt: skip
    parser.add_argument("--descending", action="store_true", help="sort highest first")
    parser.add_argument(
        "--columns", nargs="+", default=[], metavar="NAME=COLUMN",
        help="what the files call a column, such as image=file_name",
    )  # fmt: skip


def _run(args: Namespace) -> Json:
    from clipvg.labels.formats import find_format

    out = check_writable(Path(args.out), reads=files_read(args.labels, Path(args.out)))
    find_format(out, args.format)  # before files are read
    if args.descending and not args.sort:
        raise InputError("--descending without --sort; say which column decides the order")
    args.columns = _renamed(args.columns)
    read = read_table(args)
    labels = read.filter(*args.keep)
    if not len(labels):
        raise InputError(f"none of the {len(read):,} labels fulfils {' and '.join(args.keep)}")
    if args.sort:
        labels = labels.sort_by(args.sort, descending=args.descending)
    labels.write(out, layout=args.layout, format=args.format)
    return {
        "out": str(out),
        "labels": len(labels),
        "images": labels.num_images,
        "read": len(read),
        "dropped": len({int(row) for found in read.dropped for row in found.rows}),
        "splits": labels.splits,
    }


def _renamed(pairs: Sequence[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for pair in pairs:
        name, sign, column = pair.partition("=")
        if not (name and sign and column):
            raise InputError(f"--columns {pair}: expected NAME=COLUMN, as in image=file_name")
        if names.setdefault(name, column) != column:
            raise InputError(f"--columns {pair}: {name} is {names[name]} already; name it once")
    return names


def _describe(result: Json) -> str:
    lines = [f"{result['labels']:,} labels of {result['images']:,} images"]
    if result["labels"] < result["read"]:
        lines[0] += f", of {result['read']:,} read"
    if result["splits"]:
        counts = (f"{printable(name)} {count:,}" for name, count in result["splits"].items())
        lines.append(f"splits: {', '.join(counts)}")
    return "\n".join([*lines, f"written: {result['out']}"])


COMMAND = Command(
    example="clipvg labels convert scored.parquet reliable.jsonl --keep 'template>=0.5'",
    configure=_configure,
    run=_run,
    describe=_describe,
)
