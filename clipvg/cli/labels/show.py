"""`clipvg labels show`: a page of what is in label files."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from pathlib import Path

from clipvg.cli import options
from clipvg.cli.commands import Command
from clipvg.cli.output import check_writable
from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError
from clipvg.runtime.files import Json


def _configure(parser: CommandParser) -> None:
    options.add_shared(parser, *options.LABELS)
    parser.add_argument(
        "--out", type=str, required=True, metavar="PAGE.html", help="the page to write"
    )
    parser.add_argument(
        "--per_rule", type=int, default=4, help="labels to show of each source and rule"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of labels to show")


def _run(args: Namespace) -> Json:
    from clipvg.report.html import write_html
    from clipvg.report.labels import label_rules, report_labels

    if args.per_rule < 1:
        raise InputError(f"--per_rule {args.per_rule}: expected a whole number from 1")
    page = check_writable(Path(args.out), reads=args.labels)
    labels = options.read_table(args)
    name = ", ".join(Path(path).name for path in args.labels)
    report = report_labels(labels, name=name, per_rule=args.per_rule, seed=args.seed)
    write_html(report, page)
    rules = label_rules(labels)
    return {
        "labels": len(labels),
        "images": labels.num_images,
        "sources": dict(Counter(source for source, _ in rules)),
        "rules": dict(Counter(f"{source}/{rule}" for source, rule in rules if rule)),
        "page": str(page),
    }


def _describe(result: Json) -> str:
    return f"{result['labels']:,} labels of {result['images']:,} images\npage: {result['page']}"


COMMAND = Command(
    example="clipvg labels show pseudo.parquet --images images/ --out labels.html",
    configure=_configure,
    run=_run,
    describe=_describe,
)
