"""`clipvg demo`: run the whole method offline."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from statistics import mean

from clipvg.cli.commands import Command, check_writable, table
from clipvg.cli.options import add_shared
from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError
from clipvg.report.numbers import listed, percent, points
from clipvg.runtime.files import Json
from clipvg.runtime.gate import check_local


def _configure(parser: CommandParser) -> None:
    parser.add_argument("--out", default="runs/demo", metavar="DIR", help="folder of the run")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds to run")
    add_shared(parser, "--quiet")


def _run(args: Namespace) -> Json:
    from clipvg.demo import run_demo

    if args.seeds < 1:
        raise InputError(f"--seeds is {args.seeds}; expected at least 1")
    out = check_local(args.out)
    check_writable(out / "report.html")
    summary = run_demo(out, seeds=args.seeds, progress=not args.quiet)
    return {**summary, "report": str(out / "report.html")}


def _describe(result: Json) -> str:
    accuracy: Mapping[str, Sequence[float]] = result["acc_0.5"]
    base = mean(accuracy["all_labels"])
    names = {"all_labels": "all labels (no SSA)", "ssa": "SSA", "clean_labels": "clean labels"}
    rows = [
        (name, percent(mean(accuracy[key])), points(mean(accuracy[key]) - base) if number else "")
        for number, (key, name) in enumerate(names.items())
    ]
    return "\n".join(
        [
            table(("trained on", "Acc@0.5", "gain"), rows),
            f"AUROC of reliability against truth: {percent(mean(result['auroc']))}",
            f"threshold h: {listed(result['threshold'])}; labels kept: {listed(result['kept'])}",
            f"time: {result['seconds']:.0f} s",
            f"report: {result['report']}",
        ]
    )


COMMAND = Command(
    example="clipvg demo --out runs/demo --seeds 1",
    configure=_configure,
    run=_run,
    describe=_describe,
    kept="finished stages are kept in --out; run the same command again to go on.",
)
