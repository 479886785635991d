"""The table of commands, and what one command is made of."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from clipvg.cli.parser import CommandParser

COMMANDS = {
    "demo": "the whole method in minutes, offline, with a report",
    "generate": "pseudo-labels from what detectors and captioners say of images",
    "train": "train a grounding model on labels",
    "score": "measure the reliability of labels with trained models",
    "adapt": "self-paced adapting (SSA, MSA): train, score, select, train again",
    "evaluate": "accuracy of a model on labels",
    "predict": "boxes of expressions in one image",
    "export": "write a checkpoint in another format",
    "report": "draw the report page of a run again",
    "labels show": "a page of what is in label files, with samples to look at",
    "info": "versions, devices and backends, or the facts of a checkpoint",
}

Result = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """One command.

    Args:
        name: as typed.
        example: a command line to copy.
        configure: adds the arguments to the parser.
        run: does the work; its result is plain data, printed as JSON on request.
        describe: the result for people.
        kept: what Ctrl-C leaves behind and how to go on, one sentence.
        first: arguments that the help begins with; for commands with many.
    """

    name: str
    example: str
    configure: Callable[[CommandParser], None]
    run: Callable[[Namespace], Result]
    describe: Callable[[Mapping[str, Any]], str]
    kept: str = "nothing was written; run the same command again."
    first: Sequence[str] = ()

    def parse(self, words: Sequence[str]) -> Namespace:
        """Return the parsed arguments; see `CommandParser.parse_words`."""
        parser = CommandParser(
            prog=f"clipvg {self.name}",
            description=COMMANDS[self.name][0].upper() + COMMANDS[self.name][1:] + ".",
            example=self.example,
        )
        self.configure(parser)
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.shorten_usage()
        if self.first:
            parser.show_first(self.first)
        return parser.parse_words(words)

    def show(self, result: Mapping[str, Any], *, as_json: bool) -> None:
        """Print a result, the only thing on standard output."""
        from clipvg.runtime.files import to_json

        text = json.dumps(to_json(result), allow_nan=False) if as_json else self.describe(result)
        print(text)
        sys.stdout.flush()


def load_command(name: str) -> Command:
    """Return the command of a name in `COMMANDS`; imports its module.

    The commands of a group, such as "labels show", are in one module.
    """
    module, _, action = name.partition(" ")
    return getattr(import_module(f"clipvg.cli.{module}"), (action or "command").upper())
