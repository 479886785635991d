"""`clipvg reproduce`: make the paper's tables from the data and checkpoints at hand."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clipvg.cli.commands import Command, check_writable
from clipvg.cli.options import add_batch_size, add_shared
from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError
from clipvg.report.numbers import Markup
from clipvg.runtime.files import Json
from clipvg.runtime.gate import check_local, read_yaml

if TYPE_CHECKING:
    from clipvg.api import RunOptions

Benchmark = Literal["refcoco", "refcoco+", "refcocog", "referit", "flickr", "ref-l4"]


def _configure(parser: CommandParser) -> None:
    parser.add_argument(
        "benchmark", type=Benchmark, metavar="BENCHMARK",
        help="refcoco, refcoco+, refcocog, referit or flickr: a table of the paper; ref-l4: how "
        "well measures find the labels of RefCOCO/+/g that reviewers call wrong",
    )  # fmt: skip
    parser.add_argument(
        "--data", required=True, metavar="ROOT",
        help="folder of images, label files and checkpoints; docs/reproduce.md says what is in it",
    )  # fmt: skip
    parser.add_argument(
        "--out", required=True, metavar="DIR",
        help="folder for runs and results; an interrupted command continues there",
    )  # fmt: skip
    parser.add_argument(
        "--rows", nargs="+", default=[], metavar="ROW",
        help="rows to make: ssa, no-ssa, msa, no-msa, supervised, which are trained, and "
        "ssa-checkpoint, msa-checkpoint, supervised-checkpoint; by default all that can be made",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint", action="append", default=[], metavar="[NAME=]CKPT",
        help="a model to evaluate beside the published ones; NAME may be that of a row. With "
        "ref-l4, a measurer. Repeat the option for more",
    )  # fmt: skip
    parser.add_argument(
        "--measure", action="append", default=[], metavar="[NAME=]MEASURE[,K=V...]",
        help="with ref-l4: a measure of reliability; by default all that need nothing else",
    )  # fmt: skip
    parser.add_argument(
        "--recipe", metavar="FILE",
        help="YAML file with training options, in their sections, that replace the published ones",
    )  # fmt: skip
    parser.add_argument(
        "--table", type=Markup, default="markdown", metavar="markdown|latex",
        help="how the table is written",
    )  # fmt: skip
    add_shared(parser, "--device")
    add_batch_size(parser, 64)
    parser.add_argument("--num_workers", type=int, default=0, help="threads that decode images")
    add_shared(parser, "--quiet")


def _run(args: Namespace) -> Json:
    check_writable(check_local(args.out) / "results.json")
    checkpoints = _named(args.checkpoint)
    if args.benchmark == "ref-l4":
        return _ref_l4(args, checkpoints)
    if args.measure:
        raise InputError("--measure is for ref-l4; leave it out")
    from clipvg.reproduce.rows import find_row

    for name in args.rows:  # before torch is loaded
        find_row(name)
    recipe = read_yaml(args.recipe, "options of trainings") if args.recipe else {}
    if not isinstance(recipe, dict):
        raise InputError(f"{args.recipe}: holds no options; write sections such as training")
    from clipvg.reproduce.run import ReproduceOptions, reproduce
    from clipvg.reproduce.table import draw_table, other_counts

    options = ReproduceOptions(
        rows=args.rows,
        checkpoints=checkpoints,
        recipe=recipe,
        run=_run_options(args),
        batch_size=args.batch_size,
        num_workers=args.num_workers,
    )
    result = reproduce(args.benchmark, data=args.data, out=args.out, options=options)
    if result["rows"]:
        result |= {"table": draw_table(result, args.table), "notes": other_counts(result)}
    return result


def _ref_l4(args: Namespace, checkpoints: dict[str, Path]) -> Json:
    idle: Json = {"rows": [], "recipe": None, "batch_size": 64, "num_workers": 0}
    for name, usual in idle.items():
        if getattr(args, name) != usual:
            raise InputError(f"--{name} is for the tables of the paper; leave it out with ref-l4")
    from clipvg.reproduce.ref_l4 import reproduce_ref_l4
    from clipvg.reproduce.table import draw_aurocs

    result = reproduce_ref_l4(
        data=args.data,
        out=args.out,
        checkpoints=checkpoints,
        measures=args.measure,
        run=_run_options(args),
    )
    return {**result, "table": draw_aurocs(result, args.table)} if result["rows"] else result


def _run_options(args: Namespace) -> RunOptions:
    from clipvg.api import RunOptions
    from clipvg.runtime.distributed import choose_device

    return RunOptions(
        device=choose_device(args.device),
        progress=not args.quiet,
        command=shlex.join(args.command_line),
    )


def _named(given: Sequence[str]) -> dict[str, Path]:
    """Return checkpoints by name, which is parent-folder/stem by default."""
    found: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.rpartition("=")
        place = check_local(path)
        if not place.exists():
            raise InputError(f"--checkpoint {path}: no such file or folder")
        name = name if equals else f"{place.resolve().parent.name}/{place.stem}"
        if name in found:
            raise InputError(
                f"--checkpoint {path}: {found[name]} is called {name!r} too; write "
                "--checkpoint NAME=CKPT"
            )
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"--checkpoint {text}: {name!r} cannot name a folder of --out")
        found[name] = place
    return found


def _describe(result: Json) -> str:
    lines = [result["table"]] if "table" in result else []
    lines += [f"* {note}" for note in result.get("notes", [])]
    lines += [f"not measured: {name}: {why}" for name, why in result.get("skipped", {}).items()]
    return "\n".join([*lines, *_missing(result["missing"], after=bool(lines))])


def _missing(missing: Json, *, after: bool) -> list[str]:
    """Return lines on missing files: where to get them, for which rows, and where to put them."""
    rows_of: dict[tuple[str, str, str], list[str]] = {}
    for row, lacking in missing.items():
        for each in lacking:
            rows_of.setdefault((each["from"], each["place"], each["what"]), []).append(row)
    files: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (origin, place, what), rows in rows_of.items():
        lines = files.setdefault((origin, tuple(dict.fromkeys(rows))), [])
        lines.append(f"  {place}  ({what})")
    found = [*([""] if after else []), "missing below --data:"] if files else []
    for (origin, names), lines in files.items():
        named = "all rows" if set(names) == set(missing) else ", ".join(names)
        found += [f"for {named}, from {origin}", *lines]
    return found


def _failed(result: Json) -> bool:
    """Return whether no row could be made, or not every requested one."""
    made = {row["row"] for row in result["rows"]}
    return not made or bool(set(result["asked"]) - made)


COMMAND = Command(
    example="clipvg reproduce refcoco --data data --out runs/reproduce --rows ssa msa",
    configure=_configure,
    run=_run,
    is_shared=True,
    describe=_describe,
    failed=_failed,
    kept="finished splits and stages of trainings are kept in --out; run the same command again to "
    "go on.",
)
