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
    from clipvg.api.adapt_run import Method
    from clipvg.curriculum import Beyond, MSAConfig

    add_training(parser)
    parser.add_argument(
        "--method", type=Method, default="auto",
        help="ssa: all labels as one source; msa: source by source; auto: msa for several sources",
    )  # fmt: skip
    parser.add_argument(
        "--scored_by", type=str, nargs="+", default=[], metavar="NAME",
        help="take the scores reliability.NAME that the labels have; no measurer is trained",
    )  # fmt: skip
    parser.add_argument(
        "--continue_from", type=str, metavar="RUN",
        help="the --out of a finished run, to go on with the LABELS of new sources",
    )  # fmt: skip
    add_fields(parser, MSAConfig, skip=("seed",))
    parser.add_argument(
        "--measures", type=str, nargs="+", default=[], metavar="METHOD",
        help="further measures, [COLUMN=]METHOD[,option=value], as of clipvg score --method; the "
        "last one selects beside the measurers, e.g. weighted_mean,geometric=true",
    )  # fmt: skip
    add_fields(parser, Beyond, skip=("measures",))


def _run(args: Namespace) -> Result:
    from clipvg.api import Sources, adapt
    from clipvg.curriculum import Beyond, MSAConfig

    arguments = training_arguments(args)
    # One seed: that of the training options is the search's too.
    search = MSAConfig(**take_fields(args, MSAConfig))
    result = adapt(
        arguments.pop("labels"),
        search=search,
        method=args.method,
        sources=Sources(scored_by=args.scored_by, continue_from=args.continue_from),
        beyond=Beyond(**take_fields(args, Beyond)),
        **arguments,
    )
    return run_results(result.folder, result.summary)


def _describe(result: Mapping[str, Any]) -> str:
    base = result["no_curriculum"] and result["no_curriculum"]["score"]
    is_ssa = result["method"] == "ssa"
    rows = _ssa_rows(result, base) if is_ssa else _msa_rows(result, base)
    rows += [
        _row(_variant_name(each, result["beyond"]["chosen"]), each, base)
        for each in (result.get("beyond") or {"variants": []})["variants"][1:]
    ]
    facts = {
        "threshold h": f"{result['threshold']:g}" if is_ssa else _thresholds(result),
        "labels kept": f"{result['kept']:,} of {result['labels']['count']:,}",
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


def _ssa_rows(result: Mapping[str, Any], base: float | None) -> list[tuple[str, ...]]:
    rows = []
    for stage in result["stages"]:
        h = stage["threshold"]
        chosen = " (chosen)" if h == result["threshold"] else ""
        name = "all labels" if h is None else f"r ≥ {h:g}{chosen}"
        rows.append(_row(name, stage, None if h is None else base))
    return rows


def _msa_rows(result: Mapping[str, Any], base: float | None) -> list[tuple[str, ...]]:
    rows = []
    for stage in result["stages"]:
        is_measurer = stage["name"] == "measurer"
        name = f"all of {stage['measurer']}" if is_measurer else stage["name"]
        rows.append(_row(name, stage, base if stage["name"] == "continued" else None))
    for step in result["steps"]:
        name = f"+ {step['source']} with r ≥ {step['threshold']:g} by {step['measurer']}"
        rows.append(_row(name, {"kept": step["total"], "score": step["score"]}, base))
    return rows


def _variant_name(variant: Mapping[str, Any], chosen: str) -> str:
    corrected = f" {variant['corrected']:,} boxes" if "corrected" in variant else ""
    return f"{variant['name']}{corrected}{' (chosen)' if variant['name'] == chosen else ''}"


def _thresholds(result: Mapping[str, Any]) -> str:
    return ", ".join(f"{step['source']} {step['threshold']:g}" for step in result["steps"])


def _row(name: str, stage: Mapping[str, Any], base: float | None) -> tuple[str, ...]:
    score = stage["score"]
    gain = "" if base is None or score is None else points(score - base)
    return name, f"{stage['kept']:,}", percent(score), gain


COMMAND = Command(
    name="adapt",
    example="clipvg adapt unc_train_pseudo.pth --images train2014 --validation unc_val.pth "
    "--config unsupervised --out runs/refcoco",
    configure=_configure,
    run=_run,
    describe=_describe,
    kept="finished stages are kept in --out; run the same command again to go on.",
)
