"""jsonargparse with errors of one line, near matches and a copyable example in the help."""

from __future__ import annotations

import argparse
import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from clipvg.cli.failure import UsageError, find_near, one_line
from clipvg.configs import find_recipe, list_recipes

_LITERAL = re.compile(r"typing\.Literal\[(.*?)\]")
_UNION = re.compile(
    r"Does not validate against any of the Union subtypes Subtypes: \[(.*?)\] Errors: "
    r".*Given value: (.*)"
)
_CLASS = re.compile(r"<class '([\w.]+)'>")


class _HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the example."""


class CommandParser(ArgumentParser):
    """Parser of one command; raises `UsageError` instead of exiting.

    Options may be written with dashes or underscores: ``--batch-size`` is ``--batch_size``, the
    name that Python and YAML use.
    """

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        """See `jsonargparse.ArgumentParser`; `example` ends the help."""
        kwargs.setdefault("formatter_class", _HelpFormatter)
        if example:
            kwargs["epilog"] = f"example:\n  {example}"
        super().__init__(*args, exit_on_error=False, allow_abbrev=False, **kwargs)

    def shorten_usage(self) -> None:
        """Lets the usage line show only what every call needs."""
        words = []
        for action in self._actions:
            name = str(action.metavar)
            if action.option_strings:
                words += [f"{action.option_strings[0]} {name}"] if action.required else []
            else:
                words.append({"+": f"{name} …", "?": f"[{name}]"}.get(str(action.nargs), name))
        self.usage = " ".join(["%(prog)s", *words, "[options]"])

    def parse_words(self, words: Sequence[str]) -> Namespace:
        """Parses the words of a command line; the result also holds them as `command_line`."""
        plain = [_with_underscores(word) for word in words]
        for index, path in _config_files(plain):
            plain[index] = plain[index].replace(path, find_recipe(path))
            self._check_config(find_recipe(path))
        args = Namespace(**vars(self.parse_args(plain)))
        args.command_line = [*(self.prog or "").split(), *words]
        return args

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises `UsageError` with one line."""
        raise UsageError(self._shorten(message)) from ex

    def _names(self) -> list[str]:
        """Names that a YAML file may set."""
        return [
            action.dest
            for action in self._actions
            if action.dest not in {"help", "config", "print_config"}
        ]

    def _check_config(self, path: str) -> None:
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(
                f"--config {path}: {error.strerror}; give a YAML file, or a recipe of the "
                f"package: {', '.join(list_recipes())}"
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: not YAML: {one_line(str(error))}") from error
        if content is not None and not isinstance(content, dict):
            raise UsageError(f"{path}: expected lines of the form 'option: value'")
        unknown = [str(key) for key in content or {} if key not in self._names()]
        if unknown:
            hints = [f"{key!r} {self._hint(key)}".strip() for key in unknown]
            raise UsageError(
                f"{path}: unknown {'key' if len(unknown) == 1 else 'keys'} {', '.join(hints)}; "
                f"{self.prog} --help lists them"
            )

    def _hint(self, name: str, prefix: str = "") -> str:
        options = [text[2:] for action in self._actions for text in action.option_strings]
        known = options if prefix else self._names()
        near = find_near(name.replace("-", "_"), [word for word in known if word])
        return f"({near.replace('did you mean ', 'did you mean ' + prefix)})" if near else ""

    def _shorten(self, message: str) -> str:
        options = {
            action.dest: action.option_strings[0] if action.option_strings else action.dest.upper()
            for action in self._actions
        }
        if match := re.match(r"unrecognized arguments: (.*)", message, re.DOTALL):
            return self._unrecognized(match[1].split())
        if match := re.match(r"the following arguments are required: (.*)", message):
            missing = [options.get(name.strip(), name.strip()) for name in match[1].split(",")]
            return f"missing {', '.join(missing)}; {self.prog} --help shows an example"
        if match := re.match(r'Parser key "(.*?)":\s*(.*)', message, re.DOTALL):
            return f"{options.get(match[1], match[1])}: {_readable(match[2])}"
        return _readable(message)

    def _unrecognized(self, words: Sequence[str]) -> str:
        unknown = [word.partition("=")[0] for word in words if word.startswith("-")]
        if not unknown:
            return f"unexpected {' '.join(words)}; {self.prog} --help shows an example"
        hints = [f"{word} {self._hint(word.lstrip('-'), '--')}".strip() for word in unknown]
        return f"unknown option {', '.join(hints)}; {self.prog} --help lists the options"


def _with_underscores(word: str) -> str:
    name, equals, value = word.partition("=")
    if not name.startswith("--") or len(name) == 2 or any(map(str.isspace, name)):
        return word
    return f"--{name[2:].replace('-', '_')}{equals}{value}"


def _config_files(words: Sequence[str]) -> list[tuple[int, str]]:
    """Where YAML files are named: the index of the word, and the file in it."""
    found = []
    for index, word in enumerate(words):
        if word == "--config" and index + 1 < len(words):
            found.append((index + 1, words[index + 1]))
        elif word.startswith("--config="):
            found.append((index, word.partition("=")[2]))
    return found


def _readable(message: str) -> str:
    text = _LITERAL.sub(lambda match: f"one of {match[1]}", message)
    text = _CLASS.sub(lambda match: match[1].rpartition(".")[2], text)
    if match := _UNION.match(one_line(text)):
        text = (
            f"expected {match[1].replace('NoneType', 'null').replace(', ', ' or ')}, got {match[2]}"
        )
    text = text.replace("Expected a ", "expected ").replace(". Got value: ", ", got ")
    return one_line(text)
