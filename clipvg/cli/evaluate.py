"""`clipvg evaluate`: accuracy of a model on labels."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Literal

from clipvg.cli.commands import Command
from clipvg.cli.model import add_model, check_model, make_grounder
from clipvg.cli.options import (
    LABELS,
    add_batch_size,
    add_shared,
    files_of,
    read_table,
)
from clipvg.cli.output import pairs
from clipvg.cli.parser import CommandParser
from clipvg.cli.predict_table import AnswerFormat, check_answers
from clipvg.errors import InputError
from clipvg.report.grid import Markup, draw_grid
from clipvg.report.numbers import percent
from clipvg.runtime.files import Json

if TYPE_CHECKING:
    from clipvg.labels import LabelTable
    from clipvg.model import GroundingModel
    from clipvg.training import Evaluation
    from clipvg.training.ranked import Ranker

By = Literal["size", "pixels", "length", "kind"]


def _configure(parser: CommandParser) -> None:
    add_shared(parser, *LABELS)
    add_model(
        parser,
        observations="a --checkpoint ranks these boxes too, for R@1, R@5 and R@10; a --grounder "
        "chooses among them",
    )
    parser.add_argument(
        "--against", type=Literal["box", "truth"], default="box",
        help="compare with the boxes of the labels, or with their true boxes",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=str, metavar="FILE",
        help="also write what the model answers to each label, as `clipvg predict TABLE` does, "
        "with its IoU: .parquet, .jsonl, .csv, .tsv or .json",
    )  # fmt: skip
    parser.add_argument(
        "--format", type=AnswerFormat | None,
        help="format of --out where not by the ending: coco or label-studio, both .json",
    )  # fmt: skip
    parser.add_argument(
        "--table", type=Markup | None, metavar="markdown|latex",
        help="print a row for a table of results, as Markdown or LaTeX",
    )  # fmt: skip
    parser.add_argument(
        "--by", type=By, nargs="+", default=[], metavar="GROUP",
        help="with a row for each group too, in a table: by size of the box (small, medium, "
        "large), its pixels, length of the expression in words or kind of it",
    )  # fmt: skip
    add_shared(parser, "--device")
    add_batch_size(parser, 64)
    parser.add_argument("--num_workers", type=int, default=0, help="threads that decode images")
    add_shared(parser, "--quiet")


def _run(args: Namespace) -> Json:
    check_model(args)
    for name, usual in {"batch_size": 64, "num_workers": 0}.items():
        if args.grounder and getattr(args, name) != usual:
            raise InputError(f"--{name} is for a model of --checkpoint, and not for --grounder")
    if args.format and not args.out:
        raise InputError(f"--format {args.format} needs a file for the answers; give --out FILE")
    if args.out:
        check_answers(args.out, args.format, None, reads=files_of(args.labels))
    labels = read_table(args, one_split=True)  # before torch and the model are loaded
    if args.grounder:
        return _ground(args, labels)
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
    evaluation = (
        _answer(args, model, labels)
        if args.out
        else evaluate(
            model,
            labels,
            against=args.against,
            batch_size=args.batch_size,
            num_workers=args.num_workers,
            progress=not args.quiet,
        )
    )
    left_out = count - len(labels)
    more: Json = {"out": args.out} if args.out else {}
    if args.observations:
        more["recall"] = _recall(args, model, labels)
    result = {"checkpoint": args.checkpoint, "left_out": left_out, **evaluation.to_dict(), **more}
    return _with_table(result, args)


def _ground(args: Namespace, labels: LabelTable) -> Json:
    """Evaluate a grounder that was not trained here, and keep its answers where that is wanted."""
    from contextlib import ExitStack

    from clipvg.labels.questions import write_answers
    from clipvg.reliability import Context
    from clipvg.rescoring.store import open_store
    from clipvg.runtime import distributed
    from clipvg.training.evaluate import check_against
    from clipvg.training.usable import usable_labels

    check_against(labels, args.against)
    count, grounder = len(labels), make_grounder(args)
    labels = usable_labels(
        labels, None, on_error=args.on_error, device=grounder.place, progress=not args.quiet
    )
    context = Context(on_error="raise", progress=not args.quiet)
    with ExitStack() as opened:
        store, out = None, None
        if args.out:
            out, folder = check_answers(args.out, args.format, None, reads=files_of(args.labels))
            device = grounder.place or distributed.choose_device("cpu")
            store = opened.enter_context(open_store(folder, device, output=out))
        found = grounder.ground(labels, context, against=args.against, store=store)
        evaluation = grounder.judge(found, labels, args.against)
        if out and distributed.join(grounder.place).is_main:
            columns = {**found.columns(), "iou": evaluation.iou}
            write_answers(out, labels, columns, found.reasons, format=args.format)
    result: Json = {
        "grounder": args.grounder,
        "left_out": count - len(labels),
        **evaluation.to_dict(),
        "unanswered": sum(why is not None for why in found.reasons),
    }
    result |= {"out": args.out} if args.out else {}
    return _with_table(result, args)


def _recall(args: Namespace, model: Ranker, labels: LabelTable) -> Json:
    """How soon the right one comes among the detections of an image, ranked."""
    import numpy as np

    from clipvg.pseudo.reading import read_observations
    from clipvg.training.ranked import measure_recall

    candidates = {
        seen.image: np.array([each.box for each in seen.detections], np.float32).reshape(-1, 4)
        for seen in read_observations(args.observations, images=args.images)
    }
    return measure_recall(model, labels, candidates, progress=not args.quiet).to_dict()


def _answer(args: Namespace, model: GroundingModel, labels: LabelTable) -> Evaluation:
    """Evaluate the answers that `clipvg predict` gives, and keep them."""
    from clipvg.labels.questions import write_answers
    from clipvg.rescoring.answers import answer_labels
    from clipvg.rescoring.store import open_store
    from clipvg.runtime import distributed
    from clipvg.training.evaluate import check_against, compare

    check_against(labels, args.against)
    out, folder = check_answers(args.out, args.format, None, reads=files_of(args.labels))
    with open_store(folder, model.device, output=out) as store:
        found = answer_labels(
            model,
            labels,
            against=args.against,
            batch_size=args.batch_size,
            progress=not args.quiet,
            store=store,
        )
        if why := next(filter(None, found.reasons), None):  # gone since it was looked at
            raise InputError(why)
        evaluation = compare(found, labels, args.against)
        if distributed.join(model.device).is_main:
            columns = {**found.columns(), "iou": evaluation.iou}
            write_answers(out, labels, columns, found.reasons, format=args.format)
    return evaluation


def _named(result: Json) -> dict[str, float | None]:
    """The shares that people look for, by their names; of a group those that are the same."""
    named = {
        "Acc@0.25": result["acc_0.25"],
        "Acc@0.5": result["acc_0.5"],
        "Acc@0.75": result["acc_0.75"],
        "Acc@0.9": result["acc_0.9"],
        "Acc@0.5:0.95": result["acc_0.5:0.95"],
        "mean IoU": result["mean_iou"],
    }
    if "any_box" in result:
        named["Acc@0.5, any box"] = result["any_box"]["acc_0.5"]
    for protocol in ("merged_box", "any_box"):
        for key, share in result.get("recall", {}).get(protocol, {}).items():
            named[f"R@{key[2:]}, {protocol.replace('_', ' ')}"] = share
    return named


def _with_table(result: Json, args: Namespace) -> Json:
    """The result, and where it is wanted a table of it and its groups, in percent."""
    if not (args.table or args.by):
        return result
    named = _named(result)
    groups = {
        f"{by}: {name}": group for by in args.by for name, group in result[f"by_{by}"].items()
    }
    rows = []
    for name, each in {result.get("checkpoint") or result["grounder"]: result, **groups}.items():
        shares = _named(each)
        found = [shares.get(column) for column in named]
        cells = ["–" if share is None else f"{100 * share:.2f}" for share in found]
        rows.append([name, f"{each['count']:,}", *cells])
    table = draw_grid(["model", "labels", *named], rows, args.table or "markdown")
    return {**result, "table": table}


def _describe(result: Json) -> str:
    if "table" in result:
        return str(result["table"])
    lines = {name: percent(share) for name, share in _named(result).items()}
    lines["labels"] = f"{result['count']:,}"
    if result.get("unanswered"):
        lines["without a box, which count as missed"] = f"{result['unanswered']:,}"
    if "out" in result:
        lines["written"] = result["out"]
    return pairs(lines)


COMMAND = Command(
    example="clipvg evaluate 'refs(unc).p' --split testA --images train2014 "
    "--checkpoint runs/refcoco/model --json",
    configure=_configure,
    run=_run,
    is_shared=True,
    describe=_describe,
    kept="with --out, answers about finished images are kept beside it; run the same command again "
    "to go on.",
)
