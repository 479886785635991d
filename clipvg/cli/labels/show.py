"""`clipvg labels show`: draw a page that shows what is in label files."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from pathlib import Path

from clipvg.cli import options
from clipvg.cli.commands import Command, check_writable
from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError
from clipvg.runtime.files import Json


def _configure(parser: CommandParser) -> None:
    from clipvg.report.choice import Choice

    options.add_shared(parser, *options.LABELS)
    parser.add_argument("--out", required=True, metavar="PAGE.html", help="the page to write")
    options.add_group(parser, "", Choice, title="which labels to show")
    options.add_shared(parser, "--checkpoint", needed=False)
    options.add_shared(parser, "--device")


def _run(args: Namespace) -> Json:
    from clipvg.report.choice import Choice
    from clipvg.report.html import write_html
    from clipvg.report.labels import label_rules, report_labels

    choice = options.take_group(args, "", Choice)
    if args.device and not args.checkpoint:
        raise InputError("--device is where a --checkpoint runs; leave it out")
    page = check_writable(
        Path(args.out), (".html", ".htm", ""), reads=options.files_of(args.labels)
    )
    labels = options.read_table(args)
    model = None
    if args.checkpoint is not None:
        from clipvg.model import load
        from clipvg.runtime.distributed import choose_device
        from clipvg.training.usable import short_labels

        model = load(args.checkpoint).to(choose_device(args.device))
        labels = short_labels(labels, [model.tokenizer], on_error=args.on_error)
    name = ", ".join(Path(path).name for path in args.labels)
    report = report_labels(labels, name=name, choice=choice, model=model)
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
    example="clipvg labels show scored.parquet --images images/ --worst 50 --out worst.html",
    configure=_configure,
    run=_run,
    describe=_describe,
)
