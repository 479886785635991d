"""`clipvg report`: the page of a run, drawn again."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from clipvg.cli.commands import Command, Result
from clipvg.cli.parser import CommandParser


def _configure(parser: CommandParser) -> None:
    parser.add_argument(
        "run", type=str, metavar="RUN", help="the --out of clipvg train, adapt or demo"
    )


def _run(args: Namespace) -> Result:
    from clipvg.report import draw_report

    return {"run": args.run, "report": str(draw_report(args.run))}


def _describe(result: Mapping[str, Any]) -> str:
    return f"report: {result['report']}"


COMMAND = Command(
    name="report",
    example="clipvg report runs/demo",
    configure=_configure,
    run=_run,
    describe=_describe,
)
