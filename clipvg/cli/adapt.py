"""`clipvg adapt`: adapt by self-paced selection of labels (SSA, MSA)."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Literal

from clipvg.cli.commands import Command, pairs, table
from clipvg.cli.failure import UsageError
from clipvg.cli.options import (
    add_group,
    add_shared,
    check_similarity,
    files_of,
    read_table,
    take_group,
    warn_of_findings,
)
from clipvg.cli.parser import CommandParser
from clipvg.cli.train import FIRST, add_training, run_results, training_arguments
from clipvg.errors import InputError, printable
from clipvg.report.numbers import percent, points
from clipvg.runtime.files import Json


def _configure(parser: CommandParser) -> None:
    from clipvg.curriculum import Beyond, MSAConfig

    add_training(parser, needs_labels=False)
    parser.add_argument(
        "--labelled", nargs="+", default=[], metavar="FILE",
        help="annotated labels, for semi-supervised adapting: the measurer is trained on them "
        "alone, every other model on them and on the reliable labels of --unlabelled",
    )  # fmt: skip
    parser.add_argument(
        "--unlabelled", nargs="+", default=[], metavar="FILE",
        help="pseudo-labels to go with --labelled, in place of LABELS",
    )  # fmt: skip
    parser.add_argument(
        "--method", type=Literal["auto", "ssa", "msa"], default="auto",
        help="ssa: all labels are one source; msa: source by source; auto: msa if there are "
        "several sources",
    )  # fmt: skip
    parser.add_argument(
        "--scored_by", nargs="+", default=[], metavar="NAME",
        help="use the labels' own scores reliability.NAME; no measurer is trained",
    )  # fmt: skip
    parser.add_argument(
        "--continue_from", metavar="RUN",
        help="--out of a finished run to continue; LABELS are then those of new sources",
    )  # fmt: skip
    add_shared(parser, "--similarity")
    # One seed: the search uses that of the trainings.
    add_group(parser, "search", MSAConfig, title="for the reliability threshold", skip=("seed",))
    add_group(parser, "beyond", Beyond, title="extensions of the published method")


def _run(args: Namespace) -> Json:
    from clipvg.curriculum import Beyond, MSAConfig
    from clipvg.measures import refuse_measures

    if file := args.files.get("beyond.measures"):
        refuse_measures(args.beyond.measures, file)
    _check_sides(args)
    search = take_group(args, "search", MSAConfig, seed=args.training.seed)
    beyond = take_group(args, "beyond", Beyond)
    similarity = check_similarity(args)
    arguments = training_arguments(args)
    labelled = read_table(args, args.labelled, one_split=True) if args.labelled else None
    if labelled is not None:
        warn_of_findings(labelled, arguments["validation"])
    from clipvg.api import Curriculum, Sources, adapt

    result = adapt(
        arguments.pop("labels"),
        curriculum=Curriculum(
            method=args.method,
            search=search,
            beyond=beyond,
            similarity=similarity,
            sources=Sources(
                scored_by=args.scored_by, continue_from=args.continue_from, labelled=labelled
            ),
        ),
        **arguments,
    )
    return run_results(result.folder, result.summary)


def _check_sides(args: Namespace) -> None:
    """Use --unlabelled as LABELS; refuse --labelled or --unlabelled without the other.

    Raises:
        UsageError: there are no labels, one of the two is missing, or LABELS stand beside them.
        InputError: a file is given as both.
    """
    if not (args.labelled or args.unlabelled):
        if not args.labels:
            raise UsageError("missing LABELS; clipvg adapt --help shows an example")
        return
    if args.labels:
        raise UsageError(
            f"LABELS ({args.labels[0]}) beside --labelled and --unlabelled; name pseudo-labels as "
            "--unlabelled"
        )
    if not args.unlabelled:
        raise UsageError(
            "--labelled without --unlabelled; name the pseudo-labels, or train on annotated labels "
            "with clipvg train"
        )
    if not args.labelled:
        raise UsageError(
            "--unlabelled without --labelled; name the annotated labels, or adapt to "
            "pseudo-labels alone as LABELS"
        )
    sides = [
        {Path(file).resolve(): file for file in files_of(paths)}
        for paths in (args.labelled, args.unlabelled)
    ]
    if both := sides[0].keys() & sides[1].keys():
        raise InputError(
            f"{sides[0][min(both)]} is given as --labelled and as --unlabelled; its boxes are "
            "annotated or they are not"
        )
    args.labels = args.unlabelled


def _describe(result: Json) -> str:
    from clipvg.curriculum import RunSummary

    summary = RunSummary.from_dict(dict(result))
    base = summary.score_before
    rows = []
    for each in summary.stages:
        name = f"all of {each.measurer}" if each.measurer else each.name
        name = summary.first_name if name == "measurer" else name
        rows.append(_row(name, each.kept, each.score, base if name == "continued" else None))
    if summary.method == "ssa":
        thresholds = f"{summary.steps[0].threshold:g}"
        for each in summary.steps[0].stages:
            chosen = " (chosen)" if each.threshold == summary.steps[0].threshold else ""
            rows.append(_row(f"r ≥ {each.threshold:g}{chosen}", each.kept, each.score, base))
    else:
        thresholds = ", ".join(f"{step.source} {step.threshold:g}" for step in summary.steps)
        for step in summary.steps:
            name = f"+ {step.source} with r ≥ {step.threshold:g} by {step.measurer}"
            rows.append(_row(name, step.total, step.score, base))
    beyond = summary.beyond
    for variant in beyond.variants[1:] if beyond else ():
        chosen = " (chosen)" if beyond and variant.name == beyond.chosen else ""
        boxes = "" if variant.corrected is None else f" {variant.corrected:,} boxes"
        rows.append(_row(f"{variant.name}{boxes}{chosen}", variant.kept, variant.score, base))
    facts = {
        "threshold h": thresholds,
        "labels kept": f"{summary.kept:,} of {summary.labels.count:,}",
        "gain": "–" if summary.gain is None else f"{points(summary.gain)} points",
        "model": result["model"],
        "report": result["report"],
    }
    return "\n".join(
        [
            table(("trained on", "labels", "validation", "gain"), rows),
            *map(printable, summary.notes),
            summary.validation.statement,
            *([summary.folds.statement] if summary.folds else []),
            pairs(facts),
        ]
    )


def _row(name: str, kept: int, score: float | None, base: float | None) -> tuple[str, ...]:
    gain = "" if base is None or score is None else points(score - base)
    return name, f"{kept:,}", percent(score), gain


COMMAND = Command(
    example="clipvg adapt unc_train_pseudo.pth --images train2014 --validation unc_val.pth "
    "--config unsupervised --out runs/refcoco",
    configure=_configure,
    run=_run,
    is_shared=True,
    describe=_describe,
    kept="finished stages are kept in --out; run the same command again to go on.",
    first=f"{FIRST} method",
)
