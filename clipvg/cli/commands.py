"""The table of commands, the class `Command`, text tables, and checks of output paths."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from clipvg.cli.parser import CommandParser
from clipvg.errors import InputError, printable
from clipvg.runtime.files import Json, to_json
from clipvg.runtime.gate import check_local

COMMANDS = {
    "demo": "run the whole method offline in minutes, with a report",
    "observe": "let detectors, captioners and CLIP look at images, as input for generate",
    "generate": "make pseudo-labels from what detectors and captioners say about images",
    "train": "train a grounding model on labels",
    "score": "measure the reliability of labels with trained models",
    "adapt": "adapt by self-paced selection (SSA, MSA): train, score, select, train again",
    "evaluate": "measure the accuracy of a model on labels",
    "predict": "find the boxes of expressions in an image",
    "export": "write a checkpoint in another format",
    "reproduce": "make the paper's tables from the data and checkpoints at hand",
    "report": "draw the report page of a run again",
    "labels check": "report what is wrong or odd in label files, and what to do about it",
    "labels convert": "write label files in another format, with chosen rows, in another order",
    "labels merge": "merge label files, keeping exact duplicates once",
    "labels show": "draw a page that shows what is in label files, with samples",
    "info": "show versions, devices and backends, or facts about a checkpoint",
}


@dataclass(frozen=True)
class Command:
    """One command.

    Args:
        example: a command line to copy.
        configure: adds the arguments to the parser.
        run: does the work; its result is plain data, printed as JSON on request.
        describe: returns the result as text for people.
        kept: one sentence on what Ctrl-C leaves behind and how to continue.
        first: arguments that the help lists first, separated by spaces; for commands with many.
        is_shared: whether processes started by `torchrun` share the work and so end together.
        failed: whether a result, which is shown all the same, means that the input is at fault.
    """

    example: str
    configure: Callable[[CommandParser], None]
    run: Callable[[Namespace], Json]
    describe: Callable[[Json], str]
    kept: str = "nothing was written; run the same command again."
    first: str = ""
    is_shared: bool = False
    failed: Callable[[Json], bool] = lambda result: False

    def parse(self, name: str, words: Sequence[str]) -> Namespace:
        """Parse the arguments of the command, called `name`; see `CommandParser.parse_words`."""
        parser = CommandParser(
            prog=f"clipvg {name}",
            description=f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}.",
            example=self.example,
        )
        self.configure(parser)
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.shorten_usage()
        if self.first:
            parser.show_first(self.first.split())
        return parser.parse_words(words)

    def show(self, result: Json, *, as_json: bool) -> None:
        """Print a result, the only thing on standard output."""
        text = json.dumps(to_json(result), allow_nan=False) if as_json else self.describe(result)
        print(*map(printable, text.split("\n")), sep="\n")
        sys.stdout.flush()


def load_command(name: str) -> Command:
    """Return the command called `name` in `COMMANDS`, importing its module.

    The commands of a group, such as "labels show", are the modules of a package.
    """
    return import_module(f"clipvg.cli.{name.replace(' ', '.')}").COMMAND


def pairs(values: Mapping[str, object]) -> str:
    """Return aligned lines "name  value"; "" if there are no values."""
    width = max(map(len, values), default=0)
    return "\n".join(f"{name:{width}}  {printable(str(value))}" for name, value in values.items())


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1) -> str:
    """Return aligned columns: the first `left` of them left-aligned, the others right-aligned."""
    cells = [[printable(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def check_writable(path: Path, endings: Sequence[str] = (), *, reads: Iterable[str] = ()) -> Path:
    """Return the path of a file to write, checked before the work whose result goes there.

    It must have one of the endings ("" stands for none); without `endings` any is accepted. Files
    that the command reads, `reads`, are not overwritten.

    Raises:
        InputError: it has another ending, it is a folder or a file that is read, or its folder
            cannot be created or written to.
    """
    check_local(path)
    for read in reads:
        if path.exists() and os.path.exists(read) and path.samefile(read):
            raise InputError(f"{path} would be written over {read}, which is read; choose another")
    if endings and path.suffix.lower() not in endings:
        raise InputError(
            f"--out {path}: written as {', '.join(filter(None, endings))}; change the ending"
        )
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    there = next(parent for parent in path.absolute().parents if parent.exists())
    if not there.is_dir():
        raise InputError(f"{path}: {there} is a file, not a folder; choose another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{path}: the folder {there} is not writable; choose another place")
    return path
