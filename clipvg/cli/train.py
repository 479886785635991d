"""`clipvg train`: a grounding model from labels. Its options serve `clipvg adapt` as well."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipvg.cli.commands import Command, Result
from clipvg.cli.options import (
    add_device,
    add_fields,
    add_labels,
    add_quiet,
    read_table,
    take_fields,
)
from clipvg.cli.output import pairs
from clipvg.cli.parser import CommandParser
from clipvg.report.numbers import percent

# Fields of the model that the run fills in, or that have an option of their own here.
_NOT_OPTIONS = ("backbone", "pretrained", "trained_on", "published")


def add_training(parser: CommandParser) -> None:
    """Everything that decides a training: labels, model and training options."""
    from clipvg.model.config import GroundingConfig
    from clipvg.training.config import FitConfig

    parser.add_argument("--config", action="config", help="YAML file, or the name of a recipe")
    add_labels(parser)
    parser.add_argument(
        "--validation", type=str, metavar="LABELS", help="labels that decisions are made on"
    )
    parser.add_argument(
        "--out", type=str, required=True, metavar="DIR",
        help="run directory; an interrupted run is continued",
    )  # fmt: skip
    parser.add_argument(
        "--backbone", type=str, default="ViT-B-16", metavar="NAME",
        help="any open_clip ViT, or clipvg-tiny, which comes with the package",
    )  # fmt: skip
    parser.add_argument(
        "--pretrained", type=str | None, default="auto", metavar="TAG",
        help="weights of the backbone; null for random ones, auto for its usual ones",
    )  # fmt: skip
    add_fields(parser, GroundingConfig, skip=_NOT_OPTIONS)
    add_fields(parser, FitConfig)
    add_device(parser)
    add_quiet(parser)


def training_arguments(args: Namespace) -> dict[str, Any]:
    """What `clipvg.train` and `clipvg.adapt` take, from the options of `add_training`."""
    from clipvg.cli.devices import choose_device
    from clipvg.model.config import GroundingConfig
    from clipvg.training.config import FitConfig

    model = take_fields(args, GroundingConfig)
    return {
        "training": FitConfig(**take_fields(args, FitConfig)),
        "model": {name: value for name, value in model.items() if name not in _NOT_OPTIONS},
        "backbone": args.backbone,
        "pretrained": args.pretrained,
        "device": choose_device(args.device),
        "out": args.out,
        "progress": not args.quiet,
        "command": shlex.join(args.command_line),
        "labels": read_table(args),
        "validation": read_table(args, [args.validation]) if args.validation else None,
    }


def run_results(folder: Path, summary: Mapping[str, Any]) -> Result:
    """The summary of a run with the paths that people look for."""
    return {
        **summary,
        "out": str(folder),
        "model": str(folder / "model"),
        "report": str(folder / "report.html"),
    }


def _run(args: Namespace) -> Result:
    from clipvg.api import train
    from clipvg.report import draw_report
    from clipvg.training import distributed

    arguments = training_arguments(args)
    result = train(arguments.pop("labels"), **arguments)
    if distributed.join(arguments["device"]).is_main:
        draw_report(result.folder)
    return run_results(result.folder, result.summary)


def _describe(result: Mapping[str, Any]) -> str:
    counts, best, last = result["parameters"], result["best"], result["last"]
    facts = {"trainable parameters": f"{counts['trainable']:,} ({percent(counts['share'])})"}
    if last:
        facts["last loss"] = f"{last['loss']:.4f} (epoch {last['epoch']})"
    if best:
        facts["best validation Acc@0.5"] = f"{percent(best['accuracy'])} (epoch {best['epoch']})"
    facts |= {"time": f"{result['seconds']:.0f} s"}
    return pairs(facts | {name: result[name] for name in ("model", "report")})


COMMAND = Command(
    name="train",
    example="clipvg train unc_train.pth --images train2014 --validation unc_val.pth "
    "--config supervised --out runs/refcoco_supervised",
    configure=add_training,
    run=_run,
    describe=_describe,
    kept="the last checkpoint is kept in --out; run the same command again to go on.",
)
