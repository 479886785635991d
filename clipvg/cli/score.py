"""`clipvg score`: a column of reliability for each measurer."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from clipvg.cli.commands import Command, Result
from clipvg.cli.options import add_device, add_labels, add_quiet, read_table
from clipvg.cli.output import check_writable, table
from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError
from clipvg.report.numbers import percent


def _configure(parser: CommandParser) -> None:
    add_labels(parser)
    parser.add_argument(
        "--measurer", action="append", type=str, required=True, metavar="[NAME[@SOURCE]=]CKPT",
        help="a trained model; NAME of its column is by default parent-folder/stem, SOURCE what "
        "it was trained on; repeat the option for several",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=str, required=True, metavar="FILE.parquet",
        help="the labels with a column reliability.NAME for each measurer",
    )  # fmt: skip
    parser.add_argument("--plot", type=str, metavar="PICTURE", help="also draw the histograms")
    parser.add_argument(
        "--unreadable", type=Literal["null", "raise"], default="null",
        help="labels whose picture cannot be read: leave them unscored, or stop",
    )  # fmt: skip
    add_device(parser, batch_size=64)
    add_quiet(parser)


def _run(args: Namespace) -> Result:
    from clipvg.cli.devices import choose_device, load_measurers
    from clipvg.reliability import score_labels
    from clipvg.report.canvas import check_figure_path
    from clipvg.training import distributed

    out = check_writable(_table_path(args.out))
    plot = check_writable(check_figure_path(args.plot)) if args.plot else None
    measurers = load_measurers(args.measurer, args.device)
    labels = read_table(args)
    scores = score_labels(
        labels,
        measurers,
        on_error=args.unreadable,
        batch_size=args.batch_size,
        progress=not args.quiet,
    )
    if distributed.join(choose_device(args.device)).is_main:
        scores.attach(labels).write(out)
        if plot is not None:
            scores.plot(plot)
    return {
        "out": str(out),
        "plot": args.plot,
        "count": len(labels),
        "kept_0.5": scores.count_above(0.5),
        **scores.to_dict(),
    }


def _table_path(name: str) -> Path:
    path = Path(name)
    if path.suffix.lower() not in {".parquet", ".jsonl", ".csv"}:
        raise InputError(
            f"--out {name}: scores are written as .parquet, .jsonl or .csv; change the ending"
        )
    return path


def _describe(result: Mapping[str, Any]) -> str:
    from clipvg.reliability.matrix import REASON

    rows = [
        (measurer, source or "–", *_cell(result["cells"][i][j], result["kept_0.5"][i][j]))
        for i, measurer in enumerate(result["measurers"])
        for j, source in enumerate(result["sources"])
    ]
    text = table(("measurer", "labels of", "scored", "not scored", "mean r", "r ≥ 0.5"), rows)
    if count := result["unscored_labels"]:
        text += f"\nnot scored, with the reason in the column {REASON!r}: {count:,}"
    return f"{text}\nwritten: {result['out']}"


def _cell(cell: Mapping[str, Any], kept: int) -> tuple[str, ...]:
    counts = f"{cell['count']:,}", f"{cell['unscored']:,}"
    if not cell["count"]:
        return *counts, "–", "–"
    return *counts, f"{cell['mean']:.3f}", percent(kept / cell["count"])


COMMAND = Command(
    name="score",
    example="clipvg score unc_train_pseudo.pth --images images/ "
    "--measurer template=runs/template/model --out scored.parquet",
    configure=_configure,
    run=_run,
    describe=_describe,
    kept="what was scored is lost; --out is written at the end. Run the same command again.",
)
