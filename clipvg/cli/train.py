"""`clipvg train`: train a grounding model on labels; `clipvg adapt` shares its options."""

from __future__ import annotations

import shlex
from argparse import Namespace
from pathlib import Path

from clipvg.cli.commands import Command, check_writable, pairs
from clipvg.cli.options import (
    LABELS,
    add_group,
    add_shared,
    files_of,
    read_table,
    read_validation,
    take_group,
    warn_of_findings,
)
from clipvg.cli.parser import CommandParser
from clipvg.report.numbers import percent
from clipvg.runtime.files import Json
from clipvg.runtime.gate import check_local

# Arguments that the help of both commands lists first.
FIRST = "labels images validation out config backbone device training.epochs training.batch_size"


# Files that a run writes beside its stages and model.
RUN_FILES = ("labels.parquet", "selected.parquet", "corrections.parquet", "metrics.jsonl")


def add_training(parser: CommandParser, *, needs_labels: bool = True) -> None:
    """Add everything that determines a training: labels, model and training options."""
    from clipvg.model.config import ModelOptions
    from clipvg.training.config import FitConfig

    parser.add_argument("--config", action="config", help="YAML file, or the name of a recipe")
    add_shared(parser, *LABELS, needs_labels=needs_labels)
    parser.add_argument("--validation", metavar="LABELS", help="annotated labels that decide")
    parser.add_argument(
        "--validation_split", metavar="NAME", help="the split of --validation to take, such as val"
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR",
        help="run directory; an interrupted run continues there",
    )  # fmt: skip
    parser.add_argument(
        "--backbone", default="ViT-B-16", metavar="NAME",
        help="any ViT of open_clip, or clipvg-tiny, which comes with the package",
    )  # fmt: skip
    add_shared(parser, "--device", "--quiet")
    add_group(parser, "model", ModelOptions, title="everything but the backbone")
    add_group(parser, "training", FitConfig, title="options of every training")


def training_arguments(args: Namespace) -> Json:
    """Return the arguments of `clipvg.train` and `clipvg.adapt`, from the options added above."""
    from clipvg.model.config import ModelOptions
    from clipvg.training.config import FitConfig

    # Errors in options and labels are reported before torch is loaded.
    further = [*(getattr(args, "labelled", None) or []), *filter(None, [args.validation])]
    read = files_of([*args.labels, *further])
    out = check_local(args.out)  # messages name it as it was typed
    for name in RUN_FILES:
        check_writable(out / name, reads=read)
    given = {
        "training": take_group(args, "training", FitConfig),
        "model": take_group(args, "model", ModelOptions),
    }
    labels, validation = read_table(args, one_split=True), read_validation(args)
    warn_of_findings(labels, validation)
    given |= {"labels": labels, "validation": validation}
    from clipvg.api import RunOptions
    from clipvg.runtime.distributed import choose_device

    return {
        **given,
        "backbone": args.backbone,
        "out": args.out,
        "run": RunOptions(
            device=choose_device(args.device),
            on_error=args.on_error,
            progress=not args.quiet,
            command=shlex.join(args.command_line),
        ),
    }


def run_results(folder: Path, summary: Json) -> Json:
    """Return the summary of a run with the paths of its folder, model and report."""
    return {
        **summary,
        "out": str(folder),
        "model": str(folder / "model"),
        "report": str(folder / "report.html"),
    }


def _run(args: Namespace) -> Json:
    arguments = training_arguments(args)
    from clipvg.api import train

    result = train(arguments.pop("labels"), **arguments)
    return run_results(result.folder, result.summary)


def _describe(result: Json) -> str:
    counts, best, last = result["parameters"], result["best"], result["last"]
    facts = {"trainable parameters": f"{counts['trainable']:,} ({percent(counts['share'])})"}
    if last:
        facts["last loss"] = f"{last['loss']:.4f} (epoch {last['epoch']})"
    if best:
        facts["best validation Acc@0.5"] = f"{percent(best['accuracy'])} (epoch {best['epoch']})"
    facts |= {"time": f"{result['seconds']:.0f} s"}
    return pairs(facts | {name: result[name] for name in ("model", "report")})


COMMAND = Command(
    example="clipvg train unc_train.pth --images train2014 --validation unc_val.pth "
    "--config supervised --out runs/refcoco_supervised",
    configure=add_training,
    run=_run,
    is_shared=True,
    describe=_describe,
    kept="the last checkpoint is kept in --out; run the same command again to go on.",
    first=f"{FIRST} training.lr",
)
