"""`clipvg evaluate`: measure the accuracy of a model on labels."""

from __future__ import annotations

from argparse import Namespace
from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

from clipvg.cli.commands import Command, pairs
from clipvg.cli.model import add_model, check_model, make_grounder
from clipvg.cli.options import (
    LABELS,
    add_batch_size,
    add_shared,
    files_of,
    read_table,
)
from clipvg.cli.parser import CommandParser
from clipvg.cli.predict_table import AnswerFile, AnswerFormat
from clipvg.errors import InputError
from clipvg.report.numbers import Markup, draw_grid, percent
from clipvg.runtime.files import Json

if TYPE_CHECKING:
    from clipvg.labels import LabelTable
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
        "--out", metavar="FILE",
        help="also write the model's answer to each label and its IoU, as `clipvg predict TABLE` "
        "does: .parquet, .jsonl, .csv, .tsv or .json",
    )  # fmt: skip
    parser.add_argument(
        "--format", type=AnswerFormat | None,
        help="format of --out, if not by its ending: coco or label-studio, both .json",
    )  # fmt: skip
    parser.add_argument(
        "--table", type=Markup | None, metavar="markdown|latex",
        help="print a row for a table of results, as Markdown or LaTeX",
    )  # fmt: skip
    parser.add_argument(
        "--by", type=By, nargs="+", default=[], metavar="GROUP",
        help="add a row for each group: by size of the box (small, medium, large), its pixels, "
        "length of the expression in words, or kind of expression",
    )  # fmt: skip
    add_shared(parser, "--device")
    add_batch_size(parser, 64)
    parser.add_argument("--num_workers", type=int, default=0, help="threads that decode images")
    add_shared(parser, "--quiet")


def _run(args: Namespace) -> Json:
    answers = _check_options(args)
    labels = read_table(args, one_split=True)  # before torch and the model are loaded
    from clipvg.training.evaluate import check_against

    check_against(labels, args.against)
    result = (_ground if args.grounder else _evaluate)(args, labels, answers)
    result |= {"out": args.out} if args.out else {}
    return _with_table(result, args)


def _check_options(args: Namespace) -> AnswerFile | None:
    """Refuse options that conflict; return the file for the answers, if any."""
    check_model(args)
    for name, usual in {"batch_size": 64, "num_workers": 0}.items():
        if args.grounder and getattr(args, name) != usual:
            raise InputError(f"--{name} is for --checkpoint, not for --grounder; leave it out")
    if args.format and not args.out:
        raise InputError(f"--format {args.format} needs a file for the answers; give --out FILE")
    if args.out and args.num_workers:
        raise InputError("--num_workers is for evaluating without --out; leave one of them out")
    return AnswerFile.of(args, reads=files_of(args.labels)) if args.out else None


def _ground(args: Namespace, labels: LabelTable, answers: AnswerFile | None) -> Json:
    """Evaluate a grounder that was not trained here, and write its answers if requested."""
    from clipvg.reliability import Context
    from clipvg.training.usable import usable_labels

    grounder, progress = make_grounder(args), not args.quiet
    place = grounder.place
    usable = usable_labels(labels, None, on_error=args.on_error, device=place, progress=progress)
    context = Context(on_error="raise", progress=progress)
    with answers.open_store(place) if answers else nullcontext() as store:
        found = grounder.ground(usable, context, against=args.against, store=store)
        evaluation = grounder.judge(found, usable, args.against)
        if answers:
            answers.write(usable, found, place, iou=evaluation.iou)
    return {
        "grounder": args.grounder,
        "left_out": len(labels) - len(usable),
        **evaluation.to_dict(),
        "unanswered": sum(why is not None for why in found.reasons),
    }


def _evaluate(args: Namespace, labels: LabelTable, answers: AnswerFile | None) -> Json:
    """Evaluate a model; if answers are requested, write those of `clipvg predict` and use them."""
    from clipvg.model import load
    from clipvg.rescoring.answers import answer_labels
    from clipvg.runtime.distributed import choose_device
    from clipvg.training import evaluate
    from clipvg.training.evaluate import compare
    from clipvg.training.usable import usable_labels

    model = load(args.checkpoint).to(choose_device(args.device))
    place, tokenizer = model.device, model.tokenizer
    common: Json = {"progress": not args.quiet}
    usable = usable_labels(labels, tokenizer, on_error=args.on_error, device=place, **common)
    common |= {"against": args.against, "batch_size": args.batch_size}
    if answers:
        with answers.open_store(place) as store:
            found = answer_labels(model, usable, store=store, **common)
            if why := next(filter(None, found.reasons), None):  # gone since it was checked
                raise InputError(why)
            evaluation = compare(found, usable, args.against)
            answers.write(usable, found, place, iou=evaluation.iou)
    else:
        evaluation = evaluate(model, usable, num_workers=args.num_workers, **common)
    left_out = len(labels) - len(usable)
    result = {"checkpoint": args.checkpoint, "left_out": left_out, **evaluation.to_dict()}
    return result | ({"recall": _recall(args, model, usable)} if args.observations else {})


def _recall(args: Namespace, model: Ranker, labels: LabelTable) -> Json:
    """Return how often the correct box is among the top-ranked detections of an image."""
    import numpy as np

    from clipvg.pseudo.reading import read_observations
    from clipvg.training.ranked import measure_recall

    candidates = {
        seen.image: np.array([each.box for each in seen.detections], np.float32).reshape(-1, 4)
        for seen in read_observations(args.observations, images=args.images)
    }
    return measure_recall(model, labels, candidates, progress=not args.quiet).to_dict()


def _named(result: Json) -> dict[str, float | None]:
    """Return the metrics by display name; a group of labels has the same ones or fewer."""
    levels = ("0.25", "0.5", "0.75", "0.9", "0.5:0.95")
    named = {f"Acc@{level}": result[f"acc_{level}"] for level in levels}
    named["mean IoU"] = result["mean_iou"]
    if "any_box" in result:
        named["Acc@0.5, any box"] = result["any_box"]["acc_0.5"]
    for protocol in ("merged_box", "any_box"):
        for key, share in result.get("recall", {}).get(protocol, {}).items():
            named[f"R@{key[2:]}, {protocol.replace('_', ' ')}"] = share
    return named


def _with_table(result: Json, args: Namespace) -> Json:
    """Return the result, with a table of it and its groups in percent if requested."""
    if not (args.table or args.by):
        return result
    named = _named(result)
    groups = {
        f"{by}: {name}": group
        for by in args.by
        for name, group in result[f"by_{by}"].items()
        if group["count"]
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
