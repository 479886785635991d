"""`clipvg evaluate`: accuracy of a model on labels."""

from __future__ import annotations

from argparse import Namespace
from typing import Literal

from clipvg.cli.commands import Command
from clipvg.cli.options import LABELS, add_batch_size, add_shared, read_table
from clipvg.cli.output import pairs
from clipvg.cli.parser import CommandParser
from clipvg.report.numbers import percent
from clipvg.runtime.files import Json


def _configure(parser: CommandParser) -> None:
    add_shared(parser, *LABELS)
    add_shared(parser, "--checkpoint")
    parser.add_argument(
        "--against", type=Literal["box", "truth"], default="box",
        help="compare with the boxes of the labels, or with their true boxes",
    )  # fmt: skip
    add_shared(parser, "--device")
    add_batch_size(parser, 64)
    parser.add_argument("--num_workers", type=int, default=0, help="threads that decode images")
    add_shared(parser, "--quiet")


def _run(args: Namespace) -> Json:
    labels = read_table(args, one_split=True)  # before torch and the model are loaded
    from clipvg.cli.devices import choose_device
    from clipvg.model import load
    from clipvg.training import evaluate
    from clipvg.training.usable import usable_labels

    model = load(args.checkpoint).to(choose_device(args.device))
    count = len(labels)
    labels = usable_labels(
        labels,
        model.tokenizer,
        on_error=args.on_error,
        device=model.device,
        progress=not args.quiet,
    )
    evaluation = evaluate(
        model,
        labels,
        against=args.against,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        progress=not args.quiet,
    )
    left_out = count - len(labels)
    return {"checkpoint": args.checkpoint, "left_out": left_out, **evaluation.to_dict()}


def _describe(result: Json) -> str:
    names = {"acc_0.25": "Acc@0.25", "acc_0.5": "Acc@0.5", "acc_0.75": "Acc@0.75"}
    lines = {name: percent(result[key]) for key, name in names.items() if key in result}
    lines["mean IoU"] = percent(result["mean_iou"])
    lines["labels"] = f"{result['count']:,}"
    return pairs(lines)


COMMAND = Command(
    example="clipvg evaluate 'refs(unc).p' --split testA --images train2014 "
    "--checkpoint runs/refcoco/model --json",
    configure=_configure,
    run=_run,
    is_shared=True,
    describe=_describe,
)
