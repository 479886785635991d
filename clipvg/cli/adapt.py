"""`clipvg adapt`: self-paced adapting."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from clipvg.cli.commands import Command, Result
from clipvg.cli.options import add_fields, take_fields
from clipvg.cli.output import pairs, table
from clipvg.cli.parser import CommandParser
from clipvg.cli.train import add_training, run_results, training_arguments
from clipvg.report.numbers import percent, points


def _configure(parser: CommandParser) -> None:
    from clipvg.curriculum import SSAConfig

    add_training(parser)
    add_fields(parser, SSAConfig, skip=("seed",))


def _run(args: Namespace) -> Result:
    from clipvg.api import adapt
    from clipvg.curriculum import SSAConfig

    # One seed: that of the training options is the curriculum's too.
    curriculum = SSAConfig(**take_fields(args, SSAConfig))
    arguments = training_arguments(args)
    result = adapt(arguments.pop("labels"), curriculum=curriculum, **arguments)
    return run_results(result.folder, result.summary)


def _describe(result: Mapping[str, Any]) -> str:
    base = result["no_curriculum"]["score"]
    rows = [_row(stage, base, result["threshold"]) for stage in result["stages"]]
    facts = {
        "threshold h": f"{result['threshold']:g}",
        "labels kept": f"{result['kept']:,} of {result['no_curriculum']['kept']:,}",
        "gain": f"{points(result['gain'])} points" if result["gain"] is not None else "–",
        "model": result["model"],
        "report": result["report"],
    }
    return "\n".join(
        [
            table(("trained on", "labels", "validation", "gain"), rows),
            result["validation"]["statement"],
            pairs(facts),
        ]
    )


def _row(stage: Mapping[str, Any], base: float | None, chosen: float) -> tuple[str, ...]:
    h, score = stage["threshold"], stage["score"]
    name = "all labels" if h is None else f"r ≥ {h:g}{' (chosen)' if h == chosen else ''}"
    has_gain = h is not None and score is not None and base is not None
    return name, f"{stage['kept']:,}", percent(score), points(score - base) if has_gain else ""


COMMAND = Command(
    name="adapt",
    example="clipvg adapt unc_train_pseudo.pth --images train2014 --validation unc_val.pth "
    "--config unsupervised --out runs/refcoco",
    configure=_configure,
    run=_run,
    describe=_describe,
    kept="finished stages are kept in --out; run the same command again to go on.",
)
