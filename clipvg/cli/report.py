"""`clipvg report`: draw the report page of a run again."""

from __future__ import annotations

from argparse import Namespace

from clipvg.cli.commands import Command
from clipvg.cli.parser import CommandParser
from clipvg.runtime.files import Json


def _configure(parser: CommandParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the --out of clipvg train, adapt or demo")


def _run(args: Namespace) -> Json:
    from clipvg.report.run import draw_report

    return {"run": args.run, "report": str(draw_report(args.run))}


def _describe(result: Json) -> str:
    return f"report: {result['report']}"


COMMAND = Command(
    example="clipvg report runs/demo",
    configure=_configure,
    run=_run,
    describe=_describe,
)
